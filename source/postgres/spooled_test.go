package postgres

import (
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

func streamStart(xid uint32, first byte) wire { return append(wire{kindStreamStart}.u32(xid), first) }
func streamAbort(xid, sub uint32) wire        { return wire{kindStreamAbort}.u32(xid).u32(sub) }
func streamCommit(xid uint32, at uint64) wire {
	return append(wire{kindStreamCommit}.u32(xid), 0).u64(at).u64(at + 8).u64(5)
}

func streamStop() wire { return wire{kindStreamStop} }

// within is a message as it is in a block.
func within(sub uint32, message wire) wire {
	return append(wire{message[0]}.u32(sub), message[1:]...)
}

func insertWire(oid uint32, id string) wire {
	return wire{kindInsert}.u32(oid).tuple(tupleNew, id, "x")
}

func namedWire(oid uint32, schema string) wire {
	w := append(wire{kindRelation}.u32(oid).text(schema).text("a"), identityDefault).u16(2)
	return w.column("id", oidInt8, 1).column("v", 25, 0)
}

// beginOf is a Begin as a streamed transaction gets it.
func beginOf(xid uint32, at uint64) wire { return wire{kindBegin}.u64(at).u64(5).u32(xid) }

func commitAt(at uint64) wire { return append(wire{kindCommit}, 0).u64(at).u64(at + 8).u64(5) }

// passed returns what a spool gives on of messages.
func passed(t *testing.T, s *spool, messages ...wire) (out []wire) {
	t.Helper()
	for _, message := range messages {
		require.NoError(t, s.take(message, func(given []byte) error {
			out = append(out, slices.Clone(given))
			return nil
		}))
	}
	return out
}

func spoolOf(t *testing.T, bytesMax int64) *spool {
	t.Helper()
	s := newSpool(filepath.Join(t.TempDir(), "streamed"), bytesMax, new(atomic.Int64))
	t.Cleanup(s.close)
	return s
}

func TestStreamedTransactionsAreGivenOnWhenTheyCommit(t *testing.T) {
	r, q := relationWire(1), relationWire(2)
	truncate := append(wire{kindTruncate}.u32(1), 0).u32(1)
	plain := []wire{begin(50), r, insertWire(1, "0"), commit(50)}
	for name, c := range map[string]struct{ messages, want []wire }{
		"none": {messages: plain, want: plain},
		"two whose blocks come in turn, and one that is not streamed": {
			messages: slices.Concat([]wire{
				streamStart(7, 1), within(7, r), within(7, insertWire(1, "1")), streamStop(),
				streamStart(9, 1), within(9, q), within(9, insertWire(2, "2")), streamStop(),
			}, plain, []wire{
				streamStart(7, 0), within(7, insertWire(1, "3")), within(7, truncate), streamStop(),
				streamStart(9, 0), within(9, insertWire(2, "4")), streamStop(),
				streamCommit(9, 90), streamCommit(7, 100),
			}),
			want: slices.Concat(plain,
				[]wire{beginOf(9, 90), q, insertWire(2, "2"), insertWire(2, "4"), commitAt(90)},
				// The description that came with the others is newer, and is read again after the older one.
				[]wire{beginOf(7, 100), r, insertWire(1, "1"), insertWire(1, "3"), truncate, commitAt(100), r}),
		},
		"a subtransaction that was rolled back, which others have their table's description from": {
			messages: []wire{
				streamStart(7, 1), within(8, r), within(8, wire{kindType}.u32(70000).text("public").text("mood")), within(8, insertWire(1, "1")),
				within(7, insertWire(1, "2")), streamStop(), streamAbort(7, 8), streamStart(7, 0), within(9, insertWire(1, "3")), streamStop(),
				streamCommit(7, 100),
			},
			want: []wire{
				beginOf(7, 100), r, wire{kindType}.u32(70000).text("public").text("mood"), insertWire(1, "2"), insertWire(1, "3"), commitAt(100),
			},
		},
		"one that was rolled back, beside one that was not": {
			messages: []wire{
				streamStart(7, 1), within(7, r), within(7, insertWire(1, "1")), streamStop(),
				streamStart(9, 1), within(9, r), within(9, insertWire(1, "2")), streamStop(),
				streamAbort(7, 8), streamAbort(7, 7), streamAbort(7, 7), streamCommit(9, 90),
			},
			want: []wire{beginOf(9, 90), r, insertWire(1, "2"), commitAt(90)},
		},
		"where it came from first is of no interest": {
			messages: []wire{streamStart(7, 1), wire{kindOrigin}.u64(3).text("there"), within(7, r), streamStop(), streamCommit(7, 100)},
			want:     []wire{beginOf(7, 100), r, commitAt(100)},
		},
		"empty": {
			messages: []wire{streamStart(7, 1), streamStop(), streamCommit(7, 100)},
			want:     []wire{beginOf(7, 100), commitAt(100)},
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := spoolOf(t, streamSpoolMax)
			require.Equal(t, c.want, passed(t, s, c.messages...))
			require.Empty(t, s.open)
			require.Zero(t, s.used.Load())
		})
	}
}

// A description that was streamed earlier than another came, and is read later, is not what the table is like from then on: the server
// has said the newer one, and says it once.
func TestTheNewestDescriptionOfATableIsReadLast(t *testing.T) {
	older, newer, newest := namedWire(1, "before"), namedWire(1, "after"), namedWire(1, "last")
	s := spoolOf(t, streamSpoolMax)
	messages := passed(t, s,
		streamStart(7, 1), within(7, older), within(7, insertWire(1, "1")), streamStop(),
		begin(50), newer, insertWire(1, "2"), commit(50),
		streamCommit(7, 100),
		begin(110), insertWire(1, "3"), commit(110),
		streamStart(9, 1), within(9, newest), within(9, insertWire(1, "4")), streamStop(), streamCommit(9, 120),
		begin(130), insertWire(1, "5"), commit(130),
	)
	a := newAssembler(change.Mark{})
	require.NoError(t, feed(a, messages...))
	event, some := a.event()
	require.True(t, some)
	var tables []string
	for _, one := range event.Changes {
		tables = append(tables, one.Table)
	}
	require.Equal(t, []string{"after.a", "before.a", "after.a", "last.a", "last.a"}, tables)
}

func TestStreamsOutOfPlaceAreMalformed(t *testing.T) {
	r := relationWire(1)
	for name, messages := range map[string][]wire{
		"nothing":                      {{}},
		"a start that is cut":          {streamStart(7, 1)[:5]},
		"a start that goes on":         {append(streamStart(7, 1), 0)},
		"a start of another kind":      {streamStart(7, 2)},
		"a start in a block":           {streamStart(7, 1), streamStart(9, 1)},
		"a first start of the known":   {streamStart(7, 1), streamStop(), streamStart(7, 1)},
		"a later start of the unknown": {streamStart(7, 0)},
		"a stop without a start":       {streamStop()},
		"a stop that goes on":          {streamStart(7, 1), append(streamStop(), 0)},
		"a commit of the unknown":      {streamCommit(7, 100)},
		"a second commit":              {streamStart(7, 1), streamStop(), streamCommit(7, 100), streamCommit(7, 100)},
		"a commit in a block":          {streamStart(7, 1), streamCommit(7, 100)},
		"a commit that is cut":         {streamStart(7, 1), streamStop(), streamCommit(7, 100)[:29]},
		"a commit after an abort":      {streamStart(7, 1), streamStop(), streamAbort(7, 7), streamCommit(7, 100)},
		"an abort in a block":          {streamStart(7, 1), streamAbort(7, 7)},
		"an abort that is cut":         {streamAbort(7, 7)[:8]},
		"an abort that goes on":        {append(streamAbort(7, 7), 0)},
		"a transaction in a block":     {streamStart(7, 1), begin(100)},
		"a change that is cut":         {streamStart(7, 1), wire{kindInsert, 0, 0, 0}},
		"a description that is cut":    {streamStart(7, 1), within(7, r)[:8]},
		"an unknown kind in a block":   {streamStart(7, 1), within(7, wire{'?'})},
	} {
		s := spoolOf(t, streamSpoolMax)
		var err error
		for i, message := range messages {
			require.NoError(t, err, "%s: %d", name, i)
			err = s.take(message, func([]byte) error { return nil })
		}
		require.ErrorIs(t, err, errMalformed, name)
	}
}

func TestWhatTheDiskCanNotHoldIsNotSpooled(t *testing.T) {
	row := within(7, insertWire(1, "1"))
	size := int64(recordBytes + len(row) - 4)
	nothing := func([]byte) error { return nil }
	t.Run("more than its bound", func(t *testing.T) {
		s := spoolOf(t, 3*size)
		passed(t, s, streamStart(7, 1), row, row, streamStop(), streamStart(9, 1), row)
		require.ErrorIs(t, s.take(row, nothing), errNotSpooled)
	})
	t.Run("what was given on or dropped counts no more", func(t *testing.T) {
		s := spoolOf(t, 3*size)
		for xid := range uint32(5) {
			passed(t, s, streamStart(xid, 1), row, row, row, streamStop())
			if xid%2 == 0 {
				passed(t, s, streamAbort(xid, xid))
			} else {
				passed(t, s, streamCommit(xid, 100))
			}
		}
	})
	t.Run("more than the disk has to spare", func(t *testing.T) {
		s := spoolOf(t, streamSpoolMax)
		passed(t, s, streamStart(7, 1), row, streamStop())
		s.spare = 1 << 62
		require.ErrorIs(t, s.take(streamStart(7, 0), nothing), errNotSpooled)
	})
	t.Run("too many at once", func(t *testing.T) {
		s := spoolOf(t, streamSpoolMax)
		for xid := range uint32(streamsMax) {
			passed(t, s, streamStart(xid, 1), streamStop())
		}
		require.ErrorIs(t, s.take(streamStart(streamsMax, 1), nothing), errNotSpooled)
	})
	t.Run("too much rolled back", func(t *testing.T) {
		s := spoolOf(t, streamSpoolMax)
		passed(t, s, streamStart(7, 1), streamStop())
		for i := range uint32(streamAbortsMax) {
			s.open[7].aborted[8+i] = struct{}{}
		}
		require.ErrorIs(t, s.take(streamAbort(7, 1), nothing), errNotSpooled)
		passed(t, s, streamAbort(7, 7))
	})
	t.Run("no directory", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "file")
		require.NoError(t, os.WriteFile(file, nil, 0o600))
		s := newSpool(filepath.Join(file, "below"), streamSpoolMax, new(atomic.Int64))
		require.ErrorIs(t, s.take(streamStart(7, 1), nothing), errNotSpooled)
	})
	t.Run("a file that can't be written", func(t *testing.T) {
		s := spoolOf(t, streamSpoolMax)
		passed(t, s, streamStart(7, 1), row)
		require.NoError(t, s.current.file.Close())
		require.ErrorIs(t, s.take(streamStop(), nothing), errNotSpooled)
	})
	t.Run("a file that lost its end", func(t *testing.T) {
		s := spoolOf(t, streamSpoolMax)
		passed(t, s, streamStart(7, 1), row, row, streamStop())
		require.NoError(t, s.open[7].file.Truncate(2*size-1))
		require.ErrorIs(t, s.take(streamCommit(7, 100), nothing), errNotSpooled)
	})
}

// Nobody else can read what is spooled, and whatever ends the process leaves nothing.
func TestTheFilesOfASpoolHaveNoNames(t *testing.T) {
	s := spoolOf(t, streamSpoolMax)
	passed(t, s, streamStart(7, 1), within(7, insertWire(1, "1")), streamStop())
	names, err := os.ReadDir(s.directory)
	require.NoError(t, err)
	require.Empty(t, names)
	folder, err := os.Stat(s.directory)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o700), folder.Mode().Perm())
	file, err := s.open[7].file.Stat()
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), file.Mode().Perm())
	held := s.open[7].file
	s.close()
	require.ErrorIs(t, held.Close(), os.ErrClosed)
}

// What a stream becomes is what the same transaction is without streaming, also where it is larger than one event.
func TestAStreamedTransactionHasTheChangesOfAWholeOne(t *testing.T) {
	const rows = 2*eventChangesMax + 10
	whole := []wire{beginOf(7, 100), relationWire(1)}
	blocks := []wire{streamStart(7, 1), within(7, relationWire(1))}
	for i := range rows {
		if i%100 == 99 {
			dropped := uint32(1000 + i)
			blocks = append(blocks, within(dropped, insertWire(1, "-1")), streamStop(), streamAbort(7, dropped), streamStart(7, 0))
		}
		whole = append(whole, insertWire(1, strconv.Itoa(i)))
		blocks = append(blocks, within(7, insertWire(1, strconv.Itoa(i))))
	}
	whole, blocks = append(whole, commitAt(100)), append(blocks, streamStop(), streamCommit(7, 100))
	require.Equal(t, whole, passed(t, spoolOf(t, streamSpoolMax), blocks...))
}

// FuzzStreams holds that bytes of whatever kind are given on, kept, or an error, and that what is kept is counted.
func FuzzStreams(f *testing.F) {
	join := func(messages ...wire) (out []byte) {
		for _, message := range messages {
			out = append(append(out, byte(len(message)>>8), byte(len(message))), message...)
		}
		return out
	}
	r := relationWire(1)
	f.Add(join(streamStart(7, 1), within(7, r), within(8, insertWire(1, "1")), streamStop(), streamAbort(7, 8), streamCommit(7, 100)))
	f.Add(join(streamStart(7, 1), within(7, r), streamStop(), begin(9), r, insertWire(1, "1"), commit(9), streamCommit(7, 100)))
	f.Add(join(streamStart(7, 1), wire{kindOrigin}.u64(3).text("there"), within(7, append(wire{kindMessage}, 1).u64(3).text("fencerow").u32(0)), streamStop()))
	directory := f.TempDir()
	f.Fuzz(func(t *testing.T, data []byte) {
		s := newSpool(directory, 1<<16, new(atomic.Int64))
		defer s.close()
		a := newAssembler(change.At(1))
		for len(data) >= 2 {
			n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
			message := wire(data[2 : 2+n])
			data = data[2+n:]
			var refused error // by who reads it
			err := s.take(message, func(given []byte) error {
				refused = feed(a, given)
				return refused
			})
			var bytes int64
			for _, one := range s.open {
				bytes += one.bytes
			}
			require.Equal(t, bytes, s.used.Load())
			if err != nil {
				if refused == nil {
					require.True(t, errors.Is(err, errMalformed) || errors.Is(err, errNotSpooled), err)
				}
				return
			}
		}
	})
}
