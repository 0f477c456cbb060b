package etcd

import (
	"bytes"
	"cmp"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
)

// lane is one stream's part of the merge: what it delivered that was not given on yet.
type lane struct {
	stream    *stream
	pending   []watched // in order of revisions
	complete  int64     // everything of the lane at or below it is in pending, or was given on
	created   bool
	createdAt int64 // the store's revision when etcd had begun the watch: everything above it is delivered
	batch     int   // events that it had when it was last filled
	count     int   // events since the lanes were cut
	waited    int   // ticks since it was heard
	askAt     int   // the tick at which it is asked for progress
	refused   error // etcd ended the watch: found after what came before it
}

// frontier returns up to where all lanes are complete.
func frontier(lanes []*lane) int64 {
	lowest := lanes[0].complete
	for _, lane := range lanes[1:] {
		lowest = min(lowest, lane.complete)
	}
	return lowest
}

// gather takes the events at or below upTo from the lanes, in order of revision, then key. The lanes' spans are in
// order and don't overlap.
func gather(lanes []*lane, upTo int64) []*watched {
	total := 0
	cuts := make([]int, len(lanes))
	for i, lane := range lanes {
		cuts[i], _ = slices.BinarySearchFunc(lane.pending, upTo+1, func(w watched, revision int64) int {
			return cmp.Compare(w.kv.ModRevision, revision)
		})
		total += cuts[i]
	}
	if total == 0 {
		return nil
	}
	out := make([]*watched, 0, total)
	for i, lane := range lanes {
		for j := range lane.pending[:cuts[i]] {
			out = append(out, &lane.pending[j])
		}
		lane.count += cuts[i]
		lane.pending = lane.pending[cuts[i]:]
		if len(lane.pending) == 0 {
			lane.pending = nil // so that the block can go when its changes have gone
		}
	}
	if !slices.IsSortedFunc(out, compareWatched) {
		slices.SortFunc(out, compareWatched)
	}
	return out
}

func compareWatched(a, b *watched) int {
	if c := cmp.Compare(a.kv.ModRevision, b.kv.ModRevision); c != 0 {
		return c
	}
	return bytes.Compare(a.kv.Key, b.kv.Key)
}

// cutEvent returns how many of the sorted events go into one source event: whole revisions only, and no more than
// changesMax and bytesMax where whole revisions allow. It returns the size of them too.
func cutEvent(ready []*watched, changesMax, bytesMax int) (count, size int) {
	for count < len(ready) {
		end, revisionSize := count, 0
		for end < len(ready) && ready[end].kv.ModRevision == ready[count].kv.ModRevision {
			revisionSize += ready[end].size()
			end++
		}
		if count > 0 && (end > changesMax || size+revisionSize > bytesMax) {
			break
		}
		count, size = end, size+revisionSize
	}
	return count, size
}

// changesOf makes changes of whole revisions of sorted events. The index is the rank by key among all changes of the
// requested span at that revision; what a piece's mark says is done is left out afterwards, so that a change has the
// same index whatever is left out.
func changesOf(events []*watched, pieces []marked) []change.Change {
	out := make([]change.Change, 0, len(events))
	var index uint32
	for i, event := range events {
		if i > 0 && events[i-1].kv.ModRevision != event.kv.ModRevision {
			index = 0
		}
		position := change.Position(event.kv.ModRevision)
		if !done(pieces, event.kv.Key, position, index) {
			out = append(out, changeOf(event, position, index))
		}
		index++
	}
	return out
}

func changeOf(event *watched, position change.Position, index uint32) change.Change {
	c := change.Change{Position: position, Index: index, Key: event.kv.Key}
	switch {
	case event.deleted:
		c.Op = change.OpDelete
	case event.kv.CreateRevision == event.kv.ModRevision:
		c.Op, c.After = change.OpCreate, &event.kv
	default:
		c.Op, c.After = change.OpUpdate, &event.kv
	}
	if event.prev != nil {
		c.Before = event.prev
	}
	return c
}

// marked is a piece of the request as the reader keeps it.
type marked struct {
	span changefeed.Span
	mark change.Mark
	// fresh says that this reader read the piece's snapshot, and nothing of it since.
	fresh bool
}

// done reports whether the change is done by the mark of its piece. Pieces are in order.
func done(pieces []marked, key []byte, position change.Position, index uint32) bool {
	if len(pieces) == 0 {
		return false
	}
	i, found := slices.BinarySearchFunc(pieces, key, func(p marked, key []byte) int { return bytes.Compare(p.span.Start, key) })
	if !found {
		i--
	}
	return i >= 0 && pieces[i].mark.Done(position, index)
}

// spread cuts the span into at most n parts that got about the same number of the sampled keys.
func spread(span changefeed.Span, keys [][]byte, n int) []changefeed.Span {
	slices.SortFunc(keys, bytes.Compare)
	var cuts [][]byte
	for i := 1; i < n; i++ {
		key := keys[i*len(keys)/n]
		if len(cuts) == 0 || !bytes.Equal(cuts[len(cuts)-1], key) {
			cuts = append(cuts, bytes.Clone(key))
		}
	}
	return span.SplitAt(cuts...)
}
