package changefeed

import (
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func TestKeysSurviveTheirOption(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		keys := rapid.SliceOfNDistinct(rapid.OneOf(
			rapid.SliceOfN(rapid.Byte(), 1, 8),
			rapid.Map(rapid.StringMatching(`(base64:)?[a-c, /é]{1,6}`), func(s string) []byte { return []byte(s) }),
		), 0, 5, func(key []byte) string { return string(key) }).Draw(t, "keys")
		var in []Key
		for _, key := range keys {
			in = append(in, key)
		}
		out, err := ParseKeys(FormatKeys(in))
		require.NoError(t, err)
		require.Equal(t, in, out)
	})
}

func TestKeysThatAreRefused(t *testing.T) {
	t.Parallel()
	for _, text := range []string{",", "a,,b", "a,a", "base64:?", "a, a"} {
		_, err := ParseKeys(text)
		require.Error(t, err, text)
	}
}
