package dispatcher

import (
	"bytes"
	"slices"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/message"
)

// Bounds of what a pump measures of its traffic.
const (
	// rateWindow is over how long a rate is measured: long enough for a sink that flushes seldom, short enough to be news.
	rateWindow = 5 * changefeed.Second
	// sampleKeys are kept of a busy span: the half of its traffic is found to some 5 %.
	sampleKeys = 256
	// sampleSpan is over how many times its size the sample forgets, so that it is about the last minute of a hot span.
	sampleSpan = 64
	// sampleKeyBytes bounds a key of the sample, so that a host of a thousand busy spans keeps at most 256 MiB of them.
	sampleKeyBytes = 1 << 10
	// SampleRate is from how many changes a second on keys are sampled: a host that is full of idle spans keeps none.
	SampleRate = 20
)

// Traffic measures how many changes a second a span has, and samples their keys. It is pure: whoever moves the data tells
// it what was written and when. The zero value is not ready; see NewTraffic.
type Traffic struct {
	least   uint32 // the rate from which on keys are sampled
	began   changefeed.Time
	changes int
	rate    uint32
	at      changefeed.Time // when the rate was measured; 0: not yet
	keys    [][]byte        // nil while the span is not busy
	offered uint64          // to the sample, as far as it remembers
	random  uint64
}

// NewTraffic returns a measure that samples keys from least changes a second on. The seed decides which keys.
func NewTraffic(least uint32, seed uint64) Traffic { return Traffic{least: least, random: seed | 1} }

// Wrote takes in what was written at a moment. It returns true when there is a new rate to tell.
func (t *Traffic) Wrote(now changefeed.Time, changes []change.Change) bool {
	if t.began == 0 {
		t.began = now
	}
	t.changes += len(changes)
	if t.keys != nil {
		for i := range changes {
			t.offer(changes[i].Key)
		}
	}
	passed := now.Sub(t.began)
	if passed < rateWindow {
		return false
	}
	t.rate = uint32(min(float64(t.changes)/passed.Seconds(), 1<<31))
	t.began, t.changes, t.at = now, 0, now
	switch {
	case t.rate < t.least:
		t.keys, t.offered = nil, 0
	case t.keys == nil:
		t.keys = make([][]byte, 0, sampleKeys)
	}
	return true
}

// Rate returns the changes a second that were measured last.
func (t *Traffic) Rate() uint32 { return t.rate }

// Measure takes the newest rate in.
func (p *Progress) Measure(t *Traffic, now changefeed.Time) {
	p.Rate, p.RateAt, p.Half = t.Rate(), now, t.Half()
}

// offer puts a key into the sample with a chance that makes the sample one of the newest sampleKeys × sampleSpan keys.
func (t *Traffic) offer(key []byte) {
	if len(key) > sampleKeyBytes {
		return
	}
	t.offered = min(t.offered+1, sampleKeys*sampleSpan)
	if len(t.keys) < sampleKeys {
		t.keys = append(t.keys, bytes.Clone(key))
		return
	}
	if at := t.draw() % t.offered; at < sampleKeys {
		t.keys[at] = append(t.keys[at][:0], key...)
	}
}

// draw is xorshift64: fast, and the same in each run.
func (t *Traffic) draw() uint64 {
	t.random ^= t.random << 13
	t.random ^= t.random >> 7
	t.random ^= t.random << 17
	return t.random
}

// Half returns the key at which the span's traffic is cut most evenly, and which share of it the larger part has; nil if
// that is not known, or if all of it is one key's.
func (t *Traffic) Half() *message.Half {
	if len(t.keys) < sampleKeys/4 {
		return nil
	}
	sorted := slices.Clone(t.keys)
	slices.SortFunc(sorted, bytes.Compare)
	best, larger := 0, len(sorted)
	for i := 1; i < len(sorted); i++ {
		if bytes.Equal(sorted[i-1], sorted[i]) {
			continue
		}
		if part := max(i, len(sorted)-i); part < larger {
			best, larger = i, part
		}
	}
	if best == 0 {
		return nil
	}
	return &message.Half{Key: bytes.Clone(sorted[best]), Percent: uint8(larger * 100 / len(sorted))}
}
