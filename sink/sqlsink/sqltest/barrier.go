package sqltest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// BarrierTarget is a database for the suite of schema changes over several spans.
type BarrierTarget struct {
	// Open returns a sink of tables with these options, whose floor is raised to epoch 2, over a database of its own.
	Open func(t testing.TB, options changefeed.Options) sink.Sink
	// Columns returns the names of the columns of a table of that database, sorted.
	Columns func(t testing.TB, table string) []string
	// Strings returns what a query finds there.
	Strings func(t testing.TB, query string) []string
	// Type is one of a column of text.
	Type string
}

// barred is a table `a` of two spans, and all that sorts behind it in a third one.
type barred struct {
	BarrierTarget
	t                  testing.TB
	sink               sink.Sink
	seq                fence.Seq
	left, right, other sink.Writer
	spans              [3]changefeed.Span
}

// form returns the table with its key and these columns, whose numbers are their letters.
func (b *barred) form(table, columns string) *change.Relation {
	out := &change.Relation{Schema: "public", Name: table, Columns: []change.Column{{Name: "id", Type: "bigint", Kind: change.KindInt, Key: 1, Number: 1}}}
	for _, letter := range columns {
		out.Columns = append(out.Columns, change.Column{Name: string(letter), Type: b.Type, Number: int(letter), Null: true})
	}
	return out
}

func newBarred(t testing.TB, target BarrierTarget, schema string) *barred {
	t.Helper()
	b := &barred{BarrierTarget: target, t: t, sink: target.Open(t, changefeed.Options{"schema": schema})}
	start, end := change.TableSpan("public", "a")
	middle := change.AppendKey(start, b.form("a", ""), [][]byte{[]byte("100")})
	b.spans = [3]changefeed.Span{{End: middle}, {Start: middle, End: end}, {Start: end}}
	b.left, b.right, b.other = b.claim(b.spans[0]), b.claim(b.spans[1]), b.claim(b.spans[2])
	return b
}

func (b *barred) claim(span changefeed.Span) sink.Writer {
	b.t.Helper()
	b.seq++
	w, err := b.sink.Claim(b.t.Context(), sink.Claim{Span: span, Token: fence.Mint(2, b.seq), From: change.At(1)})
	require.NoError(b.t, err)
	b.t.Cleanup(func() { _ = w.Close() })
	return w
}

// barredRow is a row to write: its columns have the value x.
type barredRow struct {
	at    change.Position
	of    *change.Relation
	key   string
	index uint32
}

// write writes rows, up to the last one's position or to.
func (b *barred) write(w sink.Writer, span changefeed.Span, to change.Position, rows ...barredRow) error {
	batch := sink.Batch{Span: span, To: change.At(to)}
	for _, row := range rows {
		cells := [][]byte{[]byte(row.key)}
		for range row.of.Columns[1:] {
			cells = append(cells, []byte("x"))
		}
		start, _ := change.TableSpan(row.of.Schema, row.of.Name)
		batch.Changes = append(batch.Changes, change.Change{
			Position: row.at, Index: row.index, Op: change.OpCreate, Table: row.of.String(),
			Key: change.AppendKey(start, row.of, cells), After: &change.Tuple{Of: row.of, Cells: cells},
		})
	}
	return w.Write(b.t.Context(), batch)
}

// begun has a row of the first form in both parts.
func (b *barred) begun() {
	first := b.form("a", "ab")
	require.NoError(b.t, b.write(b.left, b.spans[0], 10, barredRow{at: 10, of: first, key: "1"}))
	require.NoError(b.t, b.write(b.right, b.spans[1], 11, barredRow{at: 11, of: first, key: "101"}))
}

func (b *barred) requireBarrier(err error, at change.Position) *sink.Barrier {
	b.t.Helper()
	barrier, ok := errors.AsType[*sink.Barrier](err)
	require.True(b.t, ok, "%v", err)
	require.Equal(b.t, at, barrier.At)
	require.Contains(b.t, err.Error(), "public.a")
	return barrier
}

// awaited awaits a barrier, which it must, until release does what it waits for.
func (b *barred) awaited(w sink.Writer, barrier *sink.Barrier, release func()) {
	b.t.Helper()
	done := make(chan error, 1)
	limited, cancel := context.WithTimeout(b.t.Context(), awaitMax)
	defer cancel()
	go func() { done <- w.(sink.Barring).Await(limited, barrier) }()
	select {
	case err := <-done:
		require.Fail(b.t, "it did not wait", "%v", err)
	case <-time.After(awaitLeast): // that nothing happens shows only in time; one that does not wait is back in a few milliseconds
	}
	release()
	require.NoError(b.t, <-done)
}

// awaitLeast is how long a barrier is seen to be waited for.
const awaitLeast = 500 * time.Millisecond

// awaitMax is how long a barrier is waited for that has been reached.
const awaitMax = time.Minute

// RunBarrier tests that a schema change is a barrier over the spans of its table.
func RunBarrier(t *testing.T, target BarrierTarget) {
	t.Run("evolve", func(t *testing.T) { barrierEvolves(t, target) })
	t.Run("nobody's part", func(t *testing.T) { barrierOfNobody(t, target) })
	t.Run("stop", func(t *testing.T) { barrierStops(t, target) })
	t.Run("ignore", func(t *testing.T) {
		b := newBarred(t, target, "ignore")
		b.begun()
		require.NoError(t, b.write(b.left, b.spans[0], 50, barredRow{at: 50, of: b.form("a", "bc"), key: "2"}))
		require.Equal(t, []string{"a", "b", "id"}, b.Columns(t, "a"))
	})
	t.Run("superseded", func(t *testing.T) {
		b := newBarred(t, target, "evolve")
		b.begun()
		barrier := b.requireBarrier(b.write(b.left, b.spans[0], 50, barredRow{at: 50, of: b.form("a", "bc"), key: "2"}), 50)
		b.claim(b.spans[0])
		limited, cancel := context.WithTimeout(t.Context(), awaitMax)
		defer cancel()
		err := b.left.(sink.Barring).Await(limited, barrier)
		require.NotErrorIs(t, err, context.DeadlineExceeded, "it waits for ever")
		require.Error(t, err, "its connection was ended, or it finds that it has no part")
		require.Error(t, b.write(b.left, b.spans[0], 51))
		require.Equal(t, []string{"a", "b", "id"}, b.Columns(t, "a"))
	})
}

func barrierEvolves(t *testing.T, target BarrierTarget) {
	b := newBarred(t, target, "evolve")
	b.begun()
	first, second := b.form("a", "ab"), b.form("a", "bc")
	before := []string{"a", "b", "id"}

	// What comes before it in the batch comes first.
	err := b.write(b.left, b.spans[0], 60, barredRow{at: 45, of: first, key: "2"}, barredRow{at: 50, of: second, key: "3", index: 1})
	b.requireBarrier(err, 50)
	require.Equal(t, before, b.Columns(t, "a"))
	require.NoError(t, b.write(b.left, b.spans[0], 49, barredRow{at: 45, of: first, key: "2"}))

	// And what the others have before it. A table that sorts elsewhere has nothing to do with it, nor has who writes it.
	barrier := b.requireBarrier(b.write(b.left, b.spans[0], 60, barredRow{at: 50, of: second, key: "3", index: 1}), 50)
	b.awaited(b.left, barrier, func() {
		require.NoError(t, b.write(b.right, b.spans[1], 49, barredRow{at: 49, of: first, key: "102"}))
	})
	require.Equal(t, before, b.Columns(t, "a"))
	require.NoError(t, b.write(b.left, b.spans[0], 60, barredRow{at: 50, of: second, key: "3", index: 1}))
	require.Equal(t, []string{"b", "c", "id"}, b.Columns(t, "a"))
	require.NoError(t, b.write(b.other, b.spans[2], 30, barredRow{at: 30, of: b.form("b", "ab"), key: "1"}))

	// Who has another part of the table knows it as it was: the connection is ended. A row of the same transaction may be of the form before.
	require.Error(t, b.write(b.right, b.spans[1], 50, barredRow{at: 50, of: first, key: "103"}))
	b.right = b.claim(b.spans[1])
	require.NoError(t, b.write(b.right, b.spans[1], 50, barredRow{at: 50, of: first, key: "103"}))
	require.NoError(t, b.write(b.right, b.spans[1], 70, barredRow{at: 70, of: second, key: "104"}))
	require.ElementsMatch(t, []string{"1|x|-", "101|x|-", "102|x|-", "103|x|-", "104|x|x", "2|x|-", "3|x|x"}, b.rows())
}

// rows returns the rows of the table in its second form.
func (b *barred) rows() []string {
	return b.Strings(b.t, "SELECT CONCAT(id, '|', COALESCE(b, '-'), '|', COALESCE(c, '-')) AS r FROM a ORDER BY r")
}

// A part that nobody may write counts as well: whoever claims it has to bring it there.
func barrierOfNobody(t *testing.T, target BarrierTarget) {
	b := newBarred(t, target, "evolve")
	b.begun()
	second := b.form("a", "bc")
	start, end := change.TableSpan("public", "a")
	border := change.AppendKey(start, second, [][]byte{[]byte("200")})
	near := changefeed.Span{Start: b.spans[1].Start, End: border}
	b.right = b.claim(near)
	require.NoError(t, b.write(b.right, near, 99))
	barrier := b.requireBarrier(b.write(b.left, b.spans[0], 100, barredRow{at: 100, of: second, key: "2"}), 100)
	far := changefeed.Span{Start: border, End: end}
	b.awaited(b.left, barrier, func() { require.NoError(t, b.write(b.claim(far), far, 99)) })
	require.NoError(t, b.write(b.left, b.spans[0], 100, barredRow{at: 100, of: second, key: "2"}))
	require.Equal(t, []string{"b", "c", "id"}, b.Columns(t, "a"))
}

// The statement is shown when everything before it is there.
func barrierStops(t *testing.T, target BarrierTarget) {
	b := newBarred(t, target, "stop")
	b.begun()
	write := func() error {
		return b.write(b.left, b.spans[0], 50, barredRow{at: 50, of: b.form("a", "bc"), key: "2"})
	}
	barrier := b.requireBarrier(write(), 50)
	b.awaited(b.left, barrier, func() { require.NoError(t, b.write(b.right, b.spans[1], 49)) })
	fault, ok := errors.AsType[*changefeed.Fault](write())
	require.True(t, ok)
	require.Equal(t, changefeed.CodeRequestInvalid, fault.Code)
	require.Contains(t, fault.Cure, "ADD COLUMN")
	require.Equal(t, []string{"a", "b", "id"}, b.Columns(t, "a"))
}
