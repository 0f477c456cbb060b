package verify

import (
	"maps"
	"slices"
)

// Kind says how a row differs.
type Kind string

// The kinds.
const (
	Missing   Kind = "missing"   // the source has it, the target does not
	Extra     Kind = "extra"     // the target has it, the source does not
	Different Kind = "different" // both have it, and not the same
)

// Row is what one side holds under a key.
type Row struct {
	Key string
	// Version is another one after each write of the row, even after one that changes nothing; "" where a side can't tell.
	Version string
	// Digest is of the values that both sides are to have in common.
	Digest string
	// Columns are digests of single columns by name, where a side tells; nil elsewhere.
	Columns map[string]string
	// Whole says that it stands for all rows of a table that has no keys.
	Whole bool
}

// seen is what a look at one side found: a row, or that there is none.
type seen struct {
	there bool
	row   Row
}

func (s seen) same(other seen) bool {
	return s.there == other.there && (!s.there || s.row.Digest == other.row.Digest)
}

// suspect is a row that differed when it was looked at.
type suspect struct {
	key string
	// source is the last look at the source. The target was looked at before it, and what was seen then is in target; known
	// is false while there was no such look.
	source seen
	target seen
	known  bool
	// since are what looks at the source found since then, one after another.
	since []seen
	// held counts the looks at the target that found the same there, while the source was the same too, or had nothing.
	held int
}

type verdict uint8

const (
	verdictSame verdict = iota + 1
	verdictDiffers
	verdictAgain
)

// heldMin is how often a row that the source does not have is seen unchanged in a target that does not tell writes apart.
const heldMin = 3

// judge decides on a row after a round: the source was looked at (before.source, at position P), the target came to P,
// the target was looked at (target), everything that the target may have had then became visible at the source, and the
// source was looked at again (source, at Q). So the target had the row as it was at the source at some position of P…Q.
//
//   - The target has the row as some look at the source found it from P to Q: so it was there.
//   - The source's row has one version at P and at Q: it had that all the time, and the target must have the same.
//   - The source has no row at P nor at Q. It may have come and gone between, and the target may have been looked at then.
//     But if the target has the very row that it had before P, although it has come to P since: nothing of the source is
//     like it at P, so nobody would have left it there.
//   - A table without keys is looked at as a whole. Rows may have come and gone between P and Q, which its version does not tell, so
//     for it the same holds as for a row that the source does not have.
//   - Else the row is changing, and is looked at once more.
func judge(before suspect, target, source seen) (verdict, suspect) {
	next := suspect{key: before.key, source: source, target: target, known: true}
	switch {
	case target.same(before.source), target.same(source), slices.ContainsFunc(before.since, target.same):
		return verdictSame, next
	case before.source.there && source.there:
		if before.source.row.Version != source.row.Version {
			break
		}
		if !source.row.Whole {
			return verdictDiffers, next
		}
		return stands(before, next)
	case !before.source.there && !source.there: // and the target has it, or it were the same
		return stands(before, next)
	}
	return verdictAgain, next
}

// stands decides on what the source had in one way before and after, by whether the target had its own all the time too.
func stands(before, next suspect) (verdict, suspect) {
	was, is := before.target, next.target
	if !before.known || !was.there || was.row.Version != is.row.Version || was.row.Digest != is.row.Digest {
		return verdictAgain, next
	}
	next.held = before.held + 1
	if is.row.Version != "" || next.held >= heldMin {
		return verdictDiffers, next
	}
	return verdictAgain, next
}

// differenceOf says how a row differs.
func differenceOf(table, key string, source, target seen) Difference {
	out := Difference{Table: table, Key: key}
	switch {
	case !target.there:
		out.Kind = Missing
	case !source.there:
		out.Kind = Extra
	default:
		out.Kind, out.Columns = Different, columnsOf(source.row, target.row)
	}
	return out
}

// columnsOf names the columns in which two rows differ, in order.
func columnsOf(a, b Row) []string {
	var out []string
	for _, name := range slices.Sorted(maps.Keys(a.Columns)) {
		if other, found := b.Columns[name]; !found || other != a.Columns[name] {
			out = append(out, name)
		}
	}
	return out
}
