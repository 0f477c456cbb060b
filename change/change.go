package change

import "time"

// Op is what a change did. The zero value is invalid.
type Op uint8

// The operations. OpRead is a row of a snapshot. OpTruncate takes all rows of a table away, or those of the part of it that a
// span holds: Key is where that part begins, and there are no rows.
const (
	OpRead Op = iota + 1
	OpCreate
	OpUpdate
	OpDelete
	OpTruncate
)

// String returns the operation as the json codec writes it.
func (o Op) String() string {
	switch o {
	case OpRead:
		return "read"
	case OpCreate:
		return "create"
	case OpUpdate:
		return "update"
	case OpDelete:
		return "delete"
	case OpTruncate:
		return "truncate"
	default:
		return "invalid"
	}
}

// Change is one change of one row. Its Key is its place in the changefeed's key space; Position and Index order it
// among the changes of its span. The byte slices are read-only and may share memory with the batch they came in.
type Change struct {
	Position   Position
	Index      uint32
	Op         Op
	CommitTime time.Time // zero where the source has none
	Table      string    // empty where the source has none
	Key        []byte
	Before     Row // nil where it is not known
	After      Row // nil for OpDelete and OpTruncate
}

// Moved returns the key that a row had before an update that gave it another one. A source makes a delete and a create of
// such an update, but can't where it does not know the whole row.
func (c *Change) Moved() (from []byte, moved bool) {
	if c.Op != OpUpdate {
		return nil, false
	}
	before, ok := c.Before.(*Tuple)
	if !ok || !before.KeyOnly {
		return nil, false
	}
	start, _ := TableSpan(before.Of.Schema, before.Of.Name)
	return AppendKey(start, before.Of, before.Cells), true
}

// Row is the content of a row, in the source's column order.
type Row interface {
	// Columns yields name and value until yield returns false. Values are []byte, string, int64, uint64, float64,
	// bool or nil.
	Columns(yield func(name string, value any) bool)
	// Size returns about how many bytes the row holds in memory.
	Size() int
}

// KV is the row of a key-value source.
type KV struct {
	Key            []byte
	Value          []byte
	CreateRevision int64
	ModRevision    int64
	Version        int64
	Lease          int64
}

// Columns yields the six columns of an etcd key-value pair.
func (kv *KV) Columns(yield func(name string, value any) bool) {
	_ = yield("key", kv.Key) &&
		yield("value", kv.Value) &&
		yield("create_revision", kv.CreateRevision) &&
		yield("mod_revision", kv.ModRevision) &&
		yield("version", kv.Version) &&
		yield("lease", kv.Lease)
}

// kvOverheadBytes is the memory of a KV beside its key and value.
const kvOverheadBytes = 80

// Size returns about how many bytes the pair holds.
func (kv *KV) Size() int { return len(kv.Key) + len(kv.Value) + kvOverheadBytes }

// changeOverheadBytes is the memory of a Change beside its key and rows.
const changeOverheadBytes = 128

// Size returns about how many bytes the change holds in memory.
func (c *Change) Size() int {
	size := changeOverheadBytes + len(c.Key) + len(c.Table)
	if c.Before != nil {
		size += c.Before.Size()
	}
	if c.After != nil {
		size += c.After.Size()
	}
	return size
}
