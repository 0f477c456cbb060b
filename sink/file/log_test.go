package file

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// asLog makes the sink a log of which nobody needs what lies at or below a position.
func asLog(s *Sink, needless *change.Position) *Sink {
	s.log = &Log{Needless: func(context.Context) change.Position { return *needless }}
	return s
}

// TestALogIsRetiredOnlyWhereNobodyNeedsIt: age alone is not enough.
func TestALogIsRetiredOnlyWhereNobodyNeedsIt(t *testing.T) {
	p := newPlace(t)
	p.options["rotate_bytes"], p.options["retain"] = "4KiB", "1h"
	var needless change.Position
	s := asLog(p.node(), &needless)
	w := p.claim(s, p.next(changefeed.Whole()))
	fill := func(from, to change.Position) {
		for position := from; position < to; position++ {
			p.write(w, put(changefeed.Whole(), position, strings.Repeat("k", 100)))
		}
	}
	fill(2, 60)
	all := len(p.dataFiles())
	require.Greater(t, all, 3)
	p.now = p.now.Add(2 * time.Hour)
	fill(60, 90)
	require.Len(t, p.read(), 88, "what the target lacks stays, however old")
	needless = 20
	fill(90, 110)
	lines := p.read()
	require.Less(t, len(lines), 108)
	last := p.brief(readLines(p, p.directory, p.identity.UID))[0]
	require.NotContains(t, strings.Join(lines, "\n"), "@2\n")
	require.Contains(t, strings.Join(lines, "\n"), "@21", "a segment goes only when all of it is needless; the first left is %s", last)
	require.Contains(t, strings.Join(lines, "\n"), "@109")

	// What is left says that something came before.
	reader, err := OpenLog(p.directory)
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()
	first, err := reader.Next(t.Context())
	require.NoError(t, err)
	require.True(t, first[0].Retired)
	require.LessOrEqual(t, first[0].To.Position, needless)

	// Claims that have ended go wholly, and say so too.
	needless = 1000
	p.claim(s, p.next(changefeed.Whole()))
	p.claim(s, p.next(changefeed.Whole()))
	require.Empty(t, p.dataFiles())
	again, err := OpenLog(p.directory)
	require.NoError(t, err)
	defer func() { require.NoError(t, again.Close()) }()
	gone, err := again.Next(t.Context())
	require.NoError(t, err)
	require.True(t, gone[0].Retired)
	require.Equal(t, change.At(109), gone[0].To)
	_, err = again.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
}

// TestMarksOfALogAreNeverTooHigh: others go by them before they write.
func TestMarksOfALogAreNeverTooHigh(t *testing.T) {
	p := newPlace(t)
	var none change.Position
	s, other := asLog(p.node(), &none), asLog(p.reopen(), &none)
	broken := false
	s.disk = &faultyDisk{fail: func(effect, name string) error {
		if broken && effect == "sync" && strings.Contains(name, dataDirectory) {
			return errors.New("input/output error")
		}
		return nil
	}}
	at := func(key string) change.Mark {
		m, err := other.Marks(t.Context())
		require.NoError(t, err)
		for _, held := range m.Held() {
			if held.Span.Contains([]byte(key)) {
				return held.Mark
			}
		}
		return change.Mark{}
	}
	left, right := p.claim(s, p.next(span("", "m"))), p.claim(s, p.next(span("m", "")))
	require.Equal(t, change.At(1), at("a"))
	p.write(left, put(span("", "m"), 7, "a"))
	require.Equal(t, change.At(7), at("a"))
	require.Equal(t, change.At(1), at("n"))
	p.write(right, put(span("m", "t"), 9, "n"))
	require.Equal(t, change.At(1), at("n"), "a claim is where its part is that is furthest behind")
	p.write(right, put(span("m", ""), 1<<40, "z"))
	require.Equal(t, change.At(1<<40), at("n"))

	// A batch that is not synced is not told.
	broken = true
	require.Error(t, left.Write(t.Context(), put(span("", "m"), 11, "a")))
	require.LessOrEqual(t, at("a").Position, change.Position(7))

	// A hint that is torn, or gone, only makes it lower.
	broken = false
	fresh := p.claim(s, p.next(span("", "m")))
	p.write(fresh, put(span("", "m"), 12, "b"))
	hint, err := osDisk{}.Overwrite(reachedName(p.directory, fresh.Incarnation()))
	require.NoError(t, err)
	_, err = hint.WriteAt([]byte(`{"reached":"9`), 0)
	require.NoError(t, err)
	require.NoError(t, hint.Close())
	require.Equal(t, change.At(7), at("a"))
	require.NoError(t, fresh.Close())
	next := p.claim(s, p.next(span("", "m")))
	require.Equal(t, []sink.Piece{{Span: span("", "m"), Mark: change.At(12)}}, normal(next.Pieces()))
}

// TestALogIsReadBackAsItWasWritten, and goes on with what comes.
func TestALogIsReadBackAsItWasWritten(t *testing.T) {
	p := newPlace(t)
	s := p.node()
	w := p.claim(s, p.next(changefeed.Whole()))
	first := put(changefeed.Whole(), 7, "a", "b\xff")
	first.Changes[1].Op, first.Changes[1].After = change.OpDelete, nil
	first.Changes[0].Before = &change.KV{Key: []byte("a"), Value: []byte{0xfe}, CreateRevision: 3, ModRevision: 5, Version: 2, Lease: 9}
	p.write(w, first)
	reader, err := OpenLog(p.directory)
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()
	got, err := reader.Next(t.Context())
	require.NoError(t, err)
	require.Len(t, got, 1)
	require.Equal(t, first.Changes, got[0].Changes)
	require.Equal(t, first.To, got[0].To)
	_, err = reader.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)

	p.write(w, page(changefeed.Whole(), 9, "c"))
	require.NoError(t, reader.Refresh())
	got, err = reader.Next(t.Context())
	require.NoError(t, err)
	require.True(t, got[0].Snapshot)
	_, err = reader.Next(t.Context())
	require.ErrorIs(t, err, io.EOF)
	m, err := reader.Marks()
	require.NoError(t, err)
	require.Equal(t, change.At(9), m.Held()[0].Mark)
}
