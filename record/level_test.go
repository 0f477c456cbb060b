package record

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// The records of every feature level stay readable, and are written again byte for byte, with the fields that this
// version does not know: nodes of two versions share them during an upgrade. The files are never changed; a new level
// gets a folder of its own.
func TestRecordsOfEveryLevelAreReadAndKept(t *testing.T) {
	keys, err := NewKeys("default")
	require.NoError(t, err)
	for number := LevelEpochs; number <= LevelCurrent; number++ {
		level := fmt.Sprintf("level%d", number)
		text, err := os.ReadFile(filepath.Join("testdata", level, "records.txt"))
		require.NoError(t, err)
		seen := map[Kind]bool{}
		for line := range strings.Lines(string(text)) {
			key, value, found := strings.Cut(strings.TrimSpace(line), " ")
			if !found || strings.HasPrefix(line, "#") {
				continue
			}
			ref, decoded, err := keys.Decode(key, []byte(value))
			require.NoError(t, err, key)
			seen[ref.Kind] = true
			again, err := Encode(ref, decoded)
			require.NoError(t, err, key)
			require.Equal(t, value, string(again), key)

			ref, decoded, err = keys.Decode(key, []byte(strings.TrimSuffix(value, "}")+`,"zz_of_later":{"a":[1]}}`))
			require.NoError(t, err, key)
			again, err = Encode(ref, decoded)
			require.NoError(t, err, key)
			require.Contains(t, string(again), `"zz_of_later":{"a":[1]}`, key)
		}
		for kind := KindMeta; kind <= KindEviction; kind++ {
			require.True(t, seen[kind], "%s has no record of %s", level, kind)
		}
	}
}
