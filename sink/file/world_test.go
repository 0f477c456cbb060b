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

// place is one directory and those who write to it.
type place struct {
	*testing.T
	directory string
	options   changefeed.Options
	now       time.Time
	identity  sink.Identity
	seq       fence.Seq
}

func newPlace(t *testing.T) *place {
	t.Helper()
	return &place{
		T: t, directory: filepath.Join(t.TempDir(), "orders"), options: changefeed.Options{}, now: time.Now(),
		identity: sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1"},
	}
}

// node returns a sink as another node has it, raised to epoch 1.
func (p *place) node() *Sink {
	p.Helper()
	s := p.reopen()
	require.NoError(p, s.Raise(p.Context(), 1, sink.KnownNothing))
	return s
}

// reopen returns a sink that has not read anything yet.
func (p *place) reopen() *Sink {
	p.Helper()
	s, err := Open(Config{Identity: p.identity, Directory: p.directory, Options: p.options, Now: func() time.Time { return p.now }})
	require.NoError(p, err)
	s.disk = quickDisk{}
	return s
}

func (p *place) next(span changefeed.Span) sink.Claim {
	p.seq++
	return sink.Claim{Span: span, Token: fence.Mint(1, p.seq), From: change.At(1)}
}

func (p *place) claim(s *Sink, claim sink.Claim) *Writer {
	p.Helper()
	w, err := s.Claim(p.Context(), claim)
	require.NoError(p, err)
	p.Cleanup(func() { _ = w.Close() })
	writer, ok := w.(*Writer)
	require.True(p, ok)
	return writer
}

// put is a batch of one change for each key, at one position.
func put(span changefeed.Span, position change.Position, keys ...string) sink.Batch {
	batch := sink.Batch{Span: span, To: change.At(position)}
	for i, key := range keys {
		batch.Changes = append(batch.Changes, change.Change{
			Position: position, Index: uint32(i), Op: change.OpUpdate, Key: []byte(key),
			After: &change.KV{Key: []byte(key), Value: fmt.Appendf(nil, "%s@%d", key, position)},
		})
	}
	return batch
}

func (p *place) write(w *Writer, batch sink.Batch) {
	p.Helper()
	require.NoError(p, w.Write(p.Context(), batch))
}

// brief names changes as op key@position.
func (p *place) brief(lines []string) []string {
	p.Helper()
	out := []string{}
	for _, line := range lines {
		record, err := codec.Decode([]byte(line))
		require.NoError(p, err)
		key, _ := record.KeyBytes()
		out = append(out, fmt.Sprintf("%s %s@%d", record.Op, key, record.Position))
	}
	return out
}

// read returns what both readers agree on.
func (p *place) read() []string {
	p.Helper()
	lines := readLines(p, p.directory, p.identity.UID)
	require.ElementsMatch(p, obviousLines(p, p.directory, string(p.identity.UID)), lines)
	return p.brief(lines)
}

// dataFiles returns the names of the data files in order.
func (p *place) dataFiles() []string {
	p.Helper()
	names, err := filepath.Glob(filepath.Join(p.directory, dataDirectory, "*"))
	require.NoError(p, err)
	return names
}

// copied returns the place in a copy of its directory.
func (p *place) copied() *place {
	p.Helper()
	other := *p
	other.directory = filepath.Join(p.TempDir(), "copy")
	require.NoError(p, os.CopyFS(other.directory, os.DirFS(p.directory)))
	return &other
}

func (p *place) requireFault(err error, code changefeed.Code) *changefeed.Fault {
	p.Helper()
	var fault *changefeed.Fault
	require.ErrorAs(p, err, &fault)
	require.Equal(p, code, fault.Code, "%v", err)
	require.NotEmpty(p, fault.Cure)
	return fault
}

func span(start, end string) changefeed.Span {
	return changefeed.Span{Start: []byte(start), End: []byte(end)}
}

func occurrences(lines []string, want string) int {
	return strings.Count("\n"+strings.Join(lines, "\n")+"\n", "\n"+want+"\n")
}
