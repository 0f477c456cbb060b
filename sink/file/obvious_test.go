package file

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
	"github.com/stretchr/testify/require"

	"fencerow/sink/sinktest"
)

// obviousLines reads a directory as LAYOUT.md tells outside readers to, with none of the package's code: whole files in
// memory, claims in order of their numbers, each batch checked, up to the seal or the last commit mark.
func obviousLines(t testing.TB, directory, uid string) []string {
	t.Helper()
	claims, err := filepath.Glob(filepath.Join(directory, "claims", "*.json"))
	require.NoError(t, err)
	slices.Sort(claims)
	var lines []string
	for _, name := range claims {
		var claim struct {
			Number uint64
			Claim  *struct{ UID string }
		}
		require.NoError(t, json.Unmarshal(mustRead(t, name), &claim))
		if claim.Claim != nil && claim.Claim.UID == uid {
			lines = append(lines, obviousClaim(t, directory, claim.Number)...)
		}
	}
	return lines
}

func obviousClaim(t testing.TB, directory string, number uint64) []string {
	t.Helper()
	var seal *struct {
		Segment int
		Bytes   int
	}
	if data, err := os.ReadFile(filepath.Join(directory, "seals", fmt.Sprintf("%020d.json", number))); err == nil {
		require.NoError(t, json.Unmarshal(data, &seal))
	}
	names, err := filepath.Glob(filepath.Join(directory, "data", fmt.Sprintf("%020d-*", number)))
	require.NoError(t, err)
	slices.Sort(names)
	var lines []string
	for i, name := range names {
		var segment int
		_, err := fmt.Sscanf(filepath.Base(name)[21:27], "%d", &segment)
		require.NoError(t, err)
		data := mustRead(t, name)
		switch {
		case seal != nil && segment > seal.Segment:
			continue
		case seal != nil && segment == seal.Segment:
			data = data[:seal.Bytes]
		}
		whole := seal != nil || i < len(names)-1
		lines = append(lines, obviousSegment(t, data, strings.HasSuffix(name, ".zst"), whole)...)
	}
	return lines
}

// obviousSegment takes every batch, or, if not whole, every batch that a commit mark follows.
func obviousSegment(t testing.TB, data []byte, compressed, whole bool) []string {
	t.Helper()
	var taken, uncommitted []string
	for len(data) > 0 {
		if compressed {
			if len(data) < 8 {
				break
			}
			data = data[8:]
		}
		line, rest, found := bytes.Cut(data, []byte("\n"))
		var header struct {
			Batch, Commit, Segment uint64
			Bytes                  int
			CRC                    string
		}
		if !found || json.Unmarshal(line, &header) != nil || len(rest) < header.Bytes {
			break
		}
		payload := rest[:header.Bytes]
		signed, _, _ := bytes.Cut(line, []byte(`,"crc":"`))
		sum := crc32.Checksum(append(bytes.Clone(signed), payload...), crc32.MakeTable(crc32.Castagnoli))
		if header.CRC != fmt.Sprintf("%08x", sum) {
			break
		}
		data = rest[header.Bytes:]
		if header.Commit > 0 {
			taken, uncommitted = append(taken, uncommitted...), nil
		}
		if header.Batch == 0 || len(payload) == 0 {
			continue
		}
		if compressed {
			decoder, err := zstd.NewReader(nil)
			require.NoError(t, err)
			payload, err = decoder.DecodeAll(payload, nil)
			require.NoError(t, err)
			decoder.Close()
		}
		uncommitted = append(uncommitted, strings.Split(strings.TrimSuffix(string(payload), "\n"), "\n")...)
	}
	if whole {
		taken = append(taken, uncommitted...)
	}
	return taken
}

func mustRead(t testing.TB, name string) []byte {
	t.Helper()
	data, err := os.ReadFile(name)
	require.NoError(t, err)
	return data
}

// obviousEntry reads a change as anybody would.
func obviousEntry(t testing.TB, line string) sinktest.Entry {
	t.Helper()
	var change struct {
		Op    string
		Key   struct{ Key any }
		After *struct{ Value any }
	}
	require.NoError(t, json.Unmarshal([]byte(line), &change), line)
	entry := sinktest.Entry{Key: obviousText(t, change.Key.Key), Deleted: change.Op == "delete"}
	if change.After != nil {
		entry.Value = obviousText(t, change.After.Value)
	}
	return entry
}

func obviousText(t testing.TB, value any) string {
	t.Helper()
	switch v := value.(type) {
	case string:
		return v
	case map[string]any:
		text, _ := v["base64"].(string)
		raw, err := base64.StdEncoding.DecodeString(text)
		require.NoError(t, err)
		return string(raw)
	default:
		t.Fatalf("%v is neither text nor bytes", value)
		return ""
	}
}
