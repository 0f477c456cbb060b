package history

import (
	"cmp"
	"slices"

	"fencerow/internal/sim"
	"fencerow/kv"
)

// Attempt is a transaction that a fence refused: somebody acted under what had been replaced.
type Attempt struct {
	Call  *Call
	Fence int    // by the compare that did not hold
	Key   string // that was compared
	// Late says that it was invoked when the commit that replaced the key had certainly happened.
	Late bool
}

// Attempts returns what the store's fences refused, in order of the calls' revisions. Which compare did not hold is told by
// what the store held at the revision of the answer.
func (s *Store) Attempts() []Attempt {
	failed := slices.DeleteFunc(slices.Clone(s.Calls), func(c *Call) bool { return c.Revision == 0 || c.Succeeded || len(c.Txn.If) == 0 })
	slices.SortStableFunc(failed, func(a, b *Call) int { return cmp.Compare(a.Revision, b.Revision) })
	var out []Attempt
	held, last, next := state{}, map[string]*Commit{}, 0
	for _, call := range failed {
		for ; next < len(s.Commits) && s.Commits[next].Revision <= call.Revision; next++ {
			held.apply(s.Commits[next])
			for _, event := range s.Commits[next].Events {
				last[event.Pair.Key] = s.Commits[next]
			}
		}
		for _, compare := range call.Txn.If {
			number := sim.FenceOf(compare.Key, call.Txn)
			if number == 0 || compare.End != "" || holds(compare, held[compare.Key]) {
				continue
			}
			by := last[compare.Key]
			out = append(out, Attempt{Call: call, Fence: number, Key: compare.Key, Late: by != nil && by.Done <= call.Invoked})
		}
	}
	return out
}

func holds(compare kv.Compare, pair kv.Pair) bool {
	var stored int64
	switch compare.Target {
	case kv.ModRevision:
		stored = pair.ModRevision
	case kv.CreateRevision:
		stored = pair.CreateRevision
	case kv.Version, kv.Value: // no fence compares these
		return true
	}
	switch compare.Relation {
	case kv.Equal:
		return stored == compare.Number
	case kv.NotEqual:
		return stored != compare.Number
	case kv.Less:
		return stored < compare.Number
	case kv.Greater:
		return stored > compare.Number
	}
	return true
}
