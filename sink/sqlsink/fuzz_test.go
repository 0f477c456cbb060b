package sqlsink

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzRows reads a head and two claims of any cells, as a database may hold them: the map of what can be read is one.
func FuzzRows(f *testing.F) {
	const head = "1|c|default|orders|uid-1|7|0|t|9|"
	f.Add(head, "2|7|1|61|6d|4|0||b1", "3|7|2|6d||4|0||b2")
	f.Add(head+`[{"start":"a","end":"b","position":"4","epoch":1,"seq":1}]`, "2|7|1|61|7a|4|0|"+`[{"start":"a","end":"m","position":"4"},{"start":"m","end":"z","position":"5","index":2}]`+"|", "")
	f.Add("0|||||-1|2||x|{}", "2|7|1|6|6d|4|0|[]|", "|")
	f.Fuzz(func(t *testing.T, head, first, second string) {
		row, err := readHead(strings.Split(head, "|"))
		if err != nil {
			return
		}
		state, err := readState(row, [][]string{strings.Split(first, "|"), strings.Split(second, "|")})
		if err != nil {
			return
		}
		require.NoError(t, state.held.Validate())
		_, err = json.Marshal(state.held)
		require.NoError(t, err)
		for _, claim := range state.claims {
			require.NotEmpty(t, claim.held)
		}
	})
}
