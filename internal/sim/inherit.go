package sim

import (
	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/message"
	"fencerow/record"
)

// formerOwner is a node of a version without epochs: it lives until its lease ends, a TTL after the cluster begins, and owns the
// first changefeed meanwhile.
const formerOwner = changefeed.NodeID("former")

// inherit has the cluster be one that is being upgraded from a version without epochs.
func (w *World) inherit() {
	id, keys := w.feedID(0), w.plan.Keys
	lease, err := w.etcd.machine.Grant(w.plan.TTL)
	w.fail(err)
	w.byHand(kv.PutLeased(keys.Node(formerOwner), w.encoded(record.Ref{Kind: record.KindNode, Node: formerOwner}, &record.Node{
		ID: formerOwner, Name: string(formerOwner), HTTP: "-", Peer: "-", Version: "former", Level: record.LevelBeforeEpochs,
		Started: w.wall(), Liveness: record.Alive,
	}), lease.ID))
	w.etcd.committed(actor{})
	spec := record.Spec{
		UID: changefeed.UID(w.word("uid-")), Namespace: id.Namespace, Name: id.Name, Source: "etcd://source/s/", Sink: w.sinkOf(0),
		Start: record.StartSnapshot, Desired: changefeed.DesiredRunning, Created: w.wall(), Updated: w.wall(),
	}
	w.byHand(kv.Put(keys.Spec(id), w.encoded(record.Ref{Kind: record.KindSpec, ID: id}, &spec)))
	w.etcd.committed(actor{})
	left := record.Epoch{
		UID: spec.UID, Owner: formerOwner, OwnerName: string(formerOwner), Term: 1, SpecRevision: w.etcd.machine.Revision(), Reason: changefeed.ReasonCreated,
		Nonce: "former", At: w.wall(),
	}
	w.byHand(kv.Put(keys.Epoch(id), w.encoded(record.Ref{Kind: record.KindEpoch, ID: id}, &left)))
	w.etcd.unseen()
	w.see(LegacyFact{ID: id, Put: &left})
	w.commandAsFormer(message.Envelope{ID: id, UID: spec.UID, From: formerOwner, Body: message.Bootstrap{Spec: spec, SpecRevision: left.SpecRevision}})
}

func (w *World) encoded(ref record.Ref, what record.Record) []byte {
	value, err := record.Encode(ref, what)
	w.fail(err)
	return value
}

// commandAsFormer has the former owner ask everybody for what runs, again and again, also when its time is over.
func (w *World) commandAsFormer(env message.Envelope) {
	if w.now > 2*w.plan.TTL {
		return
	}
	for _, n := range w.nodes {
		if to := n.life; to != nil {
			command := env
			command.To = to.id
			w.after(w.between(w.plan.DelayMin, w.plan.DelayMax), func() { to.receive(command) })
		}
	}
	w.after(w.between(0, w.plan.TTL/4), func() { w.commandAsFormer(env) })
}
