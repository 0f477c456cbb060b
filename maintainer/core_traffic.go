package maintainer

import (
	"bytes"
	"cmp"
	"maps"
	"slices"

	"fencerow/changefeed"
	"fencerow/message"
)

// Bounds of what follows the traffic.
const (
	// trafficEvery is how often the rates are looked at. Hosts measure them over some seconds.
	trafficEvery = 1_000 * millisecond
	// coldShare of the rate that splits a span is what two neighbours may have together to be joined: so far below that
	// traffic has to grow fourfold before what was joined is split again.
	coldShare = 4
	// coldLook and coldMax bound the borders that are looked at in a second, and that are remembered to be cold.
	coldLook = 256
	coldMax  = 1024
	// unevenPercent of a span's traffic in its larger half is too much for a split to be worth it, as with one hot key.
	unevenPercent = 80
	// trafficSpansMax bounds the spans that splits by traffic make of one changefeed.
	trafficSpansMax = 1024
)

// traffic is what is known of the changes a second of the spans, and since when something follows from them. All of it is
// measured again by the next owner, so that nothing moves before it has looked for as long.
type traffic struct {
	rules  trafficRules
	next   changefeed.Time
	rates  map[*cell]uint32 // of the spans that have any
	hot    map[*cell]*hotSpan
	cold   map[*cell]changefeed.Time // the right one of two neighbours, and since when both are cold
	cursor []byte                    // where the look for cold neighbours goes on
}

// hotSpan is a span that has much more than its share.
type hotSpan struct {
	since changefeed.Time
	asked changefeed.Time
	half  *message.Half
}

func newTraffic() traffic {
	return traffic{
		rates: make(map[*cell]uint32), hot: make(map[*cell]*hotSpan), cold: make(map[*cell]changefeed.Time),
	}
}

// measure takes in what a host said of a span's rate.
func (t *traffic) measure(cell *cell, status *message.Status) {
	if status.Rate > 0 {
		t.rates[cell] = status.Rate
	} else {
		delete(t.rates, cell)
	}
	if hot := t.hot[cell]; hot != nil && status.Half != nil {
		hot.half = status.Half
	}
}

// forget drops what is known of a placement that has ended.
func (t *traffic) forget(cell *cell) {
	delete(t.rates, cell)
	delete(t.hot, cell)
	delete(t.cold, cell)
}

// followTraffic splits what is hot, or joins what is cold, one at a time, and only while everything runs.
func (c *Core) followTraffic() {
	t := &c.traffic
	if !t.rules.on || !c.mayMove() || c.now.At < t.next || len(c.cover.unsettled) > 0 || len(c.motions) > 0 {
		return
	}
	t.next = c.now.At.Add(trafficEvery)
	c.noteHot()
	if !c.splitHot() {
		c.joinCold()
	}
}

// hotAbove returns the rate above which a span has more than its share: twice the mean of its changefeed. The mean is over
// as many spans as there are nodes to run them, should there be fewer spans; and one span that could be spread has all of
// the traffic, whatever its mean.
func (c *Core) hotAbove() uint32 {
	t := &c.traffic
	total, spans, nodes := uint64(0), c.cover.len(), len(c.candidates())
	for _, rate := range t.rates {
		total += uint64(rate)
	}
	if spans == 1 && nodes > 1 {
		return t.rules.rate
	}
	return max(t.rules.rate, uint32(min(2*total/uint64(max(spans, nodes)), 1<<31)))
}

// noteHot keeps since when each span is hot without a break.
func (c *Core) noteHot() {
	t, above := &c.traffic, c.hotAbove()
	maps.DeleteFunc(t.hot, func(cell *cell, _ *hotSpan) bool { return t.rates[cell] <= above })
	for cell, rate := range t.rates {
		if rate > above && t.hot[cell] == nil {
			t.hot[cell] = &hotSpan{since: c.now.At}
		}
	}
}

// splitHot splits the hottest span that has been hot for long enough, at the key that halves its traffic. Its host is asked
// for that key first. It reports whether it did something.
func (c *Core) splitHot() bool {
	t := &c.traffic
	cells := slices.SortedFunc(maps.Keys(t.hot), func(a, b *cell) int {
		return cmp.Or(cmp.Compare(t.rates[b], t.rates[a]), a.span.Compare(b.span))
	})
	for _, cell := range cells {
		hot := t.hot[cell]
		if c.now.At.Sub(hot.since) < t.rules.splitAfter || !c.movable(cell) || c.cover.len() >= trafficSpansMax {
			continue
		}
		if half := hot.half; half != nil {
			if c.splitsWell(cell, half) && c.split(cell, [][]byte{half.Key}) {
				c.emit(Moved{Why: MovedForTraffic})
				return true
			}
			hot.half = nil // it is asked for another one
			continue
		}
		if hot.asked == 0 || c.now.At.Sub(hot.asked) >= c.cfg.ResendMax {
			hot.asked = c.now.At
			c.send(cell.host, message.ListStatuses{Halve: cell.token})
			return true
		}
	}
	return false
}

// splitsWell reports whether a split at that key is worth it, and wanted.
func (c *Core) splitsWell(cell *cell, half *message.Half) bool {
	if half.Percent > unevenPercent || len(cell.span.SplitAt(half.Key)) != 2 {
		return false
	}
	return !slices.ContainsFunc(c.mergeKeys, func(key []byte) bool { return bytes.Equal(key, half.Key) })
}

// joinCold looks at some borders, and joins two neighbours that have been cold for long enough. Borders that users want
// stay.
func (c *Core) joinCold() {
	t := &c.traffic
	if c.cover.len() <= 1+len(c.splitKeys) && c.onlySplitKeys() {
		return
	}
	var left *cell
	looked := 0
	c.cover.from(t.cursor, func(right *cell) bool {
		if left != nil && c.coldFor(left, right) >= t.rules.mergeAfter && c.join(left, right) {
			c.emit(Moved{Why: MovedForQuiet})
			return false
		}
		left = right
		looked++
		return looked <= coldLook
	})
	switch {
	case looked <= coldLook:
		t.cursor = nil
	case left != nil:
		t.cursor = left.span.Start
	}
}

// onlySplitKeys reports whether every border is one that users want. It is asked only when there are few.
func (c *Core) onlySplitKeys() bool {
	foreign := false
	c.cover.each(func(cell *cell) bool {
		foreign = len(cell.span.Start) > 0 && !c.isSplitKey(cell.span.Start)
		return !foreign
	})
	return !foreign
}

func (c *Core) isSplitKey(key []byte) bool {
	_, found := slices.BinarySearchFunc(c.splitKeys, key, bytes.Compare)
	return found
}

// coldFor returns for how long two neighbours have been cold, as far as it was looked at.
func (c *Core) coldFor(left, right *cell) changefeed.Duration {
	t := &c.traffic
	cold := t.rates[left]+t.rates[right] < max(t.rules.rate/coldShare, 1) && !c.isSplitKey(right.span.Start)
	if !cold {
		delete(t.cold, right)
		return 0
	}
	since, known := t.cold[right]
	if !known && len(t.cold) < coldMax {
		t.cold[right], since, known = c.now.At, c.now.At, true
	}
	if !known {
		return 0
	}
	return c.now.At.Sub(since)
}
