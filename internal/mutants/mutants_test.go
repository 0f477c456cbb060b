package mutants

import (
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestEveryMarkHasAMutantThatParses(t *testing.T) {
	root := filepath.Join("..", "..")
	all, err := Find(root)
	require.NoError(t, err)
	require.Greater(t, len(all), 60)
	ordered, err := Orders(root)
	require.NoError(t, err)
	require.Len(t, ordered, 9)
	for _, m := range slices.Concat(all, Pairs(all), ordered) {
		for _, file := range m.files() {
			src, err := os.ReadFile(filepath.Join(root, file))
			require.NoError(t, err)
			changed, err := apply(src, file, m.Edits)
			require.NoError(t, err)
			require.NotEqual(t, string(src), string(changed))
			_, err = parser.ParseFile(token.NewFileSet(), file, changed, 0)
			require.NoError(t, err, "%s %s: %s", m.Fence, m.Place, m.What)
		}
	}
}

func TestOnlyANamedAssertionFindsAMutant(t *testing.T) {
	failing := `{"Action":"run","Test":"TestA"}
{"Action":"output","Test":"TestA","Output":"    a_test.go:7: \n"}
{"Action":"fail","Test":"TestA"}
`
	for name, one := range map[string]struct {
		output string
		want   outcome
	}{
		"an assertion":         {failing, failed},
		"a panic":              {failing + `{"Action":"output","Test":"TestA","Output":"panic: x\n"}`, panicked},
		"a time-out":           {failing + `{"Action":"output","Output":"panic: test timed out after 1s\n"}`, panicked},
		"no compilation":       {`{"Action":"build-fail"}`, notCompiled},
		"an exit":              {`{"Action":"run","Test":"TestA"}` + "\n" + `{"Action":"fail"}`, unclear},
		"a pass":               {`{"Action":"run","Test":"TestA"}` + "\n" + `{"Action":"pass"}`, passed},
		"nothing that was run": {`{"Action":"pass"}`, nothingRan},
	} {
		t.Run(name, func(t *testing.T) {
			got, by := judge([]byte(one.output))
			require.Equal(t, one.want, got)
			require.Equal(t, one.want == failed, by == "TestA")
		})
	}
}

func TestAPartOfADayFollowsTheOther(t *testing.T) {
	all := []Mutant{{Fence: "F1"}, {Fence: "F2"}, {Fence: "F3"}}
	require.Equal(t, "F3", Rotate(all, 1, 2)[0].Fence)
	require.Len(t, Rotate(all, 7, 2), 3)
	require.Empty(t, Rotate(nil, 7, 2))
}
