package sink

import (
	"bytes"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
)

// Steps cuts a run of changes into the batches that a sink of these limits takes, to be written in this order. The run
// has the shape of one big batch. As many whole positions as fit go into one batch. Only a position that is too large
// by itself is cut:
//
//   - by key, if no two of its changes have the same key: each batch brings a growing part of the span up to the
//     position, so the border between two pieces moves, as it does for the pages of a snapshot;
//   - else, and always where the changes are those of tables, by index, which such sources give independently of the span: a
//     row that gets another key, or a table that is emptied, has its place among the others.
//
// The changes of one key keep their order; those of different keys in one position may change theirs. A single change
// above the limit of bytes is a batch of its own, for the sink to refuse. A page of lines stays whole. The batches may share memory with
// the run.
func Steps(run Batch, limits Limits) []Batch {
	if run.Lines != nil { // which are no more than a page
		return []Batch{run}
	}
	if run.Snapshot {
		return byKey(run, limits)
	}
	var (
		out   []Batch
		meter = newMeter(limits)
		start int // of the batch that is being filled
	)
	for at := 0; at < len(run.Changes); {
		position := run.Changes[at].Position
		end := at
		for end < len(run.Changes) && run.Changes[end].Position == position {
			end++
		}
		if meter.take(run.Changes[at:end]) {
			at = end
			continue
		}
		if at > start {
			done := run.Changes[at-1].Position
			out = append(out, Batch{Changes: run.Changes[start:at:at], Span: run.Span, To: change.At(done)})
			meter.reset()
			start = at
			continue
		}
		part := Batch{Changes: run.Changes[at:end:end], Span: run.Span, To: change.At(position)}
		if end == len(run.Changes) {
			part.To = run.To
		}
		out = append(out, one(part, limits)...)
		at, start = end, end
	}
	if start < len(run.Changes) || len(run.Changes) == 0 {
		out = append(out, Batch{Changes: run.Changes[start:], Span: run.Span, To: run.To})
	}
	return out
}

// one cuts a single position that is too large for one batch.
func one(part Batch, limits Limits) []Batch {
	keys := make(map[string]struct{}, len(part.Changes))
	rising, tables := true, false
	for i := range part.Changes {
		tables = tables || part.Changes[i].Table != ""
		keys[string(part.Changes[i].Key)] = struct{}{}
		rising = rising && (i == 0 || part.Changes[i-1].Index < part.Changes[i].Index)
	}
	switch {
	case len(keys) == len(part.Changes) && (!tables || !rising):
		return byKey(part, limits)
	case rising:
		return byIndex(part, limits)
	default:
		return []Batch{part}
	}
}

// byKey cuts changes of distinct keys at borders between keys.
func byKey(part Batch, limits Limits) []Batch {
	inKeys := func(a, b change.Change) int { return bytes.Compare(a.Key, b.Key) }
	inPlaces := func(a, b change.Change) int { return int(int64(a.Index) - int64(b.Index)) }
	sorted := part.Changes
	if !slices.IsSortedFunc(sorted, inKeys) {
		sorted = slices.Clone(sorted)
		slices.SortStableFunc(sorted, inKeys)
	}
	var out []Batch
	meter := newMeter(limits)
	border := part.Span.Start
	start := 0
	flush := func(end int, until []byte) {
		chunk := sorted[start:end:end]
		if !slices.IsSortedFunc(chunk, inPlaces) {
			chunk = slices.Clone(chunk)
			slices.SortStableFunc(chunk, inPlaces)
		}
		out = append(out, Batch{
			Changes: chunk, Span: changefeed.Span{Start: border, End: until}, To: part.To, Snapshot: part.Snapshot,
		})
		start, border = end, until
	}
	for i := range sorted {
		if meter.take(sorted[i : i+1]) {
			continue
		}
		if i > start && !bytes.Equal(sorted[i-1].Key, sorted[i].Key) { // the rows of a table without keys stay together
			flush(i, sorted[i].Key)
			meter.reset()
		}
		meter.force(&sorted[i])
	}
	flush(len(sorted), part.Span.End)
	return out
}

// byIndex cuts the changes of one position where their indexes allow.
func byIndex(part Batch, limits Limits) []Batch {
	var out []Batch
	meter := newMeter(limits)
	start := 0
	for i := range part.Changes {
		if meter.take(part.Changes[i : i+1]) {
			continue
		}
		if i > start {
			next := change.Mark{Position: part.Changes[i].Position, Index: part.Changes[i].Index}
			out = append(out, Batch{Changes: part.Changes[start:i:i], Span: part.Span, To: next})
			meter.reset()
			start = i
		}
		meter.force(&part.Changes[i])
	}
	return append(out, Batch{Changes: part.Changes[start:], Span: part.Span, To: part.To})
}

// meter counts what is in the batch that is being filled.
type meter struct {
	limits  Limits
	changes int
	bytes   int
	keys    map[uint64]struct{} // hashes: two keys that collide only make a batch smaller
}

func newMeter(limits Limits) *meter {
	m := &meter{limits: limits}
	if limits.DistinctKeys {
		m.keys = make(map[uint64]struct{})
	}
	return m
}

func (m *meter) reset() {
	m.changes, m.bytes = 0, 0
	clear(m.keys)
}

// take counts the changes in and returns true if all of them fit; else it counts none.
func (m *meter) take(changes []change.Change) bool {
	size := 0
	for i := range changes {
		size += changes[i].Size()
	}
	if m.limits.Changes > 0 && m.changes+len(changes) > m.limits.Changes {
		return false
	}
	if m.limits.Bytes > 0 && m.bytes+size > m.limits.Bytes {
		return false
	}
	if m.keys != nil && !m.takeKeys(changes) {
		return false
	}
	m.changes += len(changes)
	m.bytes += size
	return true
}

func (m *meter) takeKeys(changes []change.Change) bool {
	for i := range changes {
		hash := hashKey(changes[i].Key)
		if _, found := m.keys[hash]; !found {
			m.keys[hash] = struct{}{}
			continue
		}
		for k := range changes[:i] {
			delete(m.keys, hashKey(changes[k].Key))
		}
		return false
	}
	return true
}

// force counts in the first change of a batch, which may be above a limit.
func (m *meter) force(c *change.Change) {
	m.changes++
	m.bytes += c.Size()
	if m.keys != nil {
		m.keys[hashKey(c.Key)] = struct{}{}
	}
}

// hashKey is FNV-1a: the same in every process, so that cuts can be replayed.
func hashKey(key []byte) uint64 {
	const (
		offset = 14695981039346656037
		prime  = 1099511628211
	)
	hash := uint64(offset)
	for _, b := range key {
		hash = (hash ^ uint64(b)) * prime
	}
	return hash
}
