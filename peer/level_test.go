package peer

import (
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/message"
	"fencerow/peer/peerpb"
	"fencerow/record"
)

// The messages of every feature level are understood as they were meant, with fields that this version does not know:
// nodes of two versions talk to each other during an upgrade. The files are never changed; a new level gets a folder of
// its own.
func TestMessagesOfEveryLevelAreUnderstood(t *testing.T) {
	later := protowire.AppendString(protowire.AppendTag(nil, 1000, protowire.BytesType), "of later")
	for number := record.LevelEpochs; number <= record.LevelCurrent; number++ {
		level := fmt.Sprintf("level%d", number)
		text, err := os.ReadFile(filepath.Join("testdata", level, "messages.txt"))
		require.NoError(t, err)
		seen := map[message.Kind]bool{}
		for line := range strings.Lines(string(text)) {
			name, digits, found := strings.Cut(strings.TrimSpace(line), " ")
			if !found || strings.HasPrefix(line, "#") {
				continue
			}
			data, err := hex.DecodeString(digits)
			require.NoError(t, err, name)
			var stored, extended peerpb.Envelope
			require.NoError(t, proto.Unmarshal(data, &stored), name)
			decoded, err := decode(&stored, "a", "b")
			require.NoError(t, err, name)
			require.Equal(t, name, decoded.Body.Kind().String())
			seen[decoded.Body.Kind()] = true
			again, err := encode(decoded)
			require.NoError(t, err, name)
			require.True(t, proto.Equal(&stored, again), "%s means something else now:\n%v\n%v", name, &stored, again)

			require.NoError(t, proto.Unmarshal(append(data, later...), &extended), name)
			same, err := decode(&extended, "a", "b")
			require.NoError(t, err, name)
			require.Equal(t, decoded, same, name)
			if place, ok := decoded.Body.(message.Place); ok {
				require.Equal(t, message.Place{
					Seq: 1, Span: changefeed.Span{Start: []byte("x")}, From: change.Mark{Position: 2, Index: 3}, Floor: 1,
				}, place)
				require.Equal(t, changefeed.ID{Namespace: "ns", Name: "n"}, decoded.ID)
				require.EqualValues(t, 12, decoded.Epoch)
			}
		}
		for kind := message.KindBootstrap; kind.String() != "unknown"; kind++ {
			require.True(t, seen[kind], "%s has no message of kind %s", level, kind)
		}
	}
}
