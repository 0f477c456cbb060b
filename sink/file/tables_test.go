package file

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/codec"
	"fencerow/fence"
	"fencerow/sink"
)

var (
	// members has its key in another order than its columns, and one kind whose text can be written in several ways.
	members = &change.Relation{Schema: "public", Name: "members", Columns: []change.Column{
		{Name: "id", Kind: change.KindInt, Key: 2}, {Name: "share", Kind: change.KindFloat, Key: 1}, {Name: "note"},
	}}
	journal = &change.Relation{Schema: "public", Name: "journal", Columns: []change.Column{{Name: "text"}}}
)

// member is a change of a row of members, numbered by its id.
func member(op change.Op, id int) change.Change {
	row := &change.Tuple{Of: members, Cells: [][]byte{[]byte(strconv.Itoa(id)), []byte("1.50"), []byte("x")}}
	start, _ := change.TableSpan(members.Schema, members.Name)
	c := change.Change{Op: op, Table: members.String(), Key: change.AppendKey(start, members, row.Cells), Before: row, After: row}
	if op == change.OpDelete {
		c.After = nil
	}
	if op == change.OpTruncate {
		c.Before, c.After, c.Key = nil, nil, start
	}
	return c
}

// entryOf is a change of the table without a key.
func entryOf(op change.Op, text string) change.Change {
	start, _ := change.TableSpan(journal.Schema, journal.Name)
	return change.Change{Op: op, Table: journal.String(), Key: start, After: &change.Tuple{Of: journal, Cells: [][]byte{[]byte(text)}}}
}

func tableSpan(of *change.Relation) changefeed.Span {
	start, end := change.TableSpan(of.Schema, of.Name)
	return changefeed.Span{Start: start, End: end}
}

func batchOf(in changefeed.Span, at change.Position, changes ...change.Change) sink.Batch {
	for i := range changes {
		changes[i].Position, changes[i].Index = at, uint32(i)
	}
	return sink.Batch{Changes: changes, Span: in, To: change.At(at)}
}

func pageOf(in changefeed.Span, at change.Position, changes ...change.Change) sink.Batch {
	batch := batchOf(in, at, changes...)
	batch.Snapshot = true
	return batch
}

// briefRow says what a line does to which row.
func briefRow(t *testing.T, line string) string {
	t.Helper()
	record, err := codec.Decode([]byte(line))
	require.NoError(t, err)
	out := record.Op.String() + " " + record.Table
	for _, column := range record.Key {
		if id, ok := column.Value.(int64); ok && column.Name == "id" {
			out += " " + strconv.FormatInt(id, 10)
		}
	}
	if text, found := record.After.Column("text"); found {
		out += " " + text.Value.(string)
	}
	return out + "@" + record.Position.String()
}

// TestResnapshotOfTables: rows of tables that a snapshot does not have are deleted by their keys' columns, rows that were
// truncated are not, and a table without keys is emptied before its rows come again.
func TestResnapshotOfTables(t *testing.T) {
	p := newPlace(t)
	first := p.claim(p.node(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(1, 1)})
	p.write(first, batchOf(changefeed.Whole(), 10,
		member(change.OpCreate, 1), member(change.OpCreate, 2), entryOf(change.OpCreate, "a"), entryOf(change.OpCreate, "b")))
	p.write(first, batchOf(changefeed.Whole(), 11, member(change.OpTruncate, 0), member(change.OpCreate, 3), member(change.OpCreate, 4)))
	p.write(first, batchOf(changefeed.Whole(), 12, member(change.OpDelete, 4), member(change.OpCreate, 5)))
	before := len(readLines(t, p.directory, p.identity.UID))

	p.seq = 1
	second := p.claim(p.node(), p.next(changefeed.Whole()))
	p.write(second, pageOf(tableSpan(journal), 50, entryOf(change.OpRead, "b"), entryOf(change.OpRead, "c")))
	p.write(second, pageOf(tableSpan(members), 50, member(change.OpRead, 5)))
	p.write(second, batchOf(changefeed.Whole(), 51, member(change.OpTruncate, 0), entryOf(change.OpCreate, "d")))
	p.write(second, pageOf(tableSpan(members), 70))
	p.write(second, pageOf(tableSpan(journal), 70))
	var got []string
	for _, line := range readLines(t, p.directory, p.identity.UID)[before:] {
		got = append(got, briefRow(t, line))
	}
	require.Equal(t, []string{
		"truncate public.journal@50", "read public.journal b@50", "read public.journal c@50",
		"read public.members 5@50", "delete public.members 3@50",
		"truncate public.members@51", "create public.journal d@51",
		"truncate public.journal@70",
	}, got)
}

// TestARowThatChangedItsKeyIsOne: its former key is not deleted again.
func TestARowThatChangedItsKeyIsOne(t *testing.T) {
	plain := &change.Relation{Schema: "public", Name: "plain", Columns: []change.Column{{Name: "id", Kind: change.KindInt, Key: 1}}}
	row := func(id string) *change.Tuple { return &change.Tuple{Of: plain, Cells: [][]byte{[]byte(id)}} }
	make1 := func(op change.Op, id string) change.Change {
		start, _ := change.TableSpan(plain.Schema, plain.Name)
		return change.Change{Op: op, Table: plain.String(), Key: change.AppendKey(start, plain, row(id).Cells), After: row(id)}
	}
	moved := make1(change.OpUpdate, "2")
	moved.Before = &change.Tuple{Of: plain, Cells: row("1").Cells, KeyOnly: true}
	p := newPlace(t)
	w := p.claim(p.node(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(1, 1)})
	p.write(w, batchOf(changefeed.Whole(), 10, make1(change.OpCreate, "1")))
	p.write(w, batchOf(changefeed.Whole(), 11, moved))
	p.seq = 1
	second := p.claim(p.node(), p.next(changefeed.Whole()))
	p.write(second, pageOf(changefeed.Whole(), 50))
	lines := readLines(t, p.directory, p.identity.UID)
	require.Len(t, lines, 3)
	require.Equal(t, "delete public.plain 2@50", briefRow(t, lines[2]))
}

// TestTruncateReachesAsFarAsItsSpan: a part of a table that is behind truncates itself alone.
func TestTruncateReachesAsFarAsItsSpan(t *testing.T) {
	p := newPlace(t)
	border := member(change.OpCreate, 5).Key
	low, high := changefeed.Span{End: border}, changefeed.Span{Start: border}
	w := p.claim(p.node(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(1, 1)})
	p.write(w, batchOf(low, 10, member(change.OpCreate, 1)))
	p.write(w, batchOf(high, 20, member(change.OpCreate, 7)))
	p.write(w, batchOf(low, 15, member(change.OpTruncate, 0)))
	p.seq = 1
	second := p.claim(p.node(), p.next(changefeed.Whole()))
	p.write(second, pageOf(changefeed.Whole(), 50))
	lines := readLines(t, p.directory, p.identity.UID)
	require.Equal(t, "delete public.members 7@50", briefRow(t, lines[len(lines)-1]))
	require.Len(t, lines, 4)
}
