// Package judge decides whether what arrived at a target is what writers did at the source: nothing lost, nothing
// twice, nothing out of order for a key, nothing that nobody wrote. It knows neither cdc-node's packages nor its
// formats, so that it can't share a mistake with them.
package judge

import (
	"cmp"
	"fmt"
	"slices"
)

// Put is one write at the source. Revision is 0 when its answer was lost: then it may or may not have happened.
type Put struct {
	Key      string
	Value    string // unique among all writes of a run; "" for a delete
	Delete   bool
	Revision int64
}

// Seen is one change as a reader of the target was given it, in the reader's order.
type Seen struct {
	Key      string
	Value    string
	Delete   bool
	Revision int64
}

// Log compares a reader's changes with the writers' log and returns every objection, at most objectionsMax.
func Log(puts []Put, seen []Seen) []string {
	j := judgement{}
	j.once(puts, seen)
	j.ordered(seen)
	return j.objections
}

// objectionsMax bounds a report: the first faults tell the story.
const objectionsMax = 20

type judgement struct{ objections []string }

func (j *judgement) object(format string, args ...any) {
	if len(j.objections) < objectionsMax {
		j.objections = append(j.objections, fmt.Sprintf(format, args...))
	}
}

type identity struct {
	key      string
	revision int64
}

// once checks that every acknowledged write was seen exactly once, as it was written, and that nothing else was.
func (j *judgement) once(puts []Put, seen []Seen) {
	times := make(map[identity]int, len(seen))
	content := make(map[identity]Seen, len(seen))
	for _, s := range seen {
		id := identity{s.Key, s.Revision}
		times[id]++
		if times[id] > 1 {
			j.object("duplicate: %s at revision %d was seen %d times", s.Key, s.Revision, times[id])
		}
		content[id] = s
	}
	lost := make(map[string]Put) // by value: writes whose answer was lost
	for _, p := range puts {
		if p.Revision == 0 {
			lost[p.Key+"\x00"+p.Value] = p
			continue
		}
		id := identity{p.Key, p.Revision}
		s, found := content[id]
		switch {
		case !found:
			j.object("lost: %s at revision %d was acknowledged and never seen", p.Key, p.Revision)
		case s.Delete != p.Delete || s.Value != p.Value:
			j.object("altered: %s at revision %d was written as %.40q and seen as %.40q", p.Key, p.Revision, p.Value, s.Value)
		}
		delete(content, id)
	}
	for id, s := range content {
		if p, found := lost[s.Key+"\x00"+s.Value]; !found || p.Delete != s.Delete {
			j.object("invented: %s at revision %d was seen and never written", id.key, id.revision)
		}
	}
	slices.Sort(j.objections)
}

// ordered checks that the changes of each key come in order of their revisions.
func (j *judgement) ordered(seen []Seen) {
	last := make(map[string]int64)
	for _, s := range seen {
		if s.Revision < last[s.Key] {
			j.object("order: %s at revision %d was seen after revision %d", s.Key, s.Revision, last[s.Key])
		}
		last[s.Key] = max(last[s.Key], s.Revision)
	}
}

// Stored is a key as it stands in a key-value store.
type Stored struct {
	Value   string
	Version int64 // how many times it was put since it was created
}

// Copy compares two stores and returns every objection, at most objectionsMax. Versions are compared, so that a change
// that was applied twice, or two that were applied as one, are seen although the values agree.
func Copy(source, target map[string]Stored) []string {
	j := judgement{}
	for key, want := range source {
		have, found := target[key]
		switch {
		case !found:
			j.object("lost: %s is missing in the target", key)
		case have.Value != want.Value:
			j.object("altered: %s is %.40q at the source and %.40q in the target", key, want.Value, have.Value)
		case have.Version != want.Version:
			j.object("count: %s was put %d times at the source and %d times in the target", key, want.Version, have.Version)
		}
	}
	for key := range target {
		if _, found := source[key]; !found {
			j.object("invented: %s is in the target only", key)
		}
	}
	slices.Sort(j.objections)
	return j.objections
}

// UpTo returns the writes at or below a revision: what a cut there is made of. Those whose answer was lost stay, since they
// may lie on either side.
func UpTo(puts []Put, revision int64) []Put {
	return slices.DeleteFunc(slices.Clone(puts), func(p Put) bool { return p.Revision > revision })
}

// At returns what the writes at or below a revision have left in the source. All answers must have come.
func At(puts []Put, revision int64) map[string]Stored {
	done := UpTo(puts, revision)
	slices.SortFunc(done, func(a, b Put) int { return cmp.Compare(a.Revision, b.Revision) })
	out := make(map[string]Stored)
	for _, p := range done {
		if p.Delete {
			delete(out, p.Key)
			continue
		}
		out[p.Key] = Stored{Value: p.Value, Version: out[p.Key].Version + 1}
	}
	return out
}
