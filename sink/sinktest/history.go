package sinktest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
)

// KeyPrefix begins every key of the suite, so that a sink that copies prefix to prefix can map it.
const KeyPrefix = "k/"

// key returns the i-th key of the toy source.
func key(i int) string { return fmt.Sprintf("%s%02d", KeyPrefix, i) }

// span returns the span from the i-th key to the k-th; below 0 is −∞ or +∞.
func span(from, to int) changefeed.Span {
	var out changefeed.Span
	if from >= 0 {
		out.Start = []byte(key(from))
	}
	if to >= 0 {
		out.End = []byte(key(to))
	}
	return out
}

// history is a toy source: what happened, in order of positions.
type history struct {
	changes []change.Change
	head    change.Position
	keys    int
	folds   bool // see [Harness.Folds]
}

// newHistory makes n positions over some keys: mostly one change each, sometimes several, some of them deletes.
// Position 1 is empty, so that a claim from 1 on needs no snapshot and misses nothing.
func newHistory(random *rand.Rand, n, keys int) *history {
	h := &history{keys: keys, head: 1}
	alive := make(map[string]bool)
	for range n {
		h.head++
		touched := random.Perm(keys)[:1]
		if random.IntN(8) == 0 {
			touched = random.Perm(keys)[:1+random.IntN(min(keys, 5))]
			slices.Sort(touched)
		}
		for index, k := range touched {
			h.add(key(k), uint32(index), alive, random.IntN(5) == 0)
		}
	}
	return h
}

func (h *history) add(name string, index uint32, alive map[string]bool, remove bool) {
	c := change.Change{Position: h.head, Index: index, Key: []byte(name), Op: change.OpCreate}
	switch {
	case alive[name] && remove:
		c.Op = change.OpDelete
		alive[name] = false
	case alive[name]:
		c.Op = change.OpUpdate
	}
	if c.Op != change.OpDelete {
		alive[name] = true
		c.After = row(name, fmt.Sprintf("%s@%d", name, h.head))
	}
	h.changes = append(h.changes, c)
}

func row(name, value string) *change.KV {
	return &change.KV{Key: []byte(name), Value: []byte(value), CreateRevision: 1, ModRevision: 1, Version: 1}
}

// between returns the changes above one position and at or below another.
func (h *history) between(after, upTo change.Position) []change.Change {
	inOrder := func(c change.Change, p change.Position) int {
		if c.Position <= p {
			return -1
		}
		return 1
	}
	from, _ := slices.BinarySearchFunc(h.changes, after, inOrder)
	to, _ := slices.BinarySearchFunc(h.changes, upTo, inOrder)
	return h.changes[from:max(from, to)]
}

// state returns what the source holds at a position, as changes of a snapshot, in order of keys.
func (h *history) state(at change.Position) []change.Change {
	latest := make(map[string]change.Change)
	for _, c := range h.between(0, at) {
		latest[string(c.Key)] = c
	}
	var out []change.Change
	for _, c := range latest {
		if c.Op != change.OpDelete {
			out = append(out, change.Change{Position: at, Op: change.OpRead, Key: c.Key, After: c.After})
		}
	}
	slices.SortFunc(out, func(a, b change.Change) int { return strings.Compare(string(a.Key), string(b.Key)) })
	for i := range out {
		out[i].Index = uint32(i)
	}
	return out
}

// judge compares what a reader saw with what the source says that it must see: after a snapshot at from (0 for none),
// every change above it and at or below upTo, each once, in order per key.
func (h *history) judge(entries []Entry, from, upTo change.Position) error {
	want := make(map[string][]Entry)
	for _, c := range slices.Concat(h.state(from), h.between(from, upTo)) {
		want[string(c.Key)] = append(want[string(c.Key)], entryOf(c))
	}
	got := make(map[string][]Entry)
	for _, entry := range entries {
		got[entry.Key] = append(got[entry.Key], entry)
	}
	compare := compare
	if h.folds {
		compare = compareFolded
	}
	for i := range h.keys {
		if err := compare(key(i), want[key(i)], got[key(i)]); err != nil {
			return err
		}
		delete(got, key(i))
	}
	for name := range got {
		return fmt.Errorf("key %s is in the target, and the source never had it", name)
	}
	return nil
}

func entryOf(c change.Change) Entry {
	if c.Op == change.OpDelete {
		return Entry{Key: string(c.Key), Deleted: true}
	}
	kv, _ := c.After.(*change.KV) //nolint:errcheck // what the suite made itself
	return Entry{Key: string(c.Key), Value: string(kv.Value)}
}

// compare names the first difference of one key's changes.
func compare(name string, want, got []Entry) error {
	for i := range max(len(want), len(got)) {
		switch {
		case i >= len(got):
			return fmt.Errorf("key %s: change %d, %v, is missing", name, i, want[i])
		case i >= len(want):
			return fmt.Errorf("key %s: change %d, %v, is one too many", name, i, got[i])
		case want[i] != got[i]:
			return fmt.Errorf("key %s: change %d is %v instead of %v", name, i, got[i], want[i])
		}
	}
	return nil
}

// compareFolded is compare for targets that are not given each change.
func compareFolded(name string, want, got []Entry) error {
	next := 0
	for i, entry := range got {
		for next < len(want) && want[next] != entry {
			next++
		}
		if next == len(want) {
			return fmt.Errorf("key %s: change %d, %v, is out of order or one too many", name, i, entry)
		}
		next++
	}
	switch {
	case len(want) == 0 || next == len(want):
		return nil
	case want[len(want)-1].Deleted && (len(got) == 0 || got[len(got)-1].Deleted):
		return nil
	default:
		return fmt.Errorf("key %s: the last change, %v, is missing", name, want[len(want)-1])
	}
}
