package mutants

import (
	"fmt"
	"slices"
	"strings"
)

// masked lists fences that refuse mostly the same: with one of them gone the other still stands in the way, so that a
// test of the whole doesn't notice. Both are removed together, and something must. The same word twice means all marks
// of that fence in one package.
func masked() [][2]string {
	return [][2]string{
		{"F1", "F2"},   // a deposed coordinator mostly holds an old record as well
		{"F2", "F3"},   // what moves the spec is followed by a bump
		{"F4", "F5"},   // the next owner's first status moves the status's revision
		{"F6", "F8"},   // what isn't stopped doesn't let the next one start
		{"F9", "F10"},  // an older epoch mostly has another owner
		{"F11", "F10"}, // so has a newer one
		{"F12", "F13"}, // a watch raises what a message does not
		{"F15", "F10"}, // another creation mostly has another owner
		{"F16", "F16"}, // a token that was stopped mostly has a successor
		{"F17", "F18"}, // what an older epoch reports is mostly about another placement
		{"F21", "F21"}, // a host that loses its session revokes too
		{"F22", "F23"}, // a claim below a higher token is superseded before it writes
		{"F22", "F26"}, // the floor is compared by raises and by claims
	}
}

// Pairs returns the mutants of two fences that mask each other, package by package.
func Pairs(singles []Mutant) []Mutant {
	var out []Mutant
	for _, pair := range masked() {
		var packages []string
		for _, single := range singles {
			if single.Fence == pair[0] && !slices.Contains(packages, single.Package()) {
				packages = append(packages, single.Package())
			}
		}
		for _, one := range packages {
			if both, found := joined(singles, one, pair); found {
				out = append(out, both)
			}
		}
	}
	return out
}

// joined removes all marks of both fences in one package, each by its first mutant.
func joined(singles []Mutant, inPackage string, pair [2]string) (Mutant, bool) {
	out := Mutant{Fence: pair[0] + "+" + pair[1], Note: "together"}
	var places, what []string
	count, marks := map[string]int{}, map[string]bool{}
	for _, single := range singles {
		if single.Package() != inPackage || (single.Fence != pair[0] && single.Fence != pair[1]) || single.Seen != "" {
			continue
		}
		mark := fmt.Sprintf("%s:%d", single.Edits[0].File, single.Line)
		if marks[mark] || slices.ContainsFunc(out.Edits, single.Edits[0].overlaps) {
			continue // another part of a mark that is gone already
		}
		marks[mark] = true
		count[single.Fence]++
		out.Edits = append(out.Edits, single.Edits...)
		if !slices.Contains(places, single.Place) {
			places = append(places, single.Place)
		}
		what = append(what, single.What)
	}
	out.Place, out.What = strings.Join(places, ", "), strings.Join(what, "; ")
	if pair[0] == pair[1] {
		return out, count[pair[0]] > 1
	}
	return out, count[pair[0]] > 0 && count[pair[1]] > 0
}

func (e Edit) overlaps(other Edit) bool {
	return e.File == other.File && e.Start < other.End && other.Start < e.End
}
