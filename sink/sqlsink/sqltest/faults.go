package sqltest

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
	"fencerow/sink/sqlsink"
)

func testTableMissing(t *testing.T, h Harness) {
	s := h.New(t).Open(t, me(), Way{Options: changefeed.Options{"create_tables": "false", "table": "bills"}})
	requireFault(t, s.Raise(t.Context(), 2, sink.KnownNothing), changefeed.CodeRequestInvalid, "bills", "CREATE TABLE")
}

func testTableWrong(t *testing.T, h Harness) {
	target := h.New(t)
	target.Exec(t, "CREATE TABLE few ("+h.Dialect.Quote("key")+" "+h.Dialect.Type(sqlsink.ColumnKey)+" PRIMARY KEY)")
	s := target.Open(t, me(), Way{Options: changefeed.Options{"table": "few"}})
	requireFault(t, s.Raise(t.Context(), 2, sink.KnownNothing), changefeed.CodeRequestInvalid, "few", "value", "missing", "CREATE TABLE")
	target.Exec(t, "CREATE TABLE narrow ("+h.Dialect.Quote("key")+" "+h.Dialect.Type(sqlsink.ColumnKey)+
		" PRIMARY KEY, value int, create_revision int, mod_revision int, version int, lease int)")
	s = target.Open(t, me(), Way{Options: changefeed.Options{"table": "narrow"}})
	requireFault(t, s.Raise(t.Context(), 2, sink.KnownNothing), changefeed.CodeRequestInvalid, "narrow", "value", "int")
}

func testTableTaken(t *testing.T, h Harness) {
	target := h.New(t)
	require.NoError(t, target.Open(t, me(), Way{}).Raise(t.Context(), 2, sink.KnownNothing))
	other := me()
	other.Changefeed.Name, other.UID = "bills", "uid-2"
	requireFault(t, target.Open(t, other, Way{}).Raise(t.Context(), 9, sink.KnownNothing), changefeed.CodeSinkInUse, "default/orders", "c1")
	require.NoError(t, target.Open(t, other, Way{Options: changefeed.Options{"table": "bills"}}).Raise(t.Context(), 9, sink.KnownNothing))
	moved := target.Open(t, me(), Way{Options: changefeed.Options{"table": "elsewhere"}})
	requireFault(t, moved.Raise(t.Context(), 3, sink.KnownNothing), changefeed.CodeSinkInUse, "elsewhere", "fencerow_data")
	require.NoError(t, target.Open(t, me(), Way{}).Remove(t.Context(), 4))
	require.NoError(t, target.Open(t, other, Way{Options: changefeed.Options{"table": "bills"}}).Raise(t.Context(), 10, sink.KnownNothing))
	third := me()
	third.Changefeed.Name, third.UID = "third", "uid-3"
	require.NoError(t, target.Open(t, third, Way{}).Raise(t.Context(), 9, sink.KnownNothing), "a table that was let go is free")
	kept, err := target.Open(t, third, Way{}).(sink.Inspector).Inspect(t.Context())
	require.NoError(t, err)
	require.Len(t, kept.Others, 2)
	require.Equal(t, third, kept.Head.Identity)
}

func testTableLost(t *testing.T, h Harness) {
	target := h.New(t)
	s := target.Open(t, me(), Way{})
	require.NoError(t, s.Raise(t.Context(), 2, sink.KnownNothing))
	w := claim(t, s, whole(2, 1))
	require.NoError(t, w.Write(t.Context(), upTo(2)))
	target.Exec(t, "DROP TABLE fencerow_data")
	requireFault(t, w.Write(t.Context(), upTo(3)), changefeed.CodeSinkUnreachable, "CREATE TABLE")
	requireFault(t, s.Raise(t.Context(), 3, sink.KnownCheckpoint), changefeed.CodeSinkLost, "fencerow_data")
}

func testRights(t *testing.T, h Harness) {
	target := h.New(t)
	poor := h.Poor(t, target)
	s := target.Open(t, me(), Way{User: poor})
	requireFault(t, s.Raise(t.Context(), 2, sink.KnownNothing), changefeed.CodeSinkUnreachable, "GRANT", poor)
	s = target.Open(t, me(), Way{User: "nobody_of_that_name"})
	requireFault(t, s.Raise(t.Context(), 2, sink.KnownNothing), changefeed.CodeSinkUnreachable)
}

// testRowRefused: the change that the target can't hold is named, and what comes before it in the batch is not there.
func testRowRefused(t *testing.T, h Harness) {
	target := h.New(t)
	s := target.Open(t, me(), Way{})
	require.NoError(t, s.Raise(t.Context(), 2, sink.KnownNothing))
	w := claim(t, s, whole(2, 1))
	long := set(3, "", "value")
	for i := range 400 { // too long for an index, also compressed
		long.Key = fmt.Appendf(long.Key, "%d-%x/", i*7919, i*104729)
	}
	long.Key = bytes.Repeat(long.Key, 4)
	batch := sink.Batch{Changes: []change.Change{put(2), long, put(4)}, Span: changefeed.Whole(), To: change.At(4)}
	err := w.Write(t.Context(), batch)
	requireFault(t, err, changefeed.CodeSinkRefused, "position 3, index 0", "fencerow_data", "changefeed skip default/orders --position 3 --index 0")
	again := claim(t, s, whole(2, 2))
	require.Equal(t, change.At(1), again.Pieces()[0].Mark)
	batch.Changes = []change.Change{put(2), put(4)}
	require.NoError(t, again.Write(t.Context(), batch))
}

// testHotKeys: one batch changes keys many times, in the end some are gone.
func testHotKeys(t *testing.T, h Harness) {
	for _, mode := range []string{"copy", "log"} {
		target := h.New(t)
		s := target.Open(t, me(), Way{Options: changefeed.Options{"mode": mode}})
		require.NoError(t, s.Raise(t.Context(), 2, sink.KnownNothing))
		w := claim(t, s, whole(2, 1))
		batch := sink.Batch{Span: changefeed.Whole(), To: change.At(1000)}
		for at := change.Position(2); at <= 1000; at++ {
			c := set(at, fmt.Sprintf("key-%d", at%3), fmt.Sprint(at))
			if at > 997 && at%3 == 0 {
				c.Op, c.After = change.OpDelete, nil
			}
			batch.Changes = append(batch.Changes, c)
		}
		require.NoError(t, w.Write(t.Context(), batch))
		want := []string{"key-1", "key-2"}
		if mode == "log" {
			want = nil
			for i := range batch.Changes {
				want = append(want, string(batch.Changes[i].Key))
			}
		}
		if mode == "log" {
			require.Equal(t, want, target.Log(t))
		} else {
			require.Equal(t, want, target.Keys(t))
		}
		require.NoError(t, w.Close())
	}
}

func testUnreachable(t *testing.T, h Harness) {
	s := h.New(t).Open(t, me(), Way{Host: "127.0.0.1:1"})
	requireFault(t, s.Raise(t.Context(), 2, sink.KnownNothing), changefeed.CodeSinkUnreachable, "127.0.0.1:1")
}

func testConnections(t *testing.T, h Harness) {
	target := h.New(t)
	s := target.Open(t, me(), Way{})
	require.NoError(t, s.Raise(t.Context(), 2, sink.KnownNothing))
	first := claim(t, s, whole(2, 1))
	second := claim(t, s, whole(2, 2))
	require.Error(t, first.Write(t.Context(), upTo(2)))
	require.NoError(t, second.Close())
	require.Eventually(t, func() bool { return target.Backends(t) == 0 }, pastMax, 20*time.Millisecond)
	require.NoError(t, s.Close())
}
