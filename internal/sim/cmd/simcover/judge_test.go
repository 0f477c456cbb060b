package main

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const source = `package a

func Admit(old bool) bool {
	if old { // fence:F9
		return false
	}
	legacy := old && late() // fence:F14
	raise(legacy) // fence:F26 before anything
	return late() // fence:F8 late
}`

func TestBothOutcomesOfAMarkAreCounted(t *testing.T) {
	t.Parallel()
	rewritten := rewrite(source)
	require.Contains(t, rewritten, "\tif late() { // fence:F8 late\n\t\treturn true\n\t}\n\treturn false")
	require.Contains(t, rewritten, "\tlegacy := false\n\tif old && late() { // fence:F14\n\t\tlegacy = true\n\t}\n")
	c := &counting{sources: map[string][]string{"fence/gate.go": strings.Split(rewritten, "\n")}}
	profile := "mode: atomic\nfencerow/fence/gate.go:3.27,4.9 1 9\nfencerow/fence/gate.go:4.9,6.3 1 2\nfencerow/fence/gate.go:7.2,8.19 2 7\n" +
		"fencerow/fence/gate.go:8.19,10.3 1 3\nfencerow/fence/gate.go:11.2,12.12 2 7\nfencerow/fence/gate.go:12.12,14.3 1 %d\n" +
		"fencerow/fence/gate.go:15.2,15.14 1 7\n"
	census := "refusals by fence: F3 1 F26 4\n"
	what := c.judge(fmt.Sprintf(profile, 0), census)
	want := map[string][2]int{"F9": {2, 7}, "F14": {3, 4}, "F26": {7, 4}, "F8": {0, 7}}
	require.Len(t, what.marks, len(want))
	for _, m := range what.marks {
		require.Equal(t, want[m.fence], [2]int{m.held, m.refused}, m.fence)
	}

	var out bytes.Buffer
	require.ErrorContains(t, report(&out, what, verdictRules{}), "1 fences had one outcome only")
	require.ErrorContains(t, report(&out, c.judge(fmt.Sprintf(profile, 1), ""), verdictRules{}), "1 fences had one outcome only", "an effect that nobody refused")
	what = c.judge(fmt.Sprintf(profile, 1), census)
	require.NoError(t, report(&out, what, verdictRules{}))
	what.tallies[0].core = true
	require.ErrorContains(t, report(&out, what, verdictRules{least: 101}), "of the cores' statements")
}
