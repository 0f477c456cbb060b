package change_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

// FuzzPosition holds that a position is read as it is written, and nothing else is one.
func FuzzPosition(f *testing.F) {
	for _, text := range []string{`"0"`, `"20817"`, `"18446744073709551615"`, `"18446744073709551616"`, `"-1"`, `7`, `"0x10"`, `" 1"`, `null`, `""`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var position change.Position
		if json.Unmarshal(data, &position) == nil {
			text, err := json.Marshal(position)
			require.NoError(t, err)
			var again change.Position
			require.NoError(t, json.Unmarshal(text, &again))
			require.Equal(t, position, again)
		}
		if parsed, err := change.ParsePosition(string(data)); err == nil {
			again, err := change.ParsePosition(parsed.String())
			require.NoError(t, err)
			require.Equal(t, parsed, again)
		}
	})
}
