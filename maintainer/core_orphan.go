package maintainer

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/google/btree"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
)

// orphan is a dispatcher that runs somewhere and is not part of the cover: it is stopped, and spans that it overlaps
// wait for its end.
type orphan struct {
	span  changefeed.Span
	token fence.Token
	host  *host
	since changefeed.Time
	next  changefeed.Time
	tries uint8
}

type orphans struct {
	tree    *btree.BTreeG[*orphan]
	byToken map[fence.Token]*orphan
}

func newOrphans() *orphans {
	return &orphans{
		tree: btree.NewG(coverDegree, func(a, b *orphan) bool {
			return cmp.Or(bytes.Compare(a.span.Start, b.span.Start), a.token.Compare(b.token)) < 0
		}),
		byToken: make(map[fence.Token]*orphan),
	}
}

func (o *orphans) len() int { return len(o.byToken) }

func (o *orphans) add(item *orphan) {
	o.byToken[item.token] = item
	item.host.orphans++
	o.tree.ReplaceOrInsert(item)
}

func (o *orphans) remove(item *orphan) {
	delete(o.byToken, item.token)
	item.host.orphans--
	o.tree.Delete(item)
}

func (o *orphans) all() []*orphan {
	out := make([]*orphan, 0, o.len())
	o.tree.Ascend(func(item *orphan) bool {
		out = append(out, item)
		return true
	})
	return out
}

// blocked returns the ranges that orphans may still write, disjoint and in order. Under claims one that does not
// answer is not waited for any longer than hosts are: the claim shuts it out.
func (c *Core) blocked() []changefeed.Span {
	var out []changefeed.Span
	for _, item := range c.orphans.all() {
		if c.fencing == FencedByClaims && c.now.At.Sub(item.since) >= c.cfg.AnswerWait {
			continue
		}
		last := len(out) - 1
		if last < 0 || !out[last].Overlaps(item.span) {
			out = append(out, item.span)
			continue
		}
		if len(item.span.End) == 0 || (len(out[last].End) != 0 && bytes.Compare(out[last].End, item.span.End) < 0) {
			out[last].End = item.span.End
		}
	}
	return out
}

// overlapsAny reports whether the span shares a key with one of the disjoint sorted ranges.
func overlapsAny(ranges []changefeed.Span, span changefeed.Span) bool {
	at, _ := slices.BinarySearchFunc(ranges, span.Start, func(item changefeed.Span, start []byte) int {
		if len(item.End) == 0 || bytes.Compare(item.End, start) > 0 {
			return 0
		}
		return -1
	})
	return at < len(ranges) && ranges[at].Overlaps(span)
}

// condemn has a dispatcher stopped that is not part of the cover. Told twice, it is condemned once.
func (c *Core) condemn(h *host, status *message.Status) {
	if c.orphans.byToken[status.Token] != nil {
		return
	}
	if h.awaited == 0 {
		h.awaited = c.now.At
	}
	c.orphans.add(&orphan{span: status.Span, token: status.Token, host: h, since: c.now.At, next: c.now.At})
}

// onStray takes in a status that is about no current placement.
func (c *Core) onStray(h *host, status *message.Status) {
	item := c.orphans.byToken[status.Token]
	switch status.State {
	case message.DispatcherStopped, message.DispatcherFailed:
		if item == nil || item.host != h {
			return
		}
		if status.Known {
			c.finals.add(item.span, status.Mark, status.Token)
		}
		c.orphans.remove(item)
	case message.DispatcherStarting, message.DispatcherRunning, message.DispatcherStopping:
		if item == nil && c.cover != nil && status.Span.Valid() {
			c.condemn(h, status)
		}
	}
}

// stopOrphans asks again for the stops that are due, and gives up those whose node is gone for good.
func (c *Core) stopOrphans() {
	if c.orphans.len() == 0 {
		return
	}
	for _, item := range c.orphans.all() {
		switch {
		case item.host.gone:
			if c.lostForGood(item.host) {
				c.orphans.remove(item)
			}
		case item.next <= c.now.At:
			item.next = c.now.At.Add(c.delay(item.tries))
			item.tries = raise(item.tries)
			c.send(item.host, message.Stop{Token: item.token})
		}
	}
}
