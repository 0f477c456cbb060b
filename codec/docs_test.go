package codec

import (
	"bufio"
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

// documented is a row that was read, with its key.
type documented struct {
	Row
	key Row
}

func (d documented) KeyColumns(yield func(string, any) bool) { d.key.Columns(yield) }

// TestLinesOfTheDocumentsAreOurs: each line of the page is what the encoder writes.
func TestLinesOfTheDocumentsAreOurs(t *testing.T) {
	page, err := os.ReadFile("../docs/changes-as-json.md")
	require.NoError(t, err)
	seen := 0
	for scanner := bufio.NewScanner(bytes.NewReader(page)); scanner.Scan(); {
		line := scanner.Text()
		if !strings.HasPrefix(line, "{") {
			continue
		}
		seen++
		record, err := Decode([]byte(line))
		require.NoError(t, err, line)
		encoder := NewEncoder(record.Changefeed, record.UID, record.Token)
		if record.IsResolved {
			require.Equal(t, line, string(encoder.AppendResolved(nil, record.Span, record.Position)))
			continue
		}
		key, ok := record.KeyBytes()
		require.True(t, ok)
		again := change.Change{
			Position: record.Position, Index: record.Index, Op: record.Op, CommitTime: record.CommitTime, Table: record.Table, Key: key,
		}
		again.Before, again.After = rowOf(&record, record.Before), rowOf(&record, record.After)
		require.Equal(t, line, string(encoder.AppendChange(nil, &again)))
	}
	require.Greater(t, seen, 6)
}

func rowOf(record *Record, row Row) change.Row {
	switch {
	case row == nil:
		return nil
	case record.Table == "":
		return row
	default:
		return documented{Row: row, key: record.Key}
	}
}
