package kvmem

import (
	"cmp"
	"fmt"
	"slices"

	"fencerow/kv"
)

// batchRevisionsMax is how many revisions etcd sends a watcher at a time that is behind.
const batchRevisionsMax = 1000

// Cursor is a watch of a machine: its owner asks it for the next response. It stays until Close.
type Cursor struct {
	m        *Machine
	key, end string
	from     int64

	position int   // in the machine's log, counted from its first event ever
	batchEnd int   // where the batch ends that is being delivered in fragments; 0 outside one
	lost     int64 // the compaction that overtook the cursor
	err      error // why it cannot start
	ended    bool
}

// Watch returns a cursor on the events of a range from a revision on.
func (m *Machine) Watch(request kv.WatchRequest) *Cursor {
	from := max(request.From, 1)
	c := &Cursor{m: m, from: from}
	c.key, c.end = normalRange(request.Key, request.End)
	if c.key == "" {
		c.key = "\x00" // as etcd takes it
	}
	if c.end != "" && c.end != kv.RangeEndInfinite && c.key >= c.end {
		c.err = ErrEmptyRange
	}
	if from < m.compacted {
		c.lost = m.compacted
	}
	start, _ := slices.BinarySearchFunc(m.log, from, func(e kv.Event, r int64) int {
		return cmp.Compare(e.Pair.ModRevision, r)
	})
	c.position = m.logged + start
	m.cursors = append(m.cursors, c)
	return c
}

// Close ends the cursor.
func (c *Cursor) Close() {
	c.ended = true
	c.m.cursors = slices.DeleteFunc(c.m.cursors, func(other *Cursor) bool { return other == c })
}

func (c *Cursor) matches(event kv.Event) bool {
	return event.Pair.ModRevision >= c.from && within(event.Pair.Key, c.key, c.end)
}

// skip moves over events that are not the cursor's.
func (c *Cursor) skip() {
	for c.position < c.m.logged+len(c.m.log) && !c.matches(c.m.log[c.position-c.m.logged]) {
		c.position++
	}
}

// beforeCompaction notes that history is going away which the cursor has not delivered.
func (c *Cursor) beforeCompaction(revision int64) {
	if c.lost != 0 {
		return // what it would look at is gone already
	}
	if c.Behind() && c.m.log[c.position-c.m.logged].Pair.ModRevision < revision {
		c.lost = revision
	}
}

// Behind reports whether there is something to deliver.
func (c *Cursor) Behind() bool {
	if c.err != nil || c.lost != 0 {
		return !c.ended
	}
	c.skip()
	return !c.ended && c.position < c.m.logged+len(c.m.log)
}

// Next returns the next response, with at most eventsMax events (0 is no limit): what etcd would send as one response is
// then fragments. It returns false if there is nothing. A response with Err is the last one.
func (c *Cursor) Next(eventsMax int) (kv.WatchResponse, bool) {
	if !c.Behind() {
		return kv.WatchResponse{}, false
	}
	if c.err != nil || c.lost != 0 {
		response := kv.WatchResponse{Header: c.m.header(), Compacted: c.lost, Err: c.err}
		if c.err == nil {
			response.Err = fmt.Errorf("kvmem: watch: %w", kv.ErrCompacted)
		}
		c.Close()
		return response, true
	}
	if c.batchEnd == 0 {
		c.batchEnd = c.findBatchEnd()
	}
	response := kv.WatchResponse{Header: kv.Header{ClusterID: c.m.clusterID}}
	for c.position < c.batchEnd && (eventsMax <= 0 || len(response.Events) < eventsMax) {
		event := c.m.log[c.position-c.m.logged]
		c.position++
		if c.matches(event) {
			response.Events = append(response.Events, event)
			response.Revision = event.Pair.ModRevision
		}
	}
	for c.position < c.batchEnd && !c.matches(c.m.log[c.position-c.m.logged]) {
		c.position++ // so that the last event of a batch is not a fragment
	}
	response.Fragment = c.position < c.batchEnd
	if !response.Fragment {
		c.batchEnd = 0
	}
	return response, true
}

// findBatchEnd ends a batch after so many revisions that have events of the range.
func (c *Cursor) findBatchEnd() int {
	revisions, last := 0, int64(0)
	for i, event := range c.m.log[c.position-c.m.logged:] {
		if !c.matches(event) || event.Pair.ModRevision == last {
			continue
		}
		last = event.Pair.ModRevision
		if revisions++; revisions > batchRevisionsMax {
			return c.position + i
		}
	}
	return c.m.logged + len(c.m.log)
}

// Progress returns a response that says that everything up to now was delivered; false if that is not so.
func (c *Cursor) Progress() (kv.WatchResponse, bool) {
	if c.ended || c.Behind() {
		return kv.WatchResponse{}, false
	}
	return kv.WatchResponse{Header: c.m.header()}, true
}
