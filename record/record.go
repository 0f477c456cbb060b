// Package record holds the values that are stored in etcd, with the JSON that people and scripts read, and their keys.
// Records are the authority on who owns what. The package decodes, encodes and validates; it reads and writes nothing
// (that is epochstore).
package record

import (
	"encoding/json"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
)

// Feature levels of a cluster, in [Meta]. A new cluster starts at [LevelCurrent], that of the binary which makes it.
const (
	LevelBeforeEpochs = 0 // being upgraded from a version without epochs
	LevelEpochs       = 1
	FormatCurrent     = 1
)

// Extra keeps the fields of a stored record that this version does not know, so that writing the record again does
// not lose them.
type Extra map[string]json.RawMessage

// Meta is the record `meta`: one for the cluster.
type Meta struct {
	Format     int         `json:"format"`
	Level      int         `json:"level"`
	ClusterID  string      `json:"cluster_id"`
	EpochFloor fence.Epoch `json:"epoch_floor"`
	Created    time.Time   `json:"created"`
	Extra      Extra       `json:"-"`
}

// Liveness is what a node says of itself.
type Liveness string

// The values of liveness.
const (
	Alive    Liveness = "alive"
	Draining Liveness = "draining"
	Stopping Liveness = "stopping"
)

// Node is the record `nodes/<node-id>`, under the node's lease.
type Node struct {
	ID          changefeed.NodeID   `json:"id"`
	Name        string              `json:"name"`
	HTTP        string              `json:"http"`
	Peer        string              `json:"peer"`
	Version     string              `json:"version"`
	Level       int                 `json:"level"`
	Started     time.Time           `json:"started"`
	Liveness    Liveness            `json:"liveness"`
	Unreachable []changefeed.NodeID `json:"unreachable"`
	Extra       Extra               `json:"-"`
}

// Name is the record `names/<name>`, under the node's lease.
type Name struct {
	Node  changefeed.NodeID `json:"node"`
	Extra Extra             `json:"-"`
}

// Drain is the record `drains/<name>`: the node of that name is to be emptied, until undrain, over restarts.
type Drain struct {
	At    time.Time `json:"at"`
	By    string    `json:"by"`
	Extra Extra     `json:"-"`
}

// Spec is the record `specs/<namespace>/<name>`: what users want.
type Spec struct {
	UID       changefeed.UID `json:"uid"`
	Namespace string         `json:"namespace"`
	Name      string         `json:"name"`
	Source    string         `json:"source"` // URI; credentials are references
	Sink      string         `json:"sink"`
	Start     string         `json:"start"` // now, snapshot, or a position
	// StartPosition is what `now` became, or the position itself; absent until resolved, and for a snapshot.
	StartPosition *change.Position   `json:"start_position,omitempty"`
	Options       changefeed.Options `json:"options"`
	Desired       changefeed.Desired `json:"desired"`
	Created       time.Time          `json:"created"`
	Updated       time.Time          `json:"updated"`
	Move          *Move              `json:"move,omitempty"`
	// Bump is the id of a bump that was asked for by hand, new at every request. Like Move it is obeyed once, by the
	// first epoch whose spec revision is this record's; every other write of the spec drops both.
	Bump string `json:"bump,omitempty"`
	// Skips are changes that users have left out, in the order in which they did; at most SkipsMax.
	Skips []Skip `json:"skips,omitempty"`
	Extra Extra  `json:"-"`
}

// SkipsMax bounds the changes of one changefeed that are left out: each is compared with every change that is read.
const SkipsMax = 100

// Skip is a change that is left out because the sink refuses it.
type Skip struct {
	Position change.Position `json:"position"`
	Index    uint32          `json:"index"`
	At       time.Time       `json:"at"`
	By       string          `json:"by"`
}

// Move is a move of the maintainer that was asked for.
type Move struct {
	To changefeed.NodeID `json:"to"`
	ID string            `json:"id"` // new at every request, so that one request is obeyed once
}

// ID returns the changefeed's name.
func (s *Spec) ID() changefeed.ID { return changefeed.ID{Namespace: s.Namespace, Name: s.Name} }

// Values of Spec.Start beside a decimal position.
const (
	StartNow      = "now"
	StartSnapshot = "snapshot"
)

// Epoch is the record `epochs/<namespace>/<name>`: one ownership. It is written once per epoch and never touched again,
// so that its mod revision is the ownership.
type Epoch struct {
	UID          changefeed.UID    `json:"uid"`
	Epoch        fence.Epoch       `json:"epoch"` // 0 only where a version without epochs has left it
	Owner        changefeed.NodeID `json:"owner"` // "" if nobody owns it
	OwnerName    string            `json:"owner_name"`
	Term         int64             `json:"term"` // create revision of the coordinator's election key
	SpecRevision int64             `json:"spec_revision,string"`
	Reason       changefeed.Reason `json:"reason"`
	Nonce        string            `json:"nonce"`
	At           time.Time         `json:"at"`
	Extra        Extra             `json:"-"`
}

// Claimant returns the record as a gate sees it.
func (e *Epoch) Claimant() fence.Claimant {
	return fence.Claimant{UID: string(e.UID), Epoch: e.Epoch, Owner: string(e.Owner)}
}

// Handoff is the record `handoffs/<namespace>/<name>`: the owner of that epoch is asked to release.
type Handoff struct {
	UID    changefeed.UID    `json:"uid"`
	Epoch  fence.Epoch       `json:"epoch"`
	To     changefeed.NodeID `json:"to"`
	ToName string            `json:"to_name"`
	Reason changefeed.Reason `json:"reason"`
	At     time.Time         `json:"at"`
	Extra  Extra             `json:"-"`
}

// Status is the record `status/<namespace>/<name>`, written by the owner's node.
type Status struct {
	UID        changefeed.UID   `json:"uid"`
	Epoch      fence.Epoch      `json:"epoch"`
	State      changefeed.State `json:"state"`
	Checkpoint change.Position  `json:"checkpoint"`
	Resolved   change.Position  `json:"resolved"`
	SourceID   string           `json:"source_id"`
	// StartPosition is what `now` became, when the maintainer resolved it; absent otherwise.
	StartPosition *change.Position `json:"start_position,omitempty"`
	Spans         int              `json:"spans"`
	Stalled       *Stalled         `json:"stalled,omitempty"`
	Error         *Error           `json:"error,omitempty"`
	// SyncPoint is the newest that the sink held when it was asked last, for people; absent where there is none.
	SyncPoint change.Position `json:"sync_point,omitempty"`
	// ReleasedFor says in the state released what the owner has done before: paused, so the sink refuses its epoch; removed, so
	// neither sink nor source keep anything; running, so neither. Absent from versions that did not say so.
	ReleasedFor changefeed.Desired `json:"released_for,omitempty"`
	At          time.Time          `json:"at"`
	Extra       Extra              `json:"-"`
}

// Stalled says why the checkpoint stands still.
type Stalled struct {
	Reason string            `json:"reason"`
	Node   changefeed.NodeID `json:"node"`
	Start  changefeed.Key    `json:"start"`
	End    changefeed.Key    `json:"end"`
	Since  time.Time         `json:"since"`
}

// Error is the last error of a changefeed. It stays until there is progress.
type Error struct {
	Code    changefeed.Code `json:"code"`
	Message string          `json:"message"`
	Since   time.Time       `json:"since"`
	// NextTry is absent when time cannot heal the error. Readers wait for NextTry − At of the status, on their own
	// clock.
	NextTry *time.Time `json:"next_try,omitempty"`
	// Tries counts the failures in a row, so that the next owner goes on with the delay that the last one had reached.
	Tries int `json:"tries,omitempty"`
}

// History is the record `history/<namespace>/<name>/<epoch>`: an ownership that ended.
type History struct {
	Epoch
	Until           time.Time       `json:"until"`
	FinalCheckpoint change.Position `json:"final_checkpoint"`
	Ended           string          `json:"ended"` // the reason of the bump that ended it
	// Unanswered says that the owner was asked to release and did not in time, so that it was bumped over.
	Unanswered bool `json:"unanswered,omitempty"`
}

// Eviction is the record `evictions/<uid>/<node-id>`: every token of the changefeed up to (epoch, seq) is void there.
type Eviction struct {
	Epoch          fence.Epoch `json:"epoch"`
	Seq            fence.Seq   `json:"seq"`
	At             time.Time   `json:"at"`
	AcknowledgedAt *time.Time  `json:"acknowledged_at,omitempty"`
	// Finals is how far the dispatchers came that were voided, as far as the node knows, and as far as there is room.
	Finals []Final `json:"finals,omitempty"`
	Extra  Extra   `json:"-"`
}

// Final is how far a dispatcher came that has stopped.
type Final struct {
	Start    changefeed.Key  `json:"start"`
	End      changefeed.Key  `json:"end"`
	Epoch    fence.Epoch     `json:"epoch"` // with Seq its token
	Seq      fence.Seq       `json:"seq"`
	Position change.Position `json:"position"`
	Index    uint32          `json:"index,omitempty"`
}

// Bounds of the finals of one eviction: a span that is left out goes on from an older position.
const (
	FinalsMax         = 1000
	finalKeysBytesMax = 512 << 10
)

// Bounded returns the first finals that one record takes.
func Bounded(finals []Final) []Final {
	size := 0
	for i := range finals {
		size += len(finals[i].Start) + len(finals[i].End)
		if i >= FinalsMax || size > finalKeysBytesMax {
			return finals[:i]
		}
	}
	return finals
}
