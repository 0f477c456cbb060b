package file

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/codec"
	"fencerow/fence"
	"fencerow/sink"
)

func TestOptions(t *testing.T) {
	got, err := parseSettings(changefeed.Options{
		"rotate_bytes": "8KiB", "rotate_interval": "10m", "compress": "zstd", "retain": "168h", "split_keys": "a",
	})
	require.NoError(t, err)
	require.Equal(t, settings{rotateBytes: 8192, rotateInterval: 10 * time.Minute, compress: compressZstd, retain: 168 * time.Hour}, got)
	defaults, err := parseSettings(nil)
	require.NoError(t, err)
	require.Equal(t, settings{rotateBytes: 64 << 20, rotateInterval: time.Hour, compress: compressNone}, defaults)
	for name, values := range map[string][]string{
		"rotate_bytes":    {"", "1", "-5", "4095", "1TiB", "99999999999GiB"},
		"rotate_interval": {"", "1", "999ms", "-1h", "soon"},
		"compress":        {"", "gzip"},
		"retain":          {"", "7d", "0.5s"},
	} {
		for _, value := range values {
			_, err := Open(Config{Directory: "/x", Options: changefeed.Options{name: value}})
			var fault *changefeed.Fault
			require.ErrorAs(t, err, &fault, "%s=%s", name, value)
			require.Equal(t, "options."+name, fault.Field)
		}
	}
}

func TestRotationBySizeAndTime(t *testing.T) {
	p := newPlace(t)
	p.options["rotate_bytes"] = "4KiB"
	p.options["rotate_interval"] = "1m"
	w := p.claim(p.node(), p.next(changefeed.Whole()))
	var want []string
	for position := change.Position(2); position < 60; position++ {
		p.write(w, put(changefeed.Whole(), position, "a", "b"))
		want = append(want, fmt.Sprintf("update a@%d", position), fmt.Sprintf("update b@%d", position))
	}
	bySize := len(p.dataFiles())
	require.Greater(t, bySize, 3)
	require.Equal(t, want, p.read())
	p.now = p.now.Add(time.Minute)
	p.write(w, put(changefeed.Whole(), 60, "a"))
	require.Len(t, p.dataFiles(), bySize+1)
	next := p.claim(p.node(), p.next(changefeed.Whole()))
	require.Equal(t, change.At(60), next.Pieces()[0].Mark, "the last segment's header and batches tell how far it is")
	require.Equal(t, append(want, "update a@60"), p.read())

	// A segment that counts and is cut or gone is noticed.
	cut := p.copied()
	require.NoError(t, os.Truncate(cut.dataFiles()[0], 900))
	_, err := tryRead(t, cut)
	p.requireFault(err, changefeed.CodeSinkLost)
	require.NoError(t, os.Remove(p.dataFiles()[1]))
	_, err = tryRead(t, p)
	p.requireFault(err, changefeed.CodeSinkLost)
}

// TestRetention deletes whole old segments, and neither positions nor what may still grow.
func TestRetention(t *testing.T) {
	p := newPlace(t)
	p.options["rotate_bytes"] = "4KiB"
	p.options["retain"] = "1h"
	s := p.node()
	w := p.claim(s, p.next(span("", "m")))
	idle := p.claim(s, p.next(span("m", "")))
	p.write(idle, put(span("m", ""), 3, "n"))
	fill := func(from, to change.Position) {
		for position := from; position < to; position++ {
			p.write(w, put(span("", "m"), position, strings.Repeat("k", 100)))
		}
	}
	fill(2, 30)
	p.now = p.now.Add(2 * time.Hour)
	fill(30, 60)
	files := p.dataFiles()
	require.NotContains(t, strings.Join(files, "\n"), "00000002-000001", "the first segment is retired")
	require.Contains(t, strings.Join(files, "\n"), "00000003-000001", "the idle claim's only segment stays")
	lines := p.read()
	require.Contains(t, lines[len(lines)-1], "@59")
	p.claim(s, p.next(changefeed.Whole()))
	fresh := p.claim(s, p.next(changefeed.Whole()))
	require.Equal(t, []sink.Piece{
		{Span: span("", "m"), Mark: change.At(59)}, {Span: span("m", ""), Mark: change.At(3)},
	}, normal(fresh.Pieces()))
	require.Empty(t, p.dataFiles(), "what was sealed and is old is gone, positions are not")
	require.Empty(t, p.read())
}

// normal makes empty borders comparable.
func normal(pieces []sink.Piece) []sink.Piece {
	var out []sink.Piece
	for _, piece := range pieces {
		out = append(out, sink.Piece{Span: span(string(piece.Span.Start), string(piece.Span.End)), Mark: piece.Mark})
	}
	return out
}

// page is a page of a snapshot.
func page(in changefeed.Span, at change.Position, keys ...string) sink.Batch {
	batch := put(in, at, keys...)
	batch.Snapshot = true
	for i := range batch.Changes {
		batch.Changes[i].Op = change.OpRead
	}
	return batch
}

// TestResnapshotAppendsDeletes (hazard 64): after a gap a snapshot is written over what is there; keys that it does not
// have are deleted at its position.
func TestResnapshotAppendsDeletes(t *testing.T) {
	p := newPlace(t)
	s := p.node()
	first := p.claim(s, sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(1, 1)})
	p.write(first, page(span("", "e"), 10, "a", "b", "c"))
	require.Nil(t, first.keys, "nothing was written here before, so nothing is read")
	p.write(first, page(span("e", ""), 10, "e", "f"))
	require.Nil(t, first.keys)
	p.write(first, put(changefeed.Whole(), 12, "g", "b"))
	gone := put(changefeed.Whole(), 13, "c")
	gone.Changes[0].Op, gone.Changes[0].After = change.OpDelete, nil
	p.write(first, gone)
	before := p.read()

	p.seq = 1
	second := p.claim(s, p.next(changefeed.Whole()))
	p.write(second, page(span("", "b2"), 50, "a"))
	require.NotNil(t, second.keys)
	p.write(second, page(span("b2", ""), 50, "f", "x"))
	p.write(second, put(changefeed.Whole(), 51, "b"))
	p.write(second, page(changefeed.Whole(), 70, "f"))
	got := p.read()[len(before):]
	require.Equal(t, []string{
		"read a@50", "delete b@50", "read f@50", "read x@50", "delete e@50", "delete g@50", "update b@51",
		"read f@70", "delete a@70", "delete b@70", "delete x@70",
	}, got)
	for _, line := range readLines(t, p.directory, p.identity.UID) {
		record, err := codec.Decode([]byte(line))
		require.NoError(t, err)
		require.Equal(t, record.Op == change.OpDelete, record.After == nil)
	}
}

// TestLiveKeysAreBounded: with little memory the keys are taken in several passes, and the deletes are the same.
func TestLiveKeysAreBounded(t *testing.T) {
	p := newPlace(t)
	w := p.claim(p.node(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(1, 1)})
	var keys, want []string
	for i := range 100 {
		keys = append(keys, fmt.Sprintf("k%02d", i))
		if i%10 != 0 {
			want = append(want, keys[i])
		}
	}
	p.write(w, put(changefeed.Whole(), 2, keys...))
	w.keysBytesMax = 10 * (liveKeyOverheadBytes + 3)
	kept := page(changefeed.Whole(), 9)
	for i := 0; i < 100; i += 10 {
		kept.Changes = append(kept.Changes, page(changefeed.Whole(), 9, keys[i]).Changes...)
		kept.Changes[len(kept.Changes)-1].Index = uint32(i)
	}
	p.write(w, kept)
	require.Less(t, len(w.keys.keys), 11)
	var deleted []string
	for _, line := range p.read() {
		if key, found := strings.CutPrefix(line, "delete "); found {
			deleted = append(deleted, strings.TrimSuffix(key, "@9"))
		}
	}
	require.ElementsMatch(t, want, deleted)
	require.Equal(t, change.At(9), p.claim(p.node(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(1, 2)}).Pieces()[0].Mark)
}

// TestNewestCreationIsReadByDefault: a re-created changefeed inherits nothing, and the older one stays readable.
func TestNewestCreationIsReadByDefault(t *testing.T) {
	p := newPlace(t)
	s := p.node()
	w := p.claim(s, p.next(changefeed.Whole()))
	p.write(w, put(changefeed.Whole(), 5, "old"))
	old := *p
	p.identity.UID = "uid-2"
	again, err := Open(Config{Identity: p.identity, Directory: p.directory})
	require.NoError(t, err)
	require.NoError(t, again.Raise(t.Context(), 2, sink.KnownNothing))
	require.ErrorIs(t, w.Write(t.Context(), put(changefeed.Whole(), 6, "late")), fence.ErrStale)
	fresh := p.claim(again, sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(2, 1), From: change.At(3)})
	require.Equal(t, change.At(3), fresh.Pieces()[0].Mark)
	p.write(fresh, put(changefeed.Whole(), 4, "new"))
	require.Equal(t, []string{"update old@5"}, old.read())
	reader, err := OpenReader(ReaderConfig{Directory: p.directory, Mode: ReadPresent})
	require.NoError(t, err)
	require.Equal(t, p.identity, reader.Identity())
	item, err := reader.Next(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"update new@4"}, p.brief([]string{string(item.Line)}))
	require.NoError(t, reader.Close())
}

func TestLeftoversAreRemoved(t *testing.T) {
	p := newPlace(t)
	s := p.node()
	name := filepath.Join(p.directory, claimsDirectory, temporaryPrefix+"x")
	require.NoError(t, os.WriteFile(name, []byte("half"), fileMode))
	require.NoError(t, s.Raise(t.Context(), 2, sink.KnownNothing))
	require.FileExists(t, name, "its writer may be alive")
	p.now = p.now.Add(2 * temporaryAgeMax)
	require.NoError(t, s.Raise(t.Context(), 3, sink.KnownNothing))
	require.NoFileExists(t, name)
}

func BenchmarkWrite(b *testing.B) {
	for _, compress := range []string{"none", "zstd"} {
		b.Run(compress, func(b *testing.B) {
			s, err := Open(Config{
				Identity:  sink.Identity{Cluster: "c", Changefeed: changefeed.ID{Namespace: "default", Name: "x"}, UID: "u"},
				Directory: filepath.Join(b.TempDir(), "x"), Options: changefeed.Options{"compress": compress},
			})
			require.NoError(b, err)
			require.NoError(b, s.Raise(b.Context(), 1, sink.KnownNothing))
			w, err := s.Claim(b.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(1, 1), From: change.At(1)})
			require.NoError(b, err)
			batch := sink.Batch{Span: changefeed.Whole()}
			value := []byte(strings.Repeat("0123456789", 20))
			for i := range batchChangesMax {
				key := fmt.Appendf(nil, "/orders/%08d", i)
				batch.Changes = append(batch.Changes, change.Change{Op: change.OpUpdate, Key: key, After: &change.KV{Key: key, Value: value}})
			}
			position := change.Position(1)
			b.ReportAllocs()
			for b.Loop() {
				position++
				batch.To = change.At(position)
				if err := w.Write(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)*batchChangesMax/b.Elapsed().Seconds(), "changes/s")
			require.NoError(b, w.Close())
		})
	}
}
