package maintainer

import (
	"fencerow/change"
	"fencerow/changefeed"
)

// Bounds of what is remembered of heads: finer than people look, and few.
const (
	headsMax  = 512 // the default of Config.HeadsMax
	headsStep = 100 * millisecond
)

// heads remembers when each head of the source was first seen, so that lag can be told in time: the time since a head
// above the checkpoint was first seen.
type heads struct {
	most  int // items; at least 2
	items []headSeen
}

type headSeen struct {
	position change.Position
	at       changefeed.Time // when this or a lower head, above the one before, was first seen
}

func (h *heads) see(head change.Position, now changefeed.Time) {
	last := len(h.items) - 1
	switch {
	case last < 0:
		h.items = append(h.items, headSeen{head, now})
	case head <= h.items[last].position:
	case now.Sub(h.items[last].at) < headsStep:
		h.items[last].position = head
	default:
		if len(h.items) >= h.most {
			h.thin()
		}
		h.items = append(h.items, headSeen{head, now})
	}
}

// thin joins neighbours. The earlier moment stays, so that lag is never told too small.
func (h *heads) thin() {
	kept := h.items[:0]
	for i := 0; i < len(h.items); i += 2 {
		item := h.items[i]
		if i+1 < len(h.items) {
			item.position = h.items[i+1].position
		}
		kept = append(kept, item)
	}
	h.items = kept
}

// reach forgets heads that are behind.
func (h *heads) reach(checkpoint change.Position) {
	for len(h.items) > 1 && h.items[0].position <= checkpoint {
		h.items = h.items[1:]
	}
}

// lag returns how long a head above the position has been known.
func (h *heads) lag(position change.Position, now changefeed.Time) changefeed.Duration {
	for _, item := range h.items {
		if item.position > position {
			return now.Sub(item.at)
		}
	}
	return 0
}
