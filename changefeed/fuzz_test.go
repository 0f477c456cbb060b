package changefeed_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
)

// FuzzKey holds that what is read as a key is written and read again as the same bytes.
func FuzzKey(f *testing.F) {
	for _, text := range []string{`"a"`, `{"base64":"AP8="}`, `{"base64":"?"}`, `{"base64":null}`, `7`, `"\ud800"`, `base64:AP8=`, `base64:?`, ``} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var key changefeed.Key
		if json.Unmarshal(data, &key) == nil {
			text, err := json.Marshal(key)
			require.NoError(t, err)
			var again changefeed.Key
			require.NoError(t, json.Unmarshal(text, &again))
			require.Equal(t, string(key), string(again))
		}
		_, err := changefeed.ParseKey(string(data))
		if err != nil {
			require.Equal(t, changefeed.CodeRequestInvalid, changefeed.AsFault(err, "").Code)
		}
	})
}

// FuzzID holds that a name is refused, or is read again as the same.
func FuzzID(f *testing.F) {
	for _, text := range []string{"orders", "ns/orders", "a/b/c", "/", "", "ORDERS", "a\x00b", "-"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := changefeed.ParseID(text, changefeed.DefaultNamespace)
		if err != nil {
			return
		}
		again, err := changefeed.ParseID(id.String(), "other")
		require.NoError(t, err)
		require.Equal(t, id, again)
	})
}
