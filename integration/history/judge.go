package history

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/internal/sim"
	"fencerow/kv"
	"fencerow/message"
	"fencerow/record"
)

// World is all that is known of one cluster's run.
type World struct {
	Keys      record.Keys
	Space     changefeed.Span // what the source holds
	Claims    string          // prefix of the cluster's claims in the target
	Targets   map[changefeed.ID]string
	Prefix    string // of the source's keys
	Records   *Store
	Target    *Store
	Source    []sim.SourceFact
	Values    map[string]change.Position // where in the source a value comes from; each value was written once
	Processes []*Process
	// Landed is what readers of sinks that are not etcd were given at the end, by changefeed.
	Landed map[changefeed.ID][]sim.Written
}

type timed struct {
	at   int64
	rank int // of what stands at the same moment, commits first: who writes down something later has seen them
	tell func() error
}

// Judge lets the simulation's checker judge the run, and returns how many facts it was told.
func (w *World) Judge() (facts int, err error) {
	checker, landed := sim.NewChecker(w.Space), maps.Clone(w.Landed)
	see := func(fact sim.Fact) {
		facts++
		if err == nil {
			err = checker.See(fact)
		}
		if spec, isSpec := fact.(sim.SpecFact); isSpec && spec.Put != nil && len(landed[spec.ID]) > 0 {
			if err == nil {
				err = checker.See(sim.LandFact{UID: spec.Put.UID, Changes: landed[spec.ID]})
			}
			delete(landed, spec.ID)
		}
	}
	for _, fact := range w.Source {
		see(fact)
	}
	for _, one := range w.timeline(see) {
		if failed := one.tell(); failed != nil && err == nil {
			err = failed
		}
		if err != nil {
			return facts, err
		}
	}
	return facts, nil
}

func (w *World) timeline(see func(sim.Fact)) []timed {
	observer := &sim.Observer{
		Keys: w.Keys, Claims: w.Claims, See: see,
		Data: func(id changefeed.ID, key string) (string, bool) {
			rest, found := strings.CutPrefix(key, w.Targets[id])
			return w.Prefix + rest, found && w.Targets[id] != ""
		},
		Position: func(key string, value []byte) (change.Position, error) {
			position, found := w.Values[string(value)]
			if !found {
				return 0, fmt.Errorf("history: the target was given %q for %q, which nobody wrote at the source", value, key)
			}
			return position, nil
		},
	}
	ids, owners := w.identities(), map[string]changefeed.NodeID{}
	var all []timed
	for _, commit := range w.Records.Commits {
		all = append(all, timed{at: commit.At, tell: func() error {
			by := w.author(commit, ids, owners)
			return observer.Records(by, slices.Clone(commit.Events))
		}})
	}
	for _, commit := range w.Target.Commits {
		all = append(all, timed{at: commit.At, tell: func() error {
			txn := kv.Txn{}
			if commit.By != nil {
				txn = commit.By.Txn
			}
			return observer.Target(txn, slices.Clone(commit.Events))
		}})
	}
	all = append(all, w.runs(see)...)
	slices.SortStableFunc(all, func(a, b timed) int { return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.rank, b.rank)) })
	return all
}

// runs are the facts of processes by themselves.
func (w *World) runs(see func(sim.Fact)) []timed {
	var all []timed
	add := func(runs []Run, fact func(run *Run) sim.Fact) {
		for i := range runs {
			all = append(all, timed{at: runs[i].At, rank: 1, tell: func() error {
				see(fact(&runs[i]))
				return nil
			}})
		}
	}
	for _, p := range w.Processes {
		add(p.Places, func(r *Run) sim.Fact {
			return sim.SentFact{Envelope: message.Envelope{
				ID: r.ID(), UID: r.UID, Epoch: r.Epoch, From: r.Node, To: r.To, Body: message.Place{Seq: r.Seq, Span: r.Span()},
			}}
		})
		add(p.Knows, func(r *Run) sim.Fact { return sim.KnownFact{Node: r.Node, ID: r.ID(), UID: r.UID, Epoch: r.Epoch} })
		add(p.Starts, func(r *Run) sim.Fact {
			return sim.StartFact{Node: r.Node, ID: r.ID(), UID: r.UID, Token: token(r), Span: r.Span()}
		})
		add(p.Ends, func(r *Run) sim.Fact { return sim.EndFact{Node: r.Node, UID: r.UID, Token: token(r)} })
	}
	return all
}

func token(r *Run) fence.Token { return fence.Mint(r.Epoch, r.Seq) } //nolint:forbidigo // it was read

// identities says which node ids a process had: those whose records it put.
func (w *World) identities() map[changefeed.NodeID]*Process {
	out := map[changefeed.NodeID]*Process{}
	for _, commit := range w.Records.Commits {
		for _, event := range commit.Events {
			if ref, err := w.Keys.Parse(event.Pair.Key); err == nil && ref.Kind == record.KindNode && !event.Deleted && commit.By != nil {
				out[ref.Node] = commit.By.Process
			}
		}
	}
	return out
}

// author is the node that sent a commit. A process is several nodes, one after another; of those it is the one that owns
// what the commit is about.
func (w *World) author(commit *Commit, ids map[changefeed.NodeID]*Process, owners map[string]changefeed.NodeID) changefeed.NodeID {
	if commit.By == nil {
		return ""
	}
	author := changefeed.NodeID(commit.By.Process.Name)
	for _, event := range commit.Events {
		ref, decoded, err := w.Keys.Decode(event.Pair.Key, event.Pair.Value)
		if err != nil || event.Deleted {
			continue
		}
		candidate := owners[ref.ID.String()]
		switch put := decoded.(type) {
		case *record.Epoch:
			owners[ref.ID.String()], owners[string(put.UID)] = put.Owner, put.Owner
			continue
		case *record.Status:
		case *record.Eviction:
			if candidate = owners[string(ref.UID)]; put.AcknowledgedAt != nil {
				candidate = ref.Node
			}
		default:
			continue
		}
		if ids[candidate] == commit.By.Process {
			author = candidate
		}
	}
	return author
}
