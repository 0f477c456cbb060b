package record

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"fencerow/changefeed"
	"fencerow/fence"
)

// Kind names what a key holds. The zero value is none.
type Kind uint8

// The kinds of records.
const (
	KindMeta Kind = iota + 1
	KindNode
	KindName
	KindDrain
	KindCandidate
	KindSpec
	KindEpoch
	KindHandoff
	KindStatus
	KindHistory
	KindEviction
)

var kindFolders = [...]string{ //nolint:gochecknoglobals // read only
	KindMeta: "meta", KindNode: "nodes", KindName: "names", KindDrain: "drains", KindCandidate: "coordinator",
	KindSpec: "specs", KindEpoch: "epochs", KindHandoff: "handoffs", KindStatus: "status", KindHistory: "history",
	KindEviction: "evictions",
}

// String returns the kind's folder under the cluster's prefix.
func (k Kind) String() string {
	if int(k) < len(kindFolders) && kindFolders[k] != "" {
		return kindFolders[k]
	}
	return "unknown"
}

// KeysPrefix is what the keys of every cluster begin with. A source that lies in it is refused.
const KeysPrefix = "/cdc/"

// epochDigits is the width of an epoch in a history key, so that keys sort by epoch: the digits of 2^64.
const epochDigits = 20

// leaseDigitsMax bounds the lease in an election key.
const leaseDigitsMax = 16

// Keys makes and parses the keys of one cluster. The zero value is invalid: use [NewKeys].
type Keys struct{ prefix string }

// NewKeys returns the keys of the cluster of that name.
func NewKeys(cluster string) (Keys, error) {
	if err := (changefeed.ID{Namespace: changefeed.DefaultNamespace, Name: cluster}).Validate(); err != nil {
		fault := changefeed.AsFault(err, changefeed.CodeRequestInvalid)
		fault.Field = "cluster"
		return Keys{}, fault
	}
	return Keys{prefix: KeysPrefix + cluster + "/"}, nil
}

// Prefix returns what all keys of the cluster begin with.
func (k Keys) Prefix() string { return k.prefix }

// Of returns what all keys of one kind begin with; for [KindMeta] it is the key itself.
func (k Keys) Of(kind Kind) string {
	if kind == KindMeta {
		return k.Meta()
	}
	return k.prefix + kind.String() + "/"
}

// Meta returns the key of the cluster's own record.
func (k Keys) Meta() string { return k.prefix + KindMeta.String() }

// Node returns the key of a node's record.
func (k Keys) Node(id changefeed.NodeID) string { return k.Of(KindNode) + string(id) }

// Name returns the key that reserves a node's name.
func (k Keys) Name(name string) string { return k.Of(KindName) + name }

// Drain returns the key that says that the node of that name is to be emptied.
func (k Keys) Drain(name string) string { return k.Of(KindDrain) + name }

// Candidate returns the election key of the node that holds the lease.
func (k Keys) Candidate(lease int64) string {
	return k.Of(KindCandidate) + strconv.FormatUint(uint64(lease), 16)
}

// Spec returns the key of what users want of a changefeed.
func (k Keys) Spec(id changefeed.ID) string { return k.Of(KindSpec) + id.String() }

// Epoch returns the key of a changefeed's ownership.
func (k Keys) Epoch(id changefeed.ID) string { return k.Of(KindEpoch) + id.String() }

// Handoff returns the key that asks a changefeed's owner to release.
func (k Keys) Handoff(id changefeed.ID) string { return k.Of(KindHandoff) + id.String() }

// Status returns the key of what a changefeed's owner says.
func (k Keys) Status(id changefeed.ID) string { return k.Of(KindStatus) + id.String() }

// History returns the key of an ownership that ended.
func (k Keys) History(id changefeed.ID, epoch fence.Epoch) string {
	return fmt.Sprintf("%s%0*d", k.HistoryOf(id), epochDigits, uint64(epoch))
}

// HistoryOf returns what the keys of a changefeed's ended ownerships begin with. They sort by epoch.
func (k Keys) HistoryOf(id changefeed.ID) string { return k.Of(KindHistory) + id.String() + "/" }

// Eviction returns the key of an eviction of a changefeed's dispatchers from a node.
func (k Keys) Eviction(uid changefeed.UID, node changefeed.NodeID) string {
	return k.EvictionsOf(uid) + string(node)
}

// EvictionsOf returns what the keys of all evictions of a changefeed begin with.
func (k Keys) EvictionsOf(uid changefeed.UID) string { return k.Of(KindEviction) + string(uid) + "/" }

// Ref is what a key says. Only the fields of its Kind are set.
type Ref struct {
	Kind  Kind
	ID    changefeed.ID     // spec, epoch, handoff, status, history
	Epoch fence.Epoch       // history
	UID   changefeed.UID    // eviction
	Node  changefeed.NodeID // node, eviction
	Name  string            // name, drain
	Lease int64             // candidate
}

// Parse reads a key. The error is a [*changefeed.Fault] with code record.invalid.
func (k Keys) Parse(key string) (Ref, error) {
	rest, found := strings.CutPrefix(key, k.prefix)
	if !found || k.prefix == "" {
		return Ref{}, invalid(key, "lies outside "+k.prefix)
	}
	if rest == KindMeta.String() {
		return Ref{Kind: KindMeta}, nil
	}
	folder, rest, _ := strings.Cut(rest, "/")
	for kind := KindNode; int(kind) < len(kindFolders); kind++ {
		if kindFolders[kind] == folder {
			return kind.parse(key, rest)
		}
	}
	return Ref{}, invalid(key, "is of a kind that this version does not know")
}

func (k Kind) parse(key, rest string) (Ref, error) {
	parts := strings.Split(rest, "/")
	wanted := 1
	switch k {
	case KindSpec, KindEpoch, KindHandoff, KindStatus, KindEviction:
		wanted = 2
	case KindHistory:
		wanted = 3
	case KindMeta, KindNode, KindName, KindDrain, KindCandidate:
	}
	if len(parts) != wanted {
		return Ref{}, invalid(key, fmt.Sprintf("has %d parts after %s, not %d", len(parts), k, wanted))
	}
	if slices.Contains(parts, "") {
		return Ref{}, invalid(key, "has an empty part")
	}
	return k.ref(key, parts)
}

func (k Kind) ref(key string, parts []string) (Ref, error) {
	ref := Ref{Kind: k}
	switch k {
	case KindNode:
		ref.Node = changefeed.NodeID(parts[0])
	case KindName, KindDrain:
		ref.Name = parts[0]
	case KindCandidate:
		lease, err := strconv.ParseUint(parts[0], 16, 64)
		if err != nil || len(parts[0]) > leaseDigitsMax || strconv.FormatUint(lease, 16) != parts[0] {
			return Ref{}, invalid(key, "does not end in a lease")
		}
		ref.Lease = int64(lease)
	case KindEviction:
		ref.UID, ref.Node = changefeed.UID(parts[0]), changefeed.NodeID(parts[1])
	case KindHistory:
		epoch, err := strconv.ParseUint(parts[2], 10, 64)
		if err != nil || len(parts[2]) != epochDigits || epoch > NumberMax {
			return Ref{}, invalid(key, fmt.Sprintf("does not end in an epoch of %d digits", epochDigits))
		}
		ref.ID, ref.Epoch = changefeed.ID{Namespace: parts[0], Name: parts[1]}, fence.Epoch(epoch)
	case KindSpec, KindEpoch, KindHandoff, KindStatus:
		ref.ID = changefeed.ID{Namespace: parts[0], Name: parts[1]}
	case KindMeta:
	}
	return ref, nil
}

// invalid is the fault of a key or of the record under it.
func invalid(key, detail string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRecordInvalid, Field: fmt.Sprintf("%.300q", key), Detail: detail,
		Cure: "correct or delete the key with etcdctl", Permanent: true,
	}
}
