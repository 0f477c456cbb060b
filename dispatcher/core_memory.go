package dispatcher

import (
	"maps"
	"slices"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
)

// Bounds of what a core remembers of dispatchers that are gone.
const (
	// stoppedMax bounds the tokens of the held epoch that are remembered one by one. Beyond it the older half becomes
	// "every seq up to n was stopped", which may refuse a Place that was never stopped (the maintainer places again
	// with a higher seq), and never admits one that was.
	stoppedMax = 4096
	// finalsMax bounds the final statuses that are kept for a new owner's bootstrap and for repeated questions.
	// Forgetting one loses nothing: the sink, or the stored checkpoint, knows where its span continues.
	finalsMax = 1024
)

// MemoryBounds bound what a core remembers of dispatchers that are gone. Where one is 0, the default holds.
type MemoryBounds struct {
	Stopped int // tokens of the held epoch
	Finals  int // final statuses
}

func (b MemoryBounds) withDefaults() MemoryBounds {
	if b.Stopped == 0 {
		b.Stopped = stoppedMax
	}
	if b.Finals == 0 {
		b.Finals = finalsMax
	}
	return b
}

// memory is what a core knows of dispatchers that are gone.
type memory struct {
	bounds MemoryBounds

	// Of the held epoch only: a token of a lower one cannot be placed any more.
	upTo    fence.Seq // every seq at or below it counts as stopped
	stopped map[fence.Seq]changefeed.Span
	unknown map[fence.Seq]struct{} // stopped before they were heard of, so without a span
	highest fence.Seq              // of stopped: nothing above it can be overlapped by one

	finals []message.Status // oldest first, of any epoch of the held uid
}

// forgetEpoch drops what only matters within an epoch.
func (m *memory) forgetEpoch() {
	m.upTo, m.highest, m.stopped, m.unknown = 0, 0, nil, nil
}

// empty reports whether nothing is remembered.
func (m *memory) empty() bool { return m.blank() && len(m.finals) == 0 }

// blank reports whether no token of the held epoch is remembered.
func (m *memory) blank() bool { return m.upTo == 0 && len(m.stopped) == 0 && len(m.unknown) == 0 }

// bury remembers that a token of the held epoch was stopped, and the span it had.
func (m *memory) bury(seq fence.Seq, span changefeed.Span) {
	if m.stopped == nil {
		m.stopped = make(map[fence.Seq]changefeed.Span)
	}
	delete(m.unknown, seq)
	m.stopped[seq] = span
	m.highest = max(m.highest, seq)
	m.collapse()
}

// buryUnknown remembers that a token of the held epoch was stopped before it was placed.
func (m *memory) buryUnknown(seq fence.Seq) {
	if m.buried(seq) {
		return
	}
	if m.unknown == nil {
		m.unknown = make(map[fence.Seq]struct{})
	}
	m.unknown[seq] = struct{}{}
	m.collapse()
}

func (m *memory) collapse() {
	if len(m.stopped)+len(m.unknown) <= m.bounds.Stopped {
		return
	}
	seqs := slices.AppendSeq(make([]fence.Seq, 0, m.bounds.Stopped+1), maps.Keys(m.stopped))
	seqs = slices.AppendSeq(seqs, maps.Keys(m.unknown))
	slices.Sort(seqs)
	for _, seq := range seqs[:m.bounds.Stopped/2] {
		delete(m.stopped, seq)
		delete(m.unknown, seq)
		m.upTo = seq
	}
}

// buried reports whether the token of the held epoch was stopped.
func (m *memory) buried(seq fence.Seq) bool {
	if seq <= m.upTo {
		return true
	}
	_, stopped := m.stopped[seq]
	_, unknown := m.unknown[seq]
	return stopped || unknown
}

// overlapsHigher reports whether a higher token of the held epoch that was stopped had a span that overlaps.
func (m *memory) overlapsHigher(seq fence.Seq, span changefeed.Span) bool {
	if seq > m.highest {
		return false
	}
	for other, gone := range m.stopped {
		if other > seq && gone.Overlaps(span) {
			return true
		}
	}
	return false
}

// keepFinal remembers the last status of a dispatcher that is gone.
func (m *memory) keepFinal(status message.Status) {
	if len(m.finals) >= m.bounds.Finals {
		m.finals = slices.Delete(m.finals, 0, len(m.finals)-m.bounds.Finals/2)
	}
	m.finals = append(m.finals, status)
}

// final returns the last status of a dispatcher that is gone.
func (m *memory) final(token fence.Token) (message.Status, bool) {
	for _, v := range slices.Backward(m.finals) {
		if v.Token == token {
			return v, true
		}
	}
	return message.Status{}, false
}

// stopFinal is final for an owner that asks to stop: a failure that it knows of is over.
func (m *memory) stopFinal(token fence.Token) (message.Status, bool) {
	for i := len(m.finals) - 1; i >= 0; i-- {
		if m.finals[i].Token == token {
			m.finals[i].State = message.DispatcherStopped
			return m.finals[i], true
		}
	}
	return message.Status{}, false
}
