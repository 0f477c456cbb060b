//go:build databases

package postgres_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// linesPage is everything between two keys, as lines.
func (x *keyedRows) linesPage(start, end []byte, at change.Position, ids ...string) sink.Batch {
	var text strings.Builder
	for _, id := range ids {
		fmt.Fprintf(&text, "%s\trow\n", id)
	}
	return sink.Batch{
		Lines: &change.Lines{Of: x.of, Text: []byte(text.String()), Count: len(ids)},
		Span:  changefeed.Span{Start: start, End: end}, To: change.At(at), Snapshot: true,
	}
}

// Lines go into the table as they are, with pages of changes among them.
func TestLinesAreGathered(t *testing.T) {
	x := newKeyedRows(t)
	w := x.claim(t, changefeed.Whole(), change.Mark{})
	require.True(t, w.(sink.Gathering).TakesLines())
	open, err := w.(sink.Gathering).Gather(t.Context(), x.linesPage(nil, x.key("100"), 50, numbers(0, 100)...))
	require.NoError(t, err)
	require.False(t, open, "who makes the table writes the page by itself")
	x.gather(t, w, x.linesPage(x.key("100"), x.key("200"), 50, numbers(100, 200)...))
	x.gather(t, w, x.page(x.key("200"), x.key("300"), 50, numbers(200, 300)...))
	odd := x.linesPage(x.key("300"), nil, 50, "300")
	odd.Lines.Text, odd.Lines.Count = []byte("300\t\\N\n301\t\n302\ta\\tb\\\\\\n\n"), 3
	_, end := change.TableSpan("public", "a")
	odd.Span.End = end
	x.gather(t, w, odd)
	require.Len(t, x.rows(t, "a"), 100)
	require.NoError(t, w.(sink.Gathering).Settle(t.Context()))
	require.Len(t, x.rows(t, "a"), 303)
	require.Equal(t, []string{"id"}, x.keys(t))
	require.Equal(t, []string{"300 - ", "301 <>", "302 <a\tb\\\n>"}, x.strings(t, `SELECT id || ' ' || coalesce('<' || name || '>', '- ') FROM a WHERE id >= 300 ORDER BY id`))
}

// Where the table has not all columns, or has them otherwise, the rows are taken apart.
func TestLinesOfOtherColumnsAreTakenApart(t *testing.T) {
	for name, table := range map[string]string{
		"a column computed":    "CREATE TABLE a (id bigint PRIMARY KEY, name text GENERATED ALWAYS AS ('row') STORED)",
		"columns in any order": "CREATE TABLE a (name text, id bigint PRIMARY KEY)",
	} {
		t.Run(name, func(t *testing.T) {
			x := newKeyedRows(t)
			x.exec(t, table)
			w := x.claim(t, changefeed.Whole(), change.Mark{})
			for i := range 4 {
				from := []byte(nil)
				if i > 0 {
					from = x.key(itoa(i * 200))
				}
				_, err := w.(sink.Gathering).Gather(t.Context(), x.linesPage(from, x.key(itoa((i+1)*200)), 50, numbers(i*200, (i+1)*200)...))
				require.NoError(t, err)
			}
			require.NoError(t, w.(sink.Gathering).Settle(t.Context()))
			require.Equal(t, []string{"800 row"}, x.strings(t, "SELECT count(DISTINCT id) || ' ' || min(name) FROM a"))
		})
	}
}

// A page of lines that comes again writes over what is there, and takes away what is gone.
func TestLinesThatComeAgainAreTakenApart(t *testing.T) {
	x, w := filled(t)
	_, err := w.(sink.Gathering).Gather(t.Context(), x.linesPage(nil, x.key("100"), 60, "7", "8"))
	require.NoError(t, err)
	require.NoError(t, w.(sink.Gathering).Settle(t.Context()))
	require.Equal(t, []string{"7", "8"}, x.strings(t, "SELECT id::text FROM a ORDER BY id"))
}

// A row that the target refuses has its page written by itself.
func TestARefusedLineIsReadAgain(t *testing.T) {
	x, w := filled(t)
	x.exec(t, "ALTER TABLE a ADD CHECK (id <> 250)")
	_, err := w.(sink.Gathering).Gather(t.Context(), x.linesPage(x.key("200"), x.key("300"), 50, numbers(200, 300)...))
	if err == nil {
		err = w.(sink.Gathering).Settle(t.Context())
	}
	require.ErrorIs(t, err, sink.ErrTogether)
	require.Len(t, x.rows(t, "a"), 100)
}

// Rows in binary form go where the types are the very same, and are taken apart elsewhere.
func TestLinesInBinaryForm(t *testing.T) {
	for name, c := range map[string]struct {
		table string
		open  bool
	}{
		"of the same types": {"CREATE TABLE a (id bigint PRIMARY KEY, name text)", true},
		"of others":         {"CREATE TABLE a (id numeric PRIMARY KEY, name text)", false},
		"of a domain":       {"CREATE DOMAIN word AS text CHECK (value <> 'x'); CREATE TABLE a (id bigint PRIMARY KEY, name word)", false},
	} {
		t.Run(name, func(t *testing.T) {
			x := newKeyedRows(t)
			x.exec(t, c.table)
			w := x.claim(t, changefeed.Whole(), change.Mark{})
			for i := range 4 {
				from := []byte(nil)
				if i > 0 {
					from = x.key(itoa(i * 200))
				}
				page := x.linesPage(from, x.key(itoa((i+1)*200)), 50, numbers(i*200, (i+1)*200)...)
				page.Lines.Form, page.Lines.Text = change.LinesBinary, nil
				for id := i * 200; id < (i+1)*200; id++ {
					page.Lines.Text = append(page.Lines.Text, 0, 2, 0, 0, 0, 8)
					page.Lines.Text = binary.BigEndian.AppendUint64(page.Lines.Text, uint64(id))
					page.Lines.Text = append(page.Lines.Text, "\x00\x00\x00\x03row"...)
				}
				_, err := w.(sink.Gathering).Gather(t.Context(), page)
				require.NoError(t, err)
				if c.open && i > 0 {
					require.Less(t, len(x.rows(t, "a")), 800, "they are in an open statement")
				}
			}
			require.NoError(t, w.(sink.Gathering).Settle(t.Context()))
			require.Equal(t, []string{"800 799 row"}, x.strings(t, "SELECT count(DISTINCT id) || ' ' || max(id) || ' ' || min(name) FROM a"))
		})
	}
}
