package history

import (
	"bytes"
	"cmp"
	"maps"
	"math"
	"slices"

	"fencerow/kv"
)

// Commit is what one transaction did to a store, as a watch from its beginning saw it.
type Commit struct {
	Revision int64
	Events   []kv.Event
	By       *Call // nil for an operator's, for a lease that ended, and for what no process of the test build sent
	// At is the earliest moment at which it can have happened; Done is a moment by which it had.
	At, Done int64
}

// Commits puts events together that are of one transaction.
func Commits(events []kv.Event) []*Commit {
	byRevision := map[int64]*Commit{}
	for _, event := range events {
		revision := event.Pair.ModRevision
		if byRevision[revision] == nil {
			byRevision[revision] = &Commit{Revision: revision}
		}
		byRevision[revision].Events = append(byRevision[revision].Events, event)
	}
	var out []*Commit
	for _, revision := range slices.Sorted(maps.Keys(byRevision)) {
		out = append(out, byRevision[revision])
	}
	return out
}

// Store is one etcd, or a part of it.
type Store struct {
	Commits []*Commit // in order of their revisions
	Calls   []*Call   // of all processes, that concern this store
}

// Attribute finds out which call each commit is, and when it was.
func (s *Store) Attribute() {
	answered := map[int64][]*Call{} // one that deleted nothing was answered with the revision of another
	var unanswered []*Call
	for _, call := range s.Calls {
		switch {
		case call.Revision > 0 && call.Succeeded && mutates(call.Txn):
			answered[call.Revision] = append(answered[call.Revision], call)
		case call.Revision == 0:
			unanswered = append(unanswered, call)
		}
	}
	earliest := int64(math.MinInt64)
	for _, commit := range s.Commits {
		does := func(c *Call) bool { return matches(c.Txn, commit.Events) }
		if at := slices.IndexFunc(answered[commit.Revision], does); at >= 0 {
			commit.By = answered[commit.Revision][at]
		} else if at := slices.IndexFunc(unanswered, does); at >= 0 {
			commit.By = unanswered[at]
			unanswered = slices.Delete(unanswered, at, at+1)
		}
		if commit.By != nil {
			earliest = max(earliest, commit.By.Invoked)
		}
		commit.At = earliest
	}
	s.seen()
}

// seen notes by when each commit had happened: when somebody was answered who had seen that revision.
func (s *Store) seen() {
	calls := slices.DeleteFunc(slices.Clone(s.Calls), func(c *Call) bool { return c.Revision == 0 })
	slices.SortFunc(calls, func(a, b *Call) int { return cmp.Compare(a.Revision, b.Revision) })
	latest, next := int64(math.MaxInt64), len(calls)-1
	for _, commit := range slices.Backward(s.Commits) {
		for ; next >= 0 && calls[next].Revision >= commit.Revision; next-- {
			latest = min(latest, calls[next].Answered)
		}
		commit.Done = latest
	}
}

func mutates(txn kv.Txn) bool {
	return slices.ContainsFunc(txn.Then, func(op kv.Op) bool { return op.Kind != kv.OpGet })
}

// matches says whether a transaction, when its compares hold, does this: every put of it is there, and nothing else.
func matches(txn kv.Txn, events []kv.Event) bool {
	puts, dels := 0, 0
	for _, event := range events {
		at := slices.IndexFunc(txn.Then, func(op kv.Op) bool {
			switch {
			case event.Deleted:
				return op.Kind == kv.OpDelete && (op.Key == event.Pair.Key || op.End != "" && op.Key <= event.Pair.Key)
			default:
				return op.Kind == kv.OpPut && op.Key == event.Pair.Key && bytes.Equal(op.Value, event.Pair.Value)
			}
		})
		if at < 0 {
			return false
		}
		if event.Deleted {
			dels++
		} else {
			puts++
		}
	}
	wanted := 0
	for _, op := range txn.Then {
		if op.Kind == kv.OpPut {
			wanted++
		}
	}
	return puts == wanted && puts+dels > 0
}

// state is what a store holds as its commits go on.
type state map[string]kv.Pair

func (s state) apply(commit *Commit) {
	for _, event := range commit.Events {
		if event.Deleted {
			s[event.Pair.Key] = kv.Pair{Key: event.Pair.Key}
			continue
		}
		s[event.Pair.Key] = event.Pair
	}
}
