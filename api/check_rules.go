package api

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/fence"
	"fencerow/record"
)

// facts are what was read at one moment. The rules below are pure.
type facts struct {
	meta     *record.Meta
	nodes    []record.Node // by name
	names    map[string]record.Name
	leaders  int
	feeds    map[changefeed.ID]*feedFacts
	evicted  map[changefeed.UID][]changefeed.NodeID
	broken   []brokenRecord
	answers  []nodeAnswer // of nodes, in their order
	holdings map[changefeed.ID]sinkAnswer
}

type feedFacts struct {
	spec    *record.Spec
	epoch   *record.Epoch
	status  *record.Status
	handoff *record.Handoff
}

type brokenRecord struct{ key, fault string }

type nodeAnswer struct {
	err   error
	off   time.Duration // its clock against ours
	slack time.Duration // how far off by the way there and back
}

type sinkAnswer struct {
	holding Holding
	err     error
}

// newFacts takes the records apart.
func newFacts(keys record.Keys, stored []RawRecord) facts {
	out := facts{
		names: map[string]record.Name{}, feeds: map[changefeed.ID]*feedFacts{}, evicted: map[changefeed.UID][]changefeed.NodeID{},
	}
	for _, raw := range stored {
		ref, decoded, err := keys.Decode(raw.Key, raw.Value)
		if err != nil {
			out.broken = append(out.broken, brokenRecord{key: raw.Key, fault: changefeed.AsFault(err, "").Detail})
			continue
		}
		out.take(ref, decoded)
	}
	slices.SortFunc(out.nodes, func(a, b record.Node) int { return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.ID, b.ID)) })
	return out
}

func (f *facts) take(ref record.Ref, decoded record.Record) {
	switch r := decoded.(type) {
	case *record.Meta:
		f.meta = r
	case *record.Node:
		f.nodes = append(f.nodes, *r)
	case *record.Name:
		f.names[ref.Name] = *r
	case *record.Candidate:
		f.leaders++
	case *record.Spec:
		f.feed(ref.ID).spec = r
	case *record.Epoch:
		f.feed(ref.ID).epoch = r
	case *record.Status:
		f.feed(ref.ID).status = r
	case *record.Handoff:
		f.feed(ref.ID).handoff = r
	case *record.Eviction:
		f.evicted[ref.UID] = append(f.evicted[ref.UID], ref.Node)
	}
}

func (f *facts) feed(id changefeed.ID) *feedFacts {
	if f.feeds[id] == nil {
		f.feeds[id] = &feedFacts{}
	}
	return f.feeds[id]
}

func (f *facts) node(id changefeed.NodeID) bool {
	return slices.ContainsFunc(f.nodes, func(node record.Node) bool { return node.ID == id })
}

// sorted returns the changefeeds in order.
func (f *facts) sorted() []changefeed.ID {
	return slices.SortedFunc(maps.Keys(f.feeds), changefeed.ID.Compare)
}

// report collects findings.
type report struct {
	found []shape.Finding
	above fence.Epoch // the highest that any sink has seen: a floor is for all changefeeds
}

func (r *report) add(code, subject, detail, cure string) {
	r.found = append(r.found, shape.Finding{Code: code, Subject: subject, Detail: detail, Cure: cure})
}

// findings says what is inconsistent. before was read ahead of the sinks, which it holds, and after behind them: epochs
// and checkpoints only grow, so that nothing is found that is only a matter of who was read first.
func findings(before, after facts) []shape.Finding {
	r := &report{found: []shape.Finding{}, above: highest(before.holdings)}
	r.records(after)
	r.nodes(after)
	for _, id := range after.sorted() {
		feed := after.feeds[id]
		r.feed(after, id, feed)
		answer, asked := before.holdings[id]
		if was := before.feeds[id]; asked && feed.spec != nil && was.spec.UID == feed.spec.UID &&
			feed.spec.Desired != changefeed.DesiredRemoved {
			r.sink(id, was, feed, answer)
			r.redo(id, was, feed, answer.holding.Redo)
		}
	}
	r.claims(before, after)
	return r.found
}

func highest(answers map[changefeed.ID]sinkAnswer) fence.Epoch {
	var out fence.Epoch
	raise := func(seen fence.Epoch) {
		if out.OlderThan(seen) {
			out = seen
		}
	}
	for _, answer := range answers {
		raise(answer.holding.Highest)
		if redo := answer.holding.Redo; redo != nil {
			raise(redo.Highest)
		}
		for _, other := range answer.holding.Others {
			raise(other.Floor)
		}
	}
	return out
}

func (r *report) records(f facts) {
	if f.meta == nil {
		r.add("record.orphan", "meta", "is missing: the cluster has no identity", "restore the records from a backup")
	}
	for _, one := range f.broken {
		r.add(string(changefeed.CodeRecordInvalid), one.key, one.fault, "correct or delete that key with cdc-node etcdctl")
	}
	uids := map[changefeed.UID]bool{}
	for _, id := range f.sorted() {
		feed := f.feeds[id]
		if feed.spec != nil {
			uids[feed.spec.UID] = true
			continue
		}
		for kind, there := range map[string]bool{"epochs/": feed.epoch != nil, "status/": feed.status != nil, "handoffs/": feed.handoff != nil} {
			if there {
				r.add("record.orphan", kind+id.String(), "is of a changefeed that has no spec", "delete that key with cdc-node etcdctl")
			}
		}
	}
	for _, uid := range slices.Sorted(maps.Keys(f.evicted)) {
		if !uids[uid] {
			r.add("record.orphan", "evictions/"+string(uid), "is of a uid that no changefeed has", "delete those keys with cdc-node etcdctl")
		}
	}
}

func (r *report) nodes(f facts) {
	if f.leaders == 0 && len(f.nodes) > 0 {
		r.add("coordinator.none", "coordinator", "nobody decides on ownership", "look at the nodes' logs and at etcd's health")
	}
	for _, name := range slices.Sorted(maps.Keys(f.names)) {
		if !f.node(f.names[name].Node) {
			r.add("record.orphan", "names/"+name, "names a node that has no record", "wait until its lease has ended, or delete that key")
		}
	}
	for i, node := range f.nodes {
		if i > 0 && f.nodes[i-1].Name == node.Name {
			r.add(string(changefeed.CodeNameTaken), node.Name, "is the name of two nodes", "give each its own --name")
		}
		for _, other := range node.Unreachable {
			if f.node(other) {
				r.add("node.unreachable", node.Name, "can't reach node "+string(other)+" over --peer-addr", "look at the network between them, and at --advertise-peer")
			}
		}
		switch answer := f.answers[i]; {
		case answer.err != nil:
			r.add("node.silent", node.Name, "does not answer at "+node.HTTP, nodeSilentCure)
		case answer.off.Abs() > clockOffMax+answer.slack:
			r.add("node.clock", node.Name, fmt.Sprintf("has a clock that is off by %v from the node that was asked", answer.off.Round(100*time.Millisecond)),
				"see that a time service runs on both; decisions don't depend on clocks, times that people read do")
		}
	}
}

// feed is about the records of one changefeed.
func (r *report) feed(f facts, id changefeed.ID, feed *feedFacts) {
	if feed.spec == nil {
		return
	}
	subject := id.String()
	if epoch := feed.epoch; epoch != nil && epoch.UID == feed.spec.UID && epoch.Owner != "" && !f.node(epoch.Owner) {
		r.add("owner.gone", subject, fmt.Sprintf("is owned by node %s (%s), which is gone", epoch.OwnerName, epoch.Owner),
			"see that a node lives that may own it, and that the coordinator's writes succeed (coordinator show)")
	}
	switch status := feed.status; {
	case status == nil:
	case status.UID != feed.spec.UID && (feed.epoch == nil || status.UID != feed.epoch.UID):
		r.add("record.orphan", "status/"+subject, "is of another uid", "delete that key with cdc-node etcdctl")
	case feed.epoch == nil || feed.epoch.Epoch.OlderThan(status.Epoch):
		r.add("status.ahead", subject, fmt.Sprintf("has a status of epoch %d, which its epoch record has not reached", status.Epoch),
			r.bumpCure(id, status.Epoch))
	}
}

func (r *report) bumpCure(id changefeed.ID, above fence.Epoch) string {
	if above.OlderThan(r.above) {
		above = r.above
	}
	return fmt.Sprintf("if etcd was restored from a backup: cdc-node epoch bump %s --above %d", id, above)
}

// sink is about what the sink of one changefeed keeps.
func (r *report) sink(id changefeed.ID, before, after *feedFacts, answer sinkAnswer) {
	subject, held := id.String(), answer.holding
	checkpoint := change.Position(0)
	if before.status != nil && before.status.UID == before.spec.UID {
		checkpoint = before.status.Checkpoint
	}
	switch {
	case answer.err != nil:
		r.add(string(changefeed.CodeSinkUnreachable), subject, "has a sink that can't be read from this node: "+endpoint.Redact(answer.err.Error()),
			"see that the sink answers, and that its secrets are on this node too")
		return
	case !held.Kept:
		return
	case !held.Exists && checkpoint > 0:
		r.add(string(changefeed.CodeSinkLost), subject, fmt.Sprintf("has checkpoint %s, and its sink knows nothing of it", checkpoint),
			"bring the sink back, or reset the changefeed")
		return
	case !held.Exists:
		return
	case held.ID != id || held.UID != after.spec.UID && (after.epoch == nil || !held.Floor.OlderThan(after.epoch.Epoch)):
		r.add(string(changefeed.CodeSinkInUse), subject, fmt.Sprintf("writes to a sink that belongs to changefeed %s, uid %s", held.ID, held.UID),
			"choose another sink, or remove that changefeed")
		return
	case held.UID != after.spec.UID:
		return // of the creation before, until this one's owner raises the floor
	case held.Removed:
		r.add(string(changefeed.CodeSinkLost), subject, "was removed from its sink for good", "remove it, and create it anew")
	}
	r.epochs(id, after, held)
	r.marks(subject, checkpoint, after, held)
}

// redo is about what the redo log keeps: the same as a sink, said of the log.
func (r *report) redo(id changefeed.ID, before, after *feedFacts, held *RedoHolding) {
	if held == nil {
		return
	}
	of := &report{above: r.above}
	of.sink(id, before, after, sinkAnswer{holding: held.Holding, err: held.Err})
	words := strings.NewReplacer("its sink", "its redo log", "a sink", "a redo log")
	for _, found := range of.found {
		r.add(found.Code, found.Subject+" (redo log)", words.Replace(found.Detail), words.Replace(found.Cure))
	}
}

// epochs holds the epoch of the records against what the sink has seen.
func (r *report) epochs(id changefeed.ID, after *feedFacts, held Holding) {
	current, allowed := fence.Epoch(0), held.Highest
	if after.epoch != nil {
		current = after.epoch.Epoch
	}
	if current.OlderThan(allowed) && !pausing(after, held) {
		r.add(string(changefeed.CodeEpochBehindSink), id.String(),
			fmt.Sprintf("is at epoch %d, and its sink has seen %d: the records went back", current, held.Highest), r.bumpCure(id, held.Highest))
	}
}

// pausing reports whether the floor is one above the epoch, as it is between the end of an owner and the bump that says
// that there is none.
func pausing(after *feedFacts, held Holding) bool {
	return after.epoch != nil && after.spec.Desired != changefeed.DesiredRunning && fence.Next(after.epoch.Epoch, 0, 0).Compare(held.Highest) == 0
}

// marks holds the checkpoint against how far the sink is.
func (r *report) marks(subject string, checkpoint change.Position, after *feedFacts, held Holding) {
	if !held.Marked {
		return
	}
	if held.Mark < checkpoint {
		r.add(string(changefeed.CodeSinkBehind), subject, fmt.Sprintf("has checkpoint %s, and its sink is at %s", checkpoint, held.Mark),
			"the sink was restored from a backup: bring it back, or reset the changefeed")
		return
	}
	status := after.status
	if status == nil || status.UID != after.spec.UID || status.Checkpoint >= held.Mark {
		return
	}
	if status.State == changefeed.StateRunning || status.State == changefeed.StateReleased {
		r.add("checkpoint.behind_sink", subject, fmt.Sprintf("has checkpoint %s, and its sink was at %s before that was read", status.Checkpoint, held.Mark),
			"if etcd was restored from a backup, nothing is lost: it goes on from where the sink is")
	}
}

// claims names what sinks hold for changefeeds of this cluster that do not exist.
func (r *report) claims(before, after facts) {
	orphans := map[string]changefeed.ID{}
	for _, id := range slices.SortedFunc(maps.Keys(before.holdings), changefeed.ID.Compare) {
		for _, other := range before.holdings[id].holding.Others {
			feed := after.feeds[other.ID]
			if feed == nil || feed.spec == nil {
				orphans[fmt.Sprintf("%s, uid %s", other.ID, other.UID)] = id
			}
		}
	}
	for _, orphan := range slices.Sorted(maps.Keys(orphans)) {
		r.add("sink.orphan_claim", orphan, fmt.Sprintf("has claims in the target of %s, and no records under this --cluster", orphans[orphan]),
			"it was removed with --force, or created after the backup that was restored: create it under the same name and sink, then remove it")
	}
}
