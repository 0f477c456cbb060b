package main

import (
	"bytes"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const source = `package a

func Admit(old bool) bool {
	if old { // fence:F9
		return false
	}
	return late() // fence:F8 late
}`

func TestBothOutcomesOfAMarkAreCounted(t *testing.T) {
	t.Parallel()
	rewritten := rewrite(source)
	require.Contains(t, rewritten, "\tif late() { // fence:F8 late\n\t\treturn true\n\t}\n\treturn false")
	c := &counting{sources: map[string][]string{"fence/gate.go": strings.Split(rewritten, "\n")}}
	profile := "mode: atomic\nfencerow/fence/gate.go:4.2,4.9 1 9\nfencerow/fence/gate.go:4.9,6.3 1 2\nfencerow/fence/gate.go:7.2,7.12 1 7\n" +
		"fencerow/fence/gate.go:7.12,9.3 1 0\nfencerow/fence/gate.go:10.2,10.14 1 7\n"
	what := c.judge(profile, "")
	require.Len(t, what.marks, 2)
	require.Equal(t, [2]int{2, 7}, [2]int{what.marks[0].held, what.marks[0].refused})
	require.Equal(t, [2]int{0, 7}, [2]int{what.marks[1].held, what.marks[1].refused})

	var out bytes.Buffer
	require.ErrorContains(t, report(&out, what, verdictRules{}), "1 fences had one outcome only")
	exempt := map[string]string{"if late() { // fence:F8 late": "why"}
	require.NoError(t, report(&out, what, verdictRules{exempt: exempt}))
	what.tallies[0].core = true
	require.ErrorContains(t, report(&out, what, verdictRules{exempt: exempt, least: 90}), "of the cores' statements")
}
