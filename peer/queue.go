package peer

import (
	"slices"
	"sync"

	"fencerow/changefeed"
	"fencerow/message"
	"fencerow/peer/peerpb"
)

// Bounds of what waits for one peer. A peer that is away for long is told the newest; the oldest was stamped with what
// was true then, and every protocol over this carries on after a loss.
const (
	queueEnvelopesMax = 8192
	queueBytesMax     = 32 * 1024 * 1024
	// A frame is closed when it holds this much, so that pings and other changefeeds get their turn.
	frameEnvelopesMax = 1000
	frameBytesMax     = 1024 * 1024
)

// waiting is one message in a queue. It was stamped when it was made, and is encoded once.
type waiting struct {
	envelope message.Envelope
	encoded  *peerpb.Envelope
	bytes    int
	gone     bool // it was taken out of the queue
}

// queue holds what waits for one peer, in order. When it is full the oldest heartbeat goes, since another follows, else
// the oldest message.
type queue struct {
	ready chan struct{} // has a permit while something waits

	mu     sync.Mutex
	items  []*waiting                  // oldest first; those that are gone are skipped
	beats  []*waiting                  // the heartbeats among them
	newest map[changefeed.UID]*waiting // the newest heartbeat of each changefeed
	count  int
	bytes  int
}

func newQueue() *queue {
	return &queue{ready: make(chan struct{}, 1), newest: map[changefeed.UID]*waiting{}}
}

// push adds a message. It returns how many were given up for room, and how many heartbeats because a newer one of the
// same changefeed waits; that may be the message itself.
func (q *queue) push(item *waiting) (dropped []*waiting, coalesced int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if beat, isBeat := item.envelope.Body.(message.Heartbeat); isBeat {
		keep, superseded := q.supersede(item, beat)
		if superseded {
			coalesced = 1
		}
		if !keep {
			return nil, coalesced
		}
	}
	q.items = append(q.items, item)
	q.count++
	q.bytes += item.bytes
	for q.count > 1 && (q.count > queueEnvelopesMax || q.bytes > queueBytesMax) {
		dropped = append(dropped, q.expendable(item))
	}
	q.tidy()
	q.permit()
	return dropped, coalesced
}

// supersede compares a heartbeat with the newest one of its changefeed that waits: by epoch, then number. The older of
// the two is given up if it has no changed statuses, for those are told once.
func (q *queue) supersede(item *waiting, beat message.Heartbeat) (keep, superseded bool) {
	other := q.newest[item.envelope.UID]
	if other == nil || other.gone {
		q.note(item)
		return true, false
	}
	waits, _ := other.envelope.Body.(message.Heartbeat) //nolint:errcheck // only heartbeats are noted there
	order := other.envelope.Epoch.Compare(item.envelope.Epoch)
	if order > 0 || order == 0 && waits.Number > beat.Number {
		if len(beat.Changed) == 0 {
			return false, true
		}
		q.beats = append(q.beats, item)
		return true, false
	}
	if len(waits.Changed) == 0 {
		q.remove(other)
		superseded = true
	}
	q.note(item)
	return true, superseded
}

func (q *queue) note(item *waiting) {
	q.newest[item.envelope.UID] = item
	q.beats = append(q.beats, item)
}

func (q *queue) remove(item *waiting) {
	item.gone = true
	q.count--
	q.bytes -= item.bytes
	if q.newest[item.envelope.UID] == item {
		delete(q.newest, item.envelope.UID)
	}
}

// expendable takes out what goes first, but never the one that was just added.
func (q *queue) expendable(added *waiting) *waiting {
	for _, order := range []*[]*waiting{&q.beats, &q.items} {
		for len(*order) > 0 && (*order)[0] != added {
			first := (*order)[0]
			*order = (*order)[1:]
			if !first.gone {
				q.remove(first)
				return first
			}
		}
	}
	return added // not reached while more than one waits
}

// tidy forgets what is gone before it is more than what waits.
func (q *queue) tidy() {
	gone := func(item *waiting) bool { return item.gone }
	if len(q.items) > 2*q.count+frameEnvelopesMax {
		q.items = slices.DeleteFunc(q.items, gone)
	}
	if len(q.beats) > 2*q.count+frameEnvelopesMax {
		q.beats = slices.DeleteFunc(q.beats, gone)
	}
}

func (q *queue) permit() {
	select {
	case q.ready <- struct{}{}:
	default:
	}
}

// pop takes what fits into one frame; nil if nothing waits.
func (q *queue) pop() []*waiting {
	q.mu.Lock()
	defer q.mu.Unlock()
	var frame []*waiting
	bytes := 0
	for len(q.items) > 0 && len(frame) < frameEnvelopesMax {
		first := q.items[0]
		if !first.gone {
			if len(frame) > 0 && bytes+first.bytes > frameBytesMax {
				break
			}
			bytes += first.bytes
			frame = append(frame, first)
			q.remove(first)
		}
		q.items[0] = nil
		q.items = q.items[1:]
	}
	q.tidy()
	if q.count > 0 {
		q.permit()
	}
	return frame
}

// depth returns how many messages wait.
func (q *queue) depth() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.count
}
