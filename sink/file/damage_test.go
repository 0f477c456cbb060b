package file

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// threeBatches returns a place with one segment of three batches, and where the third begins and ends.
func threeBatches(t *testing.T, compress string) (p *place, data string, start, end int64) {
	t.Helper()
	p = newPlace(t)
	p.options["compress"] = compress
	w := p.claim(p.node(), p.next(changefeed.Whole()))
	p.write(w, put(changefeed.Whole(), 2, "a", "b"))
	p.write(w, put(changefeed.Whole(), 3, "a"))
	start = w.size
	p.write(w, put(changefeed.Whole(), 4, "c", "d"))
	end = w.counted
	require.NoError(t, w.Close())
	return p, p.dataFiles()[0], start, end
}

// TestTornTails cuts the file at every byte of the last batch: what is left is read and claimed from.
func TestTornTails(t *testing.T) {
	for _, compress := range []string{"none", "zstd"} {
		t.Run(compress, func(t *testing.T) {
			p, data, start, end := threeBatches(t, compress)
			whole := mustRead(t, data)
			all := p.read()
			require.Len(t, all, 5)
			for cut := start; cut <= int64(len(whole)); cut++ {
				if raced && cut%5 > 0 && cut != end-1 && cut != end && cut != int64(len(whole)) {
					continue
				}
				require.NoError(t, os.WriteFile(data, whole[:cut], fileMode))
				if cut == int64(len(whole)) {
					require.Equal(t, all, p.read())
				} else {
					require.Equal(t, all[:3], p.read(), "without a commit mark a batch is not read live")
				}
				fresh := p.claim(p.node(), p.next(changefeed.Whole()))
				want, mark := append([]string{}, all[:3]...), change.At(3)
				if cut >= end {
					want, mark = append([]string{}, all...), change.At(4)
				}
				require.Equal(t, mark, fresh.Pieces()[0].Mark, "cut at %d", cut)
				p.write(fresh, put(changefeed.Whole(), 9, "z"))
				require.Equal(t, append(want, "update z@9"), p.read(), "cut at %d", cut)
				for _, name := range []string{claimName(p.directory, 3), sealName(p.directory, 2), p.dataFiles()[1]} {
					require.NoError(t, os.Remove(name))
				}
			}
		})
	}
}

// TestFlippedBits flips a bit in every byte: nothing wrong is ever read, and nothing that counts is left out silently.
func TestFlippedBits(t *testing.T) {
	for _, compress := range []string{"none", "zstd"} {
		t.Run(compress, func(t *testing.T) {
			p, data, _, end := threeBatches(t, compress)
			whole := mustRead(t, data)
			all := p.read()
			for at := range whole {
				flipped := append([]byte(nil), whole...)
				flipped[at] ^= 1 << (at % 7)
				require.NoError(t, os.WriteFile(data, flipped, fileMode))
				lines, err := tryRead(t, p)
				if err == nil {
					require.GreaterOrEqual(t, int64(at), end, "a flip at %d was not noticed", at)
					require.Equal(t, all[:3], p.brief(lines))
				} else {
					p.requireFault(err, changefeed.CodeSinkLost)
					require.Equal(t, all[:len(lines)], p.brief(lines))
				}
			}
			// Whoever claims finds it as well.
			whole[end/2] ^= 4
			require.NoError(t, os.WriteFile(data, whole, fileMode))
			_, err := p.node().Claim(t.Context(), p.next(changefeed.Whole()))
			p.requireFault(err, changefeed.CodeSinkLost)
		})
	}
}

func tryRead(t *testing.T, p *place) (lines []string, err error) {
	t.Helper()
	reader, err := OpenReader(ReaderConfig{Directory: p.directory, Mode: ReadPresent})
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()
	for {
		item, err := reader.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return lines, nil
		}
		if err != nil {
			return lines, err
		}
		lines = append(lines, string(item.Line))
	}
}

func TestDamagedRecordsAreNamed(t *testing.T) {
	p, _, _, _ := threeBatches(t, "none")
	p.claim(p.node(), p.next(changefeed.Whole()))
	for _, pattern := range []string{"claims/*2.json", "seals/*2.json"} {
		other := p.copied()
		names, err := filepath.Glob(filepath.Join(other.directory, pattern))
		require.NoError(t, err)
		content := mustRead(t, names[0])
		content[len(content)/2] ^= 1
		require.NoError(t, os.WriteFile(names[0], content, fileMode))
		s, err := Open(Config{Identity: p.identity, Directory: other.directory})
		require.NoError(t, err)
		fault := p.requireFault(s.Raise(t.Context(), 1, sink.KnownCheckpoint), changefeed.CodeSinkLost)
		require.Equal(t, names[0], fault.Value)
	}
	require.NoError(t, os.Remove(claimName(p.directory, 1)))
	s, err := Open(Config{Identity: p.identity, Directory: p.directory})
	require.NoError(t, err)
	p.requireFault(s.Raise(t.Context(), 1, sink.KnownNothing), changefeed.CodeSinkLost)
}

// TestFullDisk: the batch that did not fit is not in the sink, nothing else is lost, and it goes on with space.
func TestFullDisk(t *testing.T) {
	for _, effect := range []string{"write", "sync", "create", "link"} {
		t.Run(effect, func(t *testing.T) {
			p := newPlace(t)
			s := p.node()
			full := false
			s.disk = &faultyDisk{fail: func(kind, name string) error {
				if full && kind == effect && !strings.Contains(name, "/"+sealsDirectory+"/") {
					return syscall.ENOSPC
				}
				return nil
			}}
			w := p.claim(s, p.next(changefeed.Whole()))
			p.write(w, put(changefeed.Whole(), 5, "a"))
			full = true
			err := w.Write(t.Context(), put(changefeed.Whole(), 6, "b"))
			if effect == "write" || effect == "sync" {
				require.False(t, p.requireFault(err, changefeed.CodeSinkFull).Permanent)
				require.NotErrorIs(t, err, fence.ErrStale)
				require.Equal(t, []string{"update a@5"}, p.read())
			}
			_, err = s.Claim(t.Context(), p.next(changefeed.Whole()))
			require.False(t, p.requireFault(err, changefeed.CodeSinkFull).Permanent)
			full = false
			again := p.claim(s, p.next(changefeed.Whole()))
			before := p.read()
			p.write(again, put(changefeed.Whole(), 9, "c"))
			require.Equal(t, append(before, "update c@9"), p.read())
			require.NotEqual(t, change.At(9), again.Pieces()[0].Mark)
			leftovers, err := filepath.Glob(filepath.Join(p.directory, "*", temporaryPrefix+"*"))
			require.NoError(t, err)
			require.Empty(t, leftovers)
		})
	}
}

// TestSyncFailed: a batch whose sync failed is never counted, though it stands whole in the file: the writer has sealed
// itself before it.
func TestSyncFailed(t *testing.T) {
	p := newPlace(t)
	s := p.node()
	broken := false
	s.disk = &faultyDisk{fail: func(kind, name string) error {
		if broken && kind == "sync" && strings.Contains(name, "/"+dataDirectory+"/") {
			broken = false
			return syscall.EIO
		}
		return nil
	}}
	w := p.claim(s, p.next(changefeed.Whole()))
	p.write(w, put(changefeed.Whole(), 5, "a"))
	broken = true
	err := w.Write(t.Context(), put(changefeed.Whole(), 6, "b"))
	require.ErrorIs(t, err, syscall.EIO)
	require.NotErrorIs(t, err, fence.ErrUnknown)
	again := p.claim(p.node(), p.next(changefeed.Whole()))
	require.Equal(t, change.At(5), again.Pieces()[0].Mark)
	require.Equal(t, []string{"update a@5"}, p.read())

	// With the seal refused as well, nobody can tell.
	broken = true
	p.write(again, put(changefeed.Whole(), 7, "c"))
	again.sink.disk = &faultyDisk{fail: func(kind, _ string) error {
		if kind != "write" {
			return syscall.EIO
		}
		return nil
	}}
	again.file = &faultyHandle{handle: again.file, disk: again.sink.disk.(*faultyDisk), name: "data"}
	require.ErrorIs(t, again.Write(t.Context(), put(changefeed.Whole(), 8, "d")), fence.ErrUnknown)
}

func TestDirectoriesThatCanNotBe(t *testing.T) {
	base := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(base, "file"), nil, fileMode))
	raise := func(directory string, over disk) error {
		s, err := Open(Config{Identity: newPlace(t).identity, Directory: directory})
		require.NoError(t, err)
		s.disk = over
		return s.Raise(t.Context(), 1, sink.KnownNothing)
	}
	p := newPlace(t)
	require.True(t, p.requireFault(raise(filepath.Join(base, "file"), osDisk{}), changefeed.CodeSinkUnreachable).Permanent)
	fault := p.requireFault(raise(filepath.Join(base, "no", "orders"), osDisk{}), changefeed.CodeSinkUnreachable)
	require.False(t, fault.Permanent, "it may be mounted later")
	require.Contains(t, fault.Cure, "parent")
	refused := &faultyDisk{fail: func(string, string) error { return syscall.EACCES }}
	require.True(t, p.requireFault(raise(filepath.Join(base, "orders"), refused), changefeed.CodeSinkUnreachable).Permanent)
	_, err := Open(Config{Directory: "relative"})
	p.requireFault(err, changefeed.CodeRequestInvalid)
	_, err = OpenReader(ReaderConfig{Directory: base, Mode: ReadPresent})
	p.requireFault(err, changefeed.CodeSinkLost)
	_, err = OpenReader(ReaderConfig{Directory: base})
	require.Error(t, err)
}
