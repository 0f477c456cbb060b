//go:build databases

package postgres_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// gather has a writer take a page that it keeps open.
func (x *keyedRows) gather(t *testing.T, w sink.Writer, page sink.Batch) {
	t.Helper()
	require.True(t, w.(sink.Gathering).Gathers())
	open, err := w.(sink.Gathering).Gather(t.Context(), page)
	require.NoError(t, err)
	require.True(t, open)
}

// filled is a table with its first page, which makes it, and a writer that can gather from there.
func filled(t *testing.T) (*keyedRows, sink.Writer) {
	t.Helper()
	x := newKeyedRows(t)
	w := x.claim(t, changefeed.Whole(), change.Mark{})
	open, err := w.(sink.Gathering).Gather(t.Context(), x.page(nil, x.key("100"), 50, numbers(0, 100)...))
	require.NoError(t, err)
	require.False(t, open, "who makes the table writes the page by itself")
	require.Len(t, x.rows(t, "a"), 100)
	return x, w
}

// Pages that go together are there together, with their marks and the key that the table owes.
func TestPagesAreGatheredInOneTransaction(t *testing.T) {
	x, w := filled(t)
	x.gather(t, w, x.page(x.key("100"), x.key("200"), 50, numbers(100, 200)...))
	_, end := change.TableSpan("public", "a")
	x.gather(t, w, x.page(x.key("300"), end, 50, numbers(300, 400)...))
	x.gather(t, w, x.page(x.key("200"), x.key("300"), 50, numbers(200, 300)...))
	require.Len(t, x.rows(t, "a"), 100, "nothing of it is durable")
	require.Empty(t, x.keys(t))
	require.NoError(t, w.(sink.Gathering).Settle(t.Context()))
	require.Len(t, x.rows(t, "a"), 400)
	require.Equal(t, []string{"id"}, x.keys(t))
	require.NoError(t, w.(sink.Gathering).Settle(t.Context()), "there is nothing left")

	x.feed.at = 60
	x.feed.update(x.of, "7", "changed")
	require.NoError(t, w.Write(t.Context(), x.feed.batch()))
	require.Equal(t, []string{"(7,changed)"}, x.strings(t, `SELECT a::text FROM a WHERE name <> 'row'`))
	next := x.claim(t, changefeed.Whole(), change.Mark{})
	require.Len(t, next.Pieces(), 1)
	require.Equal(t, change.At(60), next.Pieces()[0].Mark)
}

// A write settles what was gathered before it, and so does a page that can't go with the others.
func TestAWriteSettlesWhatWasGathered(t *testing.T) {
	for name, write := range map[string]func(x *keyedRows, w sink.Writer) error{
		"a write": func(x *keyedRows, w sink.Writer) error {
			return w.Write(t.Context(), x.page(x.key("200"), x.key("201"), 50, "200"))
		},
		"a page of another table": func(x *keyedRows, w sink.Writer) error {
			start, _ := change.TableSpan("public", "b")
			of := relation("b", intKey("id", 1), text("name"))
			x.feed.create(of, "1", "row")
			page := x.feed.batch()
			page.Span, page.To, page.Snapshot = changefeed.Span{Start: start}, change.At(50), true
			_, err := w.(sink.Gathering).Gather(t.Context(), page)
			return err
		},
		"a page that comes again": func(x *keyedRows, w sink.Writer) error {
			_, err := w.(sink.Gathering).Gather(t.Context(), x.page(x.key("100"), x.key("200"), 60, numbers(100, 200)...))
			return err
		},
		"a page with the rest of the table and all behind it": func(x *keyedRows, w sink.Writer) error {
			_, err := w.(sink.Gathering).Gather(t.Context(), x.page(x.key("200"), nil, 50, "200"))
			if err == nil {
				err = w.(sink.Gathering).Settle(t.Context())
			}
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			x, w := filled(t)
			x.gather(t, w, x.page(x.key("100"), x.key("200"), 50, numbers(100, 200)...))
			require.NoError(t, write(x, w))
			require.Equal(t, []string{"1"}, x.strings(t, "SELECT count(*)::text FROM a WHERE id = 100"))
		})
	}
}

// What was not settled never was: the next claim finds it undone.
func TestWhatIsNotSettledIsUndone(t *testing.T) {
	x, w := filled(t)
	x.gather(t, w, x.page(x.key("100"), x.key("200"), 50, numbers(100, 200)...))
	require.NoError(t, w.Close())
	next := x.claim(t, changefeed.Whole(), change.Mark{})
	require.Len(t, next.Pieces(), 2)
	require.Equal(t, x.key("100"), next.Pieces()[1].Span.Start)
	require.Equal(t, change.Mark{}, next.Pieces()[1].Mark)
	require.Len(t, x.rows(t, "a"), 100)
	open, err := next.(sink.Gathering).Gather(t.Context(), x.page(x.key("100"), x.key("200"), 50, numbers(100, 200)...))
	require.NoError(t, err)
	require.False(t, open, "it has not looked at the table yet")
	require.Len(t, x.rows(t, "a"), 200)
}

// fence:F23. Who stands still in the middle of pages keeps nobody out, and has no effect when it goes on.
func TestF23WhoGathersIsReplaced(t *testing.T) {
	x, w := filled(t)
	x.gather(t, w, x.page(x.key("100"), x.key("200"), 50, numbers(100, 200)...))
	began := time.Now()
	next := x.claim(t, changefeed.Whole(), change.Mark{})
	require.Less(t, time.Since(began), 30*time.Second)
	require.NoError(t, next.Write(t.Context(), x.page(x.key("100"), x.key("101"), 50, "100")))
	require.Error(t, w.(sink.Gathering).Settle(t.Context()))
	require.Len(t, x.rows(t, "a"), 101)
}

// fence:F23. Nor has who begins to gather after it was replaced.
func TestF23WhoWasReplacedGathersNothing(t *testing.T) {
	x, w := filled(t)
	x.claim(t, changefeed.Whole(), change.Mark{})
	_, err := w.(sink.Gathering).Gather(t.Context(), x.page(x.key("100"), x.key("200"), 50, numbers(100, 200)...))
	if err == nil {
		err = w.(sink.Gathering).Settle(t.Context())
	}
	require.ErrorIs(t, err, fence.ErrStale)
	require.Len(t, x.rows(t, "a"), 100)
}

// A row that the target refuses has its page written by itself, which names it.
func TestARefusedRowAmongGatheredPagesIsNamed(t *testing.T) {
	x, w := filled(t)
	x.exec(t, "ALTER TABLE a ADD CHECK (id <> 250)")
	bad := x.page(x.key("200"), x.key("300"), 50, numbers(200, 300)...)
	x.gather(t, w, x.page(x.key("100"), x.key("200"), 50, numbers(100, 200)...))
	_, err := w.(sink.Gathering).Gather(t.Context(), bad)
	if err == nil {
		err = w.(sink.Gathering).Settle(t.Context())
	}
	require.ErrorIs(t, err, sink.ErrTogether)
	require.Len(t, x.rows(t, "a"), 100)
	err = x.claim(t, changefeed.Whole(), change.Mark{}).Write(t.Context(), bad)
	require.ErrorContains(t, err, "250")
	require.Equal(t, changefeed.CodeSinkRefused, changefeed.AsFault(err, changefeed.CodeSinkUnreachable).Code)
}

// Whoever settles waits no longer than it is told to.
func TestSettlingIsBounded(t *testing.T) {
	x, w := filled(t)
	x.gather(t, w, x.page(x.key("100"), x.key("200"), 50, numbers(100, 200)...))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.Error(t, w.(sink.Gathering).Settle(ctx))
	require.Error(t, w.Write(t.Context(), x.page(x.key("200"), x.key("201"), 50, "200")), "it is done with")
	require.Len(t, x.rows(t, "a"), 100)
}
