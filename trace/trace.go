// Package trace says what happens to one ownership of a changefeed on its way to work, over all nodes: the bump, the start
// of the maintainer, its bootstrap, the placement, and the first write of each dispatcher. Drivers tell it in finished
// steps; where they go is a matter of package otlp, and nowhere by default.
//
// Every node computes the same trace id from uid and epoch, which name an ownership for good. So no record and no message
// carries anything for a trace, and it holds together when a node of it does not trace.
package trace

import (
	"crypto/sha256"
	"encoding/binary"
	"time"

	"fencerow/changefeed"
	"fencerow/fence"
)

// Kind is a step on the way of an ownership.
type Kind string

// The steps, in their order.
const (
	Bump       Kind = "bump"        // the coordinator's: from the decision to the store's answer. The root of the trace
	Start      Kind = "start"       // the owner's: from seeing the record until an older maintainer has stopped
	Bootstrap  Kind = "bootstrap"   // the owner's: floor, status, and what runs where, until the cover is built
	Place      Kind = "place"       // the owner's: from there until every span runs
	FirstWrite Kind = "first write" // a dispatcher's: from its start until its first batch is durable
)

// Step is one that is over.
type Step struct {
	Kind  Kind
	ID    changefeed.ID
	UID   changefeed.UID
	Epoch fence.Epoch

	From, To time.Time

	Seq    fence.Seq         // of the dispatcher; 0 for others
	Reason changefeed.Reason // of the bump; "" for others
	Owner  string            // name of the owner that the bump chose; "" for others
}

// Recorder takes steps. It never blocks. Nil takes none.
type Recorder func(Step)

// Record hands a step on, if anybody takes it.
func (r Recorder) Record(step Step) {
	if r != nil {
		r(step)
	}
}

// IDs are those of the trace of an ownership, and of its root.
type IDs struct {
	Trace [16]byte
	Root  [8]byte
}

// Of returns the ids of an ownership: the same on every node.
func Of(uid changefeed.UID, epoch fence.Epoch) IDs {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64([]byte("ownership "+string(uid)+" "), uint64(epoch)))
	var ids IDs
	copy(ids.Trace[:], sum[:16])
	copy(ids.Root[:], sum[16:24])
	return ids
}
