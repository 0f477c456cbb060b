package etcd

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"

	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/sink"
)

const (
	claimsRoot = "/cdc-claims/"
	// targetsLock is rewritten with every registration of a prefix, so that two can't pass each other.
	targetsLock = claimsRoot + "targets"
	targetsRoot = targetsLock + "/"
	recordsRoot = "/cdc/"
)

// layout knows where in the target everything of one changefeed is.
type layout struct {
	root   string // of head and claims
	entry  string // in the register of prefixes
	source string // prefix
	target string // prefix
}

func newLayout(as sink.Identity, source, target string) layout {
	name := as.Cluster + "/" + as.Changefeed.Namespace + "/" + as.Changefeed.Name
	return layout{root: claimsRoot + name + "/", entry: targetsRoot + name, source: source, target: target}
}

func (l layout) head() string         { return l.root + "head" }
func (l layout) rest() string         { return l.root + "rest" }
func (l layout) claimsPrefix() string { return l.root + "claims/" }
func (l layout) marksPrefix() string  { return l.root + "marks/" }

func (l layout) claim(n sink.Incarnation) string {
	return l.claimsPrefix() + strconv.FormatUint(uint64(n), 10)
}

func (l layout) marks(n sink.Incarnation) string {
	return l.marksPrefix() + strconv.FormatUint(uint64(n), 10)
}

// key maps a key of the source to the target.
func (l layout) key(source []byte) (string, error) {
	if len(source) < len(l.source) || string(source[:len(l.source)]) != l.source {
		return "", fmt.Errorf("sink etcd: key %.100q lies outside the source's prefix %q", source, l.source)
	}
	return l.target + string(source[len(l.source):]), nil
}

// back maps a key of the target to the source.
func (l layout) back(target string) []byte {
	return []byte(l.source + target[len(l.target):])
}

// bounds maps a span of the source to a range of the target; false if the span holds no key of the source.
func (l layout) bounds(span changefeed.Span) (start, end string, found bool) {
	all := changefeed.Span{Start: []byte(l.source), End: []byte(kv.PrefixEnd(l.source))}
	if string(all.End) == kv.RangeEndInfinite {
		all.End = nil
	}
	inner, found := span.Intersect(all)
	if !found {
		return "", "", false
	}
	start = l.target + string(inner.Start[len(l.source):])
	if bytes.Equal(inner.End, all.End) {
		return atLeastZero(start), kv.PrefixEnd(l.target), true
	}
	return atLeastZero(start), l.target + string(inner.End[len(l.source):]), true
}

// atLeastZero returns the first key of a range that begins before every key: etcd has no empty key.
func atLeastZero(start string) string {
	if start == "" {
		return "\x00"
	}
	return start
}

// prefixesOverlap reports whether a key can begin with both.
func prefixesOverlap(a, b string) bool { return strings.HasPrefix(a, b) || strings.HasPrefix(b, a) }
