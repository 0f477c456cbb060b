// Package shape holds what the HTTP API says, as JSON: the one place where its field names stand, for the server and
// for its client. Epochs, seqs, terms and counts are numbers; positions and revisions are decimal strings; what is
// absent is omitted; readers ignore fields that they do not know.
package shape

import (
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

// Changefeed is a changefeed as people see it: the spec, who owns it, and how far it is.
type Changefeed struct {
	Namespace     string             `json:"namespace"`
	Name          string             `json:"name"`
	UID           changefeed.UID     `json:"uid,omitempty"`
	Source        string             `json:"source,omitempty"` // a password reads xxxxx
	Sink          string             `json:"sink,omitempty"`
	Start         string             `json:"start,omitempty"`
	StartPosition *change.Position   `json:"start_position,omitempty"`
	Options       changefeed.Options `json:"options,omitempty"`
	Desired       changefeed.Desired `json:"desired,omitempty"`
	State         changefeed.State   `json:"state"`
	Reason        changefeed.Reason  `json:"reason,omitempty"` // of the current epoch
	Error         *record.Error      `json:"error,omitempty"`
	Stalled       *record.Stalled    `json:"stalled,omitempty"`
	Epoch         fence.Epoch        `json:"epoch,omitempty"`
	Owner         changefeed.NodeID  `json:"owner,omitempty"`
	OwnerName     string             `json:"owner_name,omitempty"`
	Checkpoint    *change.Position   `json:"checkpoint,omitempty"`
	Resolved      *change.Position   `json:"resolved,omitempty"`
	LagSeconds    *float64           `json:"lag_seconds,omitempty"`
	Spans         int                `json:"spans,omitempty"`
	SyncPoint     *change.Position   `json:"sync_point,omitempty"` // the newest that the sink holds
	Changes       *uint64            `json:"changes,omitempty"`    // written by this owner; absent if it can't be asked
	Bytes         *uint64            `json:"bytes,omitempty"`
	Skips         []record.Skip      `json:"skips,omitempty"` // changes that were left out by hand
	Created       *time.Time         `json:"created,omitempty"`
	Updated       *time.Time         `json:"updated,omitempty"`
	Revision      string             `json:"revision"` // the ETag
}

// ID returns the changefeed's name.
func (c *Changefeed) ID() changefeed.ID { return changefeed.ID{Namespace: c.Namespace, Name: c.Name} }

// Create is what a changefeed is created or updated with.
type Create struct {
	Namespace string             `json:"namespace,omitempty"`
	Name      string             `json:"name"`
	Source    string             `json:"source"`
	Sink      string             `json:"sink"`
	Start     string             `json:"start,omitempty"`
	Options   changefeed.Options `json:"options,omitempty"`
}

// Move asks for another owner: the name or the id of a node.
type Move struct {
	To string `json:"to"`
}

// Split asks for borders between spans.
type Split struct {
	At []changefeed.Key `json:"at"`
}

// Merge asks for the two spans that meet at a key to be one.
type Merge struct {
	At changefeed.Key `json:"at"`
}

// Bump asks for a new epoch; with Above one above it, for all changefeeds from then on.
type Bump struct {
	Above *fence.Epoch `json:"above,omitempty"`
}

// Reset gives a changefeed another start, and with it another uid.
type Reset struct {
	Start string `json:"start"`
}

// Skip leaves out one change that the sink refuses.
type Skip struct {
	Position change.Position `json:"position"`
	Index    uint32          `json:"index"`
}

// LogLevel sets what a node logs.
type LogLevel struct {
	Level string `json:"level"`
}

// List is a page of a list. Next is given to `after` for the following page; absent at the end.
type List[T any] struct {
	Items []T    `json:"items"`
	Next  string `json:"next,omitempty"`
}

// Cluster is the cluster.
type Cluster struct {
	Cluster     string       `json:"cluster"`
	ClusterID   string       `json:"cluster_id"`
	Version     string       `json:"version"`
	Level       int          `json:"level"`
	Coordinator *Coordinator `json:"coordinator,omitempty"`
	Nodes       []Node       `json:"nodes"`
}

// Coordinator is who decides on ownership now.
type Coordinator struct {
	Node changefeed.NodeID `json:"node"`
	Name string            `json:"name"`
	Term int64             `json:"term"`
}

// Node is a node's record and what it does.
type Node struct {
	ID          changefeed.NodeID   `json:"id"`
	Name        string              `json:"name"`
	HTTP        string              `json:"http"`
	Peer        string              `json:"peer"`
	Version     string              `json:"version"`
	Level       int                 `json:"level"`
	Started     time.Time           `json:"started"`
	Liveness    record.Liveness     `json:"liveness"`
	Unreachable []changefeed.NodeID `json:"unreachable"`
	Coordinator bool                `json:"coordinator"`
	Maintainers *int                `json:"maintainers,omitempty"` // absent if the node didn't say
	Dispatchers *int                `json:"dispatchers,omitempty"`
}

// Local is what a node knows of itself alone.
type Local struct {
	Node        changefeed.NodeID `json:"node"`
	Maintainers int               `json:"maintainers"`
	Dispatchers int               `json:"dispatchers"`
	Now         time.Time         `json:"now"`
}

// Progress is how far the owner of a changefeed is. Changes and bytes are what was written under its epoch.
type Progress struct {
	Namespace  string      `json:"namespace"`
	Name       string      `json:"name"`
	Epoch      fence.Epoch `json:"epoch"`
	LagSeconds *float64    `json:"lag_seconds,omitempty"`
	Changes    uint64      `json:"changes"`
	Bytes      uint64      `json:"bytes"`
}

// ID returns the changefeed's name.
func (p *Progress) ID() changefeed.ID { return changefeed.ID{Namespace: p.Namespace, Name: p.Name} }

// Event is something that happened: an ownership, a state, a refusal of a fence, or a node's coming and going.
type Event struct {
	At         time.Time         `json:"at"`
	Changefeed string            `json:"changefeed,omitempty"` // namespace/name
	UID        changefeed.UID    `json:"uid,omitempty"`
	Epoch      fence.Epoch       `json:"epoch,omitempty"`
	Node       changefeed.NodeID `json:"node,omitempty"`
	NodeName   string            `json:"node_name,omitempty"`
	Rule       string            `json:"rule,omitempty"` // as in F9
	Offered    fence.Epoch       `json:"offered,omitempty"`
	Held       fence.Epoch       `json:"held,omitempty"`
	From       string            `json:"from,omitempty"` // owner, state, liveness, or who sent what was refused
	To         string            `json:"to,omitempty"`
	Reason     string            `json:"reason,omitempty"`
}

// Finding is something inconsistent that a check found.
type Finding struct {
	Code    string `json:"code"`
	Subject string `json:"subject"` // a changefeed, a node's name, or a key
	Detail  string `json:"detail"`
	Cure    string `json:"cure"`
}

// Difference is a row that the target does not have as the source has it.
type Difference struct {
	Kind    string         `json:"kind"` // missing, extra (the source has none), different
	Table   string         `json:"table,omitempty"`
	Key     changefeed.Key `json:"key"`
	Columns []string       `json:"columns,omitempty"` // that differ
}

// Unsettled is a row of which a comparison could not tell.
type Unsettled struct {
	Table string         `json:"table,omitempty"`
	Key   changefeed.Key `json:"key"`
	Why   string         `json:"why"`
}

// NotCompared is a table of which nothing is told, or columns of one.
type NotCompared struct {
	Table   string   `json:"table"`
	Columns []string `json:"columns,omitempty"` // empty: all of it
	Why     string   `json:"why"`
}

// VerifyProgress is how far a comparison is.
type VerifyProgress struct {
	Rows       int64       `json:"rows"`
	Total      int64       `json:"total,omitempty"` // about
	Pending    int         `json:"pending"`         // rows that are looked at again
	Difference *Difference `json:"-"`               // sent as an event of its own
}

// Verified is what a comparison of a target with its source found.
type Verified struct {
	Namespace      string           `json:"namespace"`
	Name           string           `json:"name"`
	UID            changefeed.UID   `json:"uid"`
	Started        time.Time        `json:"started"`
	Ended          time.Time        `json:"ended"`
	Rows           int64            `json:"rows"`
	From           change.Position  `json:"from"`                 // each row was compared as the source had it here or later
	To             change.Position  `json:"to"`                   // and not later than here
	SyncPoint      *change.Position `json:"sync_point,omitempty"` // the newest, if it lies between
	Differences    []Difference     `json:"differences"`
	Limited        bool             `json:"limited,omitempty"` // there are more, and the rest was not compared
	Unsettled      []Unsettled      `json:"unsettled,omitempty"`
	UnsettledCount int              `json:"unsettled_count,omitempty"`
	NotCompared    []NotCompared    `json:"not_compared,omitempty"`
}

// Span is one span of a changefeed's cover.
type Span struct {
	Start      changefeed.Key    `json:"start"`
	End        changefeed.Key    `json:"end"` // empty: the end of the key space
	Node       changefeed.NodeID `json:"node,omitempty"`
	NodeName   string            `json:"node_name,omitempty"`
	Epoch      fence.Epoch       `json:"epoch,omitempty"`
	Seq        fence.Seq         `json:"seq,omitempty"`
	State      string            `json:"state"`
	Checkpoint *change.Position  `json:"checkpoint,omitempty"`
	Resolved   *change.Position  `json:"resolved,omitempty"`
	LagSeconds *float64          `json:"lag_seconds,omitempty"`
	// How far a snapshot is that is being read; absent when none is. The total is an estimate.
	SnapshotRows  int64 `json:"snapshot_rows,omitempty"`
	SnapshotTotal int64 `json:"snapshot_total,omitempty"`
	// Rate is how many changes a second were written lately; absent while there are none.
	Rate uint32 `json:"rate,omitempty"`
}

// Ownership is one epoch of a changefeed. The current one has no Until.
type Ownership struct {
	UID             changefeed.UID    `json:"uid"`
	Epoch           fence.Epoch       `json:"epoch"`
	Owner           changefeed.NodeID `json:"owner"`
	OwnerName       string            `json:"owner_name"`
	Term            int64             `json:"term"`
	Reason          changefeed.Reason `json:"reason"`
	From            time.Time         `json:"from"`
	Until           *time.Time        `json:"until,omitempty"`
	FinalCheckpoint *change.Position  `json:"final_checkpoint,omitempty"`
	Ended           string            `json:"ended,omitempty"`
	Unanswered      bool              `json:"unanswered,omitempty"` // asked to release, and did not in time
}

// Session is what a caller may do: Role is admin, viewer, or empty for a stranger. Open says that no tokens are asked for.
type Session struct {
	Role string `json:"role,omitempty"`
	Open bool   `json:"open,omitempty"`
}

// Login begins a browser's session.
type Login struct {
	Token string `json:"token"`
}

// Problem says what was refused or failed: application/problem+json.
type Problem struct {
	Type   string          `json:"type"`
	Title  string          `json:"title"`
	Status int             `json:"status"`
	Code   changefeed.Code `json:"code"`
	Detail string          `json:"detail"`
	Field  string          `json:"field,omitempty"`
	Value  string          `json:"value,omitempty"`
	Cure   string          `json:"cure,omitempty"`
}

// Head is where a source is now.
type Head struct {
	Head change.Position `json:"head"`
}

// Health is the answer of /healthz and /readyz.
type Health struct {
	Status string `json:"status"` // ok, or unavailable
	Reason string `json:"reason,omitempty"`
}
