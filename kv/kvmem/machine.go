// Package kvmem is etcd's behaviour in memory. [Machine] is a pure state machine: no goroutine, no lock, no clock but
// the one that its owner turns, so that a simulator of one goroutine can run a cluster on it and replay it exactly.
// [Store] wraps a machine for concurrent use as a kv.Store, and injects what a real etcd does on a bad day: lost
// answers, compaction, fragmented, late and silent watches. Both pass the suite in kvtest, against a real etcd.
package kvmem

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/btree"

	"fencerow/kv"
)

// Refusals of etcd that package kv has no error for. A transaction that returns one was not done.
var (
	ErrDuplicateKey   = errors.New("kvmem: duplicate key given in transaction")
	ErrEmptyKey       = errors.New("kvmem: key is not provided")
	ErrFutureRevision = errors.New("kvmem: required revision is a future revision")
	ErrEmptyRange     = errors.New("kvmem: watched range is empty")
	ErrTTLTooLarge    = errors.New("kvmem: too large lease TTL")
	ErrUnknownValue   = errors.New("kvmem: unknown kind, target or relation")
)

const (
	// leaseTTLMax is etcd's bound, in seconds.
	leaseTTLMax = 9_000_000_000
	// revisionFirst is the revision of an empty store.
	revisionFirst = 1
	btreeDegree   = 16
	// leasesLost is above what was granted after any backup.
	leasesLost = 1 << 20
)

// Machine is the state of one etcd cluster. It is not safe for concurrent use. Byte slices that it returns are shared:
// do not change them.
type Machine struct {
	clusterID uint64
	revision  int64
	compacted int64
	now       time.Duration

	items  *btree.BTreeG[*item]
	log    []kv.Event // history, oldest first
	logged int        // how many events were taken off the front of log

	leases    map[kv.LeaseID]*lease
	lastLease kv.LeaseID

	cursors []*Cursor // in order of creation
}

// item is one key with its history. A tombstone has version 0.
type item struct {
	key      string
	versions []kv.Pair // by mod revision
}

func (i *item) at(revision int64) (kv.Pair, bool) {
	n, found := slices.BinarySearchFunc(i.versions, revision, func(p kv.Pair, r int64) int {
		return cmp.Compare(p.ModRevision, r)
	})
	if !found {
		n--
	}
	if n < 0 || i.versions[n].Version == 0 {
		return kv.Pair{}, false
	}
	return i.versions[n], true
}

func (i *item) last() *kv.Pair { return &i.versions[len(i.versions)-1] }

// NewMachine returns an empty store at revision 1, at time 0.
func NewMachine(clusterID uint64) *Machine {
	return &Machine{
		clusterID: clusterID, revision: revisionFirst,
		items:  btree.NewG(btreeDegree, func(a, b *item) bool { return a.key < b.key }),
		leases: map[kv.LeaseID]*lease{},
	}
}

// Revision returns the newest revision.
func (m *Machine) Revision() int64 { return m.revision }

// Compacted returns the revision below which history is gone.
func (m *Machine) Compacted() int64 { return m.compacted }

// ClusterID returns the cluster's id.
func (m *Machine) ClusterID() uint64 { return m.clusterID }

// Clone returns a copy without watches, as a backup of it would be restored. Restored by etcd's own tool, a backup comes
// back under another cluster id (0 keeps it), and with bump, its revisions jump. Ids of leases are never given again.
func (m *Machine) Clone(clusterID uint64, bump int64) *Machine {
	restored := NewMachine(cmp.Or(clusterID, m.clusterID))
	restored.revision, restored.compacted, restored.now = m.revision+bump, m.compacted, m.now
	restored.log, restored.logged, restored.lastLease = slices.Clone(m.log), m.logged, m.lastLease+leasesLost
	m.items.Ascend(func(i *item) bool {
		restored.items.ReplaceOrInsert(&item{key: i.key, versions: slices.Clone(i.versions)})
		return true
	})
	for id, l := range m.leases {
		restored.leases[id] = &lease{ttl: l.ttl, expiry: l.expiry, keys: maps.Clone(l.keys)}
	}
	if bump > 0 { // the tool marks all that was before as compacted, so that watchers start afresh
		_ = restored.Compact(restored.revision) //nolint:errcheck // its own revision is never refused
	}
	return restored
}

func (m *Machine) header() kv.Header {
	return kv.Header{ClusterID: m.clusterID, Revision: m.revision}
}

// Apply does a transaction, atomically.
func (m *Machine) Apply(txn kv.Txn) (kv.Result, error) {
	if err := m.checkTxn(txn); err != nil {
		return kv.Result{}, err
	}
	result := kv.Result{Succeeded: true}
	for _, c := range txn.If {
		if !m.holds(c) {
			result.Succeeded = false
			break
		}
	}
	branch := txn.Then
	if !result.Succeeded {
		branch = txn.Else
	}
	for _, op := range branch {
		if op.Kind == kv.OpPut && op.Lease != 0 && m.leases[op.Lease] == nil {
			return kv.Result{}, fmt.Errorf("kvmem: txn: %w", kv.ErrLeaseNotFound)
		}
	}
	writes := &writes{m: m, revision: m.revision}
	result.Responses = make([]kv.Response, 0, len(branch))
	for _, op := range branch {
		result.Responses = append(result.Responses, writes.do(op))
	}
	m.revision = writes.revision
	result.Header = m.header()
	return result, nil
}

func (m *Machine) holds(c kv.Compare) bool {
	pairs := m.pairs(c.Key, c.End, m.revision)
	if len(pairs) == 0 {
		// etcd cannot tell a missing value from an empty one, and so never agrees
		return c.Target != kv.Value && meets(c, kv.Pair{})
	}
	return !slices.ContainsFunc(pairs, func(pair kv.Pair) bool { return !meets(c, pair) })
}

// meets reports whether one key meets a condition.
func meets(c kv.Compare, pair kv.Pair) bool {
	order := 0
	switch c.Target {
	case kv.ModRevision:
		order = cmp.Compare(pair.ModRevision, c.Number)
	case kv.CreateRevision:
		order = cmp.Compare(pair.CreateRevision, c.Number)
	case kv.Version:
		order = cmp.Compare(pair.Version, c.Number)
	case kv.Value:
		order = bytes.Compare(pair.Value, c.Value)
	}
	switch c.Relation {
	case kv.Equal:
		return order == 0
	case kv.NotEqual:
		return order != 0
	case kv.Less:
		return order < 0
	case kv.Greater:
		return order > 0
	default:
		return false
	}
}

func (m *Machine) at(key string, revision int64) (kv.Pair, bool) {
	if i, found := m.items.Get(&item{key: key}); found {
		return i.at(revision)
	}
	return kv.Pair{}, false
}

// Range reads.
func (m *Machine) Range(r kv.Range) (kv.RangeResult, error) {
	key, end := normalRange(r.Key, r.End)
	if key == "" {
		return kv.RangeResult{}, ErrEmptyKey
	}
	revision := r.Revision
	switch {
	case revision <= 0:
		revision = m.revision
	case revision > m.revision:
		return kv.RangeResult{}, ErrFutureRevision
	case revision < m.compacted:
		return kv.RangeResult{}, fmt.Errorf("kvmem: range: %w", kv.ErrCompacted)
	}
	pairs := m.pairs(key, end, revision)
	result := kv.RangeResult{Header: m.header(), Count: int64(len(pairs))}
	result.Pairs, result.More = limited(pairs, r.Limit)
	if r.KeysOnly {
		for i := range result.Pairs {
			result.Pairs[i].Value, result.Pairs[i].Lease = nil, 0
		}
	}
	return result, nil
}

func limited(pairs []kv.Pair, limit int64) ([]kv.Pair, bool) {
	if limit > 0 && int64(len(pairs)) > limit {
		return pairs[:limit], true
	}
	return pairs, false
}

// pairs returns what the range held at a revision. An end of "" is one key.
func (m *Machine) pairs(key, end string, revision int64) []kv.Pair {
	pairs := []kv.Pair{}
	if end == "" {
		if pair, found := m.at(key, revision); found {
			pairs = append(pairs, pair)
		}
		return pairs
	}
	m.items.AscendGreaterOrEqual(&item{key: key}, func(i *item) bool {
		if !within(i.key, key, end) {
			return false
		}
		if pair, found := i.at(revision); found {
			pairs = append(pairs, pair)
		}
		return true
	})
	return pairs
}

// within reports whether key is in the range, whose end is "" for one key, and infinite for "\x00".
func within(key, from, end string) bool {
	switch end {
	case "":
		return key == from
	case kv.RangeEndInfinite:
		return key >= from
	default:
		return key >= from && key < end
	}
}

// normalRange begins a range from the empty key at the smallest key that can be stored.
func normalRange(key, end string) (from, to string) {
	if key == "" && end != "" {
		return "\x00", end
	}
	return key, end
}

// Compact gives up the history below revision.
func (m *Machine) Compact(revision int64) error {
	switch {
	case revision > m.revision:
		return ErrFutureRevision
	case revision <= m.compacted:
		return fmt.Errorf("kvmem: compact: %w", kv.ErrCompacted)
	}
	for _, cursor := range m.cursors {
		cursor.beforeCompaction(revision)
	}
	m.compacted = revision
	kept, _ := slices.BinarySearchFunc(m.log, revision, func(e kv.Event, r int64) int {
		return cmp.Compare(e.Pair.ModRevision, r)
	})
	m.log, m.logged = slices.Clone(m.log[kept:]), m.logged+kept
	var gone []*item
	m.items.Ascend(func(i *item) bool {
		i.compact(revision)
		if len(i.versions) == 0 {
			gone = append(gone, i)
		}
		return true
	})
	for _, i := range gone {
		m.items.Delete(i)
	}
	return nil
}

func (i *item) compact(revision int64) {
	first := 0 // of the versions that are kept: the last at or below revision, unless it is a tombstone
	for first+1 < len(i.versions) && i.versions[first+1].ModRevision <= revision {
		first++
	}
	if i.versions[first].ModRevision <= revision && i.versions[first].Version == 0 {
		first++
	}
	i.versions = slices.Clone(i.versions[first:])
}
