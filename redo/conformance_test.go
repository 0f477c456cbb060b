package redo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/codec"
	"fencerow/sink"
	"fencerow/sink/file"
	"fencerow/sink/sinktest"
)

// TestConformance runs the suite of sinks on a log and a target as one. A crash is at a call of either of the two, so that
// every point between the log and the target is hit; their own suites crash inside them.
func TestConformance(t *testing.T) {
	t.Parallel()
	for name, kind := range map[string]struct {
		open   func(t testing.TB) half
		copies bool
	}{"to files": {open: func(t testing.TB) half { return newFiles(t) }}, "to etcd": {open: newCopy, copies: true}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			sinktest.Run(t, sinktest.Harness{Syncs: true, Short: true, Copies: kind.copies, New: func(t testing.TB) sinktest.Target {
				return &pair{log: newFiles(t), target: kind.open(t)}
			}})
		})
	}
}

// half is what is tested beside its log.
type half interface {
	open(t testing.TB, as sink.Identity) sink.Sink
	read(t testing.TB, as sink.Identity, cut change.Position) []sinktest.Entry
	plant(t testing.TB, key, value string)
	lose(t testing.TB)
}

// pair is a log and a target.
type pair struct {
	log    *files
	target half
	whole  changefeed.Span // of the source; the zero value is everything
}

func (p *pair) Open(t testing.TB, as sink.Identity) sink.Sink {
	t.Helper()
	return newSink(p.log.openLog(t, as), p.target.open(t, as), p.whole).shown()
}

func (p *pair) OpenFaulty(t testing.TB, as sink.Identity, crash sinktest.Crash) (sink.Sink, func() bool) {
	t.Helper()
	at := &crashes{crash: crash}
	s := newSink(newFaultyLog(p.log.openLog(t, as), at), &faultySink{Sink: p.target.open(t, as), at: at}, p.whole)
	return s.shown(), at.fired
}

// Read returns what is in the target, once it has seen that the log has all of that and nothing twice.
func (p *pair) Read(t testing.TB, as sink.Identity) []sinktest.Entry {
	t.Helper()
	entries := p.target.read(t, as, 0)
	logged := map[string]bool{}
	for _, entry := range p.log.read(t, as, 0) {
		logged[entry.Key+" "+entry.Value] = true
	}
	for _, entry := range entries {
		if strings.Contains(entry.Value, "@") { // not one that was planted
			require.True(t, logged[entry.Key+" "+entry.Value], "%v is in the target and not in the log", entry)
		}
	}
	return entries
}

func (p *pair) ReadCut(t testing.TB, as sink.Identity, at change.Position) []sinktest.Entry {
	t.Helper()
	require.Equal(t, last(p.log.read(t, as, at)), last(p.target.read(t, as, at)), "the log's cut is the target's")
	return p.target.read(t, as, at)
}

func last(entries []sinktest.Entry) map[string]string {
	out := map[string]string{}
	for _, entry := range entries {
		out[entry.Key] = entry.Value
		if entry.Deleted {
			delete(out, entry.Key)
		}
	}
	return out
}

func (p *pair) Plant(t testing.TB, key, value string) {
	t.Helper()
	p.target.plant(t, key, value)
}

func (p *pair) Lose(t testing.TB) {
	t.Helper()
	p.log.lose(t)
	p.target.lose(t)
}

// files is a directory of a file sink.
type files struct{ directory string }

func newFiles(t testing.TB) *files {
	t.Helper()
	return &files{directory: filepath.Join(t.TempDir(), "files")}
}

func (f *files) openLog(t testing.TB, as sink.Identity) *file.Sink {
	t.Helper()
	s, err := file.Open(file.Config{
		Identity: as, Directory: f.directory, Log: &file.Log{Needless: func(context.Context) change.Position { return 0 }},
	})
	require.NoError(t, err)
	return s
}

func (f *files) open(t testing.TB, as sink.Identity) sink.Sink {
	t.Helper()
	s, err := file.Open(file.Config{Identity: as, Directory: f.directory})
	require.NoError(t, err)
	return s
}

func (f *files) read(t testing.TB, as sink.Identity, cut change.Position) []sinktest.Entry {
	t.Helper()
	reader, err := file.OpenReader(file.ReaderConfig{Directory: f.directory, UID: as.UID, Mode: file.ReadPresent})
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()
	if cut > 0 {
		_, err := reader.Cut(cut)
		require.NoError(t, err)
	}
	var out []sinktest.Entry
	seen := map[string]bool{}
	for {
		item, err := reader.Next(t.Context())
		if errors.Is(err, io.EOF) {
			return out
		}
		require.NoError(t, err)
		record, err := codec.Decode(item.Line)
		require.NoError(t, err)
		key, _ := record.KeyBytes()
		this := fmt.Sprint(string(key), record.Op, record.Position, record.Index)
		require.False(t, seen[this], "%s is there twice", item.Line)
		seen[this] = true
		entry := sinktest.Entry{Key: string(key), Deleted: record.Op == change.OpDelete}
		if value, found := record.After.Column("value"); found {
			raw, _ := value.Bytes()
			entry.Value = string(raw)
		}
		out = append(out, entry)
	}
}

func (f *files) plant(testing.TB, string, string) {}

func (f *files) lose(t testing.TB) {
	t.Helper()
	require.NoError(t, os.RemoveAll(f.directory))
}
