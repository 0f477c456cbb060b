package file

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
	"fencerow/sink/sinktest"
)

func TestConformance(t *testing.T) {
	for name, options := range map[string]changefeed.Options{
		"plain":          {},
		"small and zstd": {"compress": "zstd", "rotate_bytes": "4096"},
	} {
		t.Run(name, func(t *testing.T) {
			sinktest.Run(t, sinktest.Harness{Syncs: true, Short: raced, New: func(t testing.TB) sinktest.Target {
				return &target{directory: filepath.Join(t.TempDir(), "orders"), options: options}
			}})
		})
	}
}

// target is a directory.
type target struct {
	directory string
	options   changefeed.Options
}

func (d *target) Open(t testing.TB, as sink.Identity) sink.Sink {
	t.Helper()
	return d.open(t, as, quickDisk{})
}

func (d *target) open(t testing.TB, as sink.Identity, over disk) *Sink {
	t.Helper()
	s, err := Open(Config{Identity: as, Directory: d.directory, Options: d.options})
	require.NoError(t, err)
	s.disk = over
	return s
}

func (d *target) OpenFaulty(t testing.TB, as sink.Identity, crash sinktest.Crash) (sink.Sink, func() bool) {
	faulty := &faultyDisk{crash: crash}
	return d.open(t, as, faulty), faulty.fired
}

// Read returns what the obvious reader finds, after the real one has found the same.
func (d *target) Read(t testing.TB, as sink.Identity) []sinktest.Entry {
	t.Helper()
	lines := obviousLines(t, d.directory, string(as.UID))
	read := readLines(t, d.directory, as.UID)
	slices.Sort(read)
	sorted := slices.Sorted(slices.Values(lines))
	require.Equal(t, sorted, read, "the two readers must take the same changes")
	var entries []sinktest.Entry
	for _, line := range readLines(t, d.directory, as.UID) {
		entries = append(entries, obviousEntry(t, line))
	}
	return entries
}

// ReadCut returns what the real reader takes at the sync point.
func (d *target) ReadCut(t testing.TB, as sink.Identity, at change.Position) []sinktest.Entry {
	t.Helper()
	reader, err := OpenReader(ReaderConfig{Directory: d.directory, UID: as.UID, Mode: ReadPresent})
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()
	_, err = reader.Cut(at)
	require.NoError(t, err)
	var entries []sinktest.Entry
	for {
		item, err := reader.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return entries
		}
		require.NoError(t, err)
		entries = append(entries, obviousEntry(t, string(item.Line)))
	}
}

func (d *target) Plant(testing.TB, string, string) {}

func (d *target) Lose(t testing.TB) {
	t.Helper()
	require.NoError(t, os.RemoveAll(d.directory))
}

// readLines returns what the real reader yields.
func readLines(t testing.TB, directory string, uid changefeed.UID) []string {
	t.Helper()
	reader, err := OpenReader(ReaderConfig{Directory: directory, UID: uid, Mode: ReadPresent})
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()
	var lines []string
	for {
		item, err := reader.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return lines
		}
		require.NoError(t, err)
		lines = append(lines, string(item.Line))
	}
}
