package file

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/codec"
	"fencerow/sink"
)

// LogReader yields what a directory holds batch by batch, as it was written: claim by claim, so that what an earlier claim
// of a key wrote comes first. It writes nothing, and is used by one goroutine.
type LogReader struct {
	reader *Reader
	next   int // of the claims, the one that is read
	bytes  int64
}

// Entry is one batch, or what is known of batches that were retired.
type Entry struct {
	sink.Batch
	// Retired says that how Span came to To is not here any more. Changes are empty.
	Retired bool
}

// OpenLog opens a reader of the newest creation of the changefeed that the directory belongs to.
func OpenLog(directory string) (*LogReader, error) {
	reader, err := OpenReader(ReaderConfig{Directory: directory, Mode: ReadPresent})
	if err != nil {
		return nil, err
	}
	return &LogReader{reader: reader}, nil
}

// ReadHead returns the head of a directory; one that does not exist if the directory holds nothing of ours.
func ReadHead(directory string) (sink.Head, error) {
	var head sink.Head
	for number := uint64(1); ; number++ {
		e, err := readEntry(osDisk{}, directory, number)
		if errors.Is(err, fs.ErrNotExist) {
			return head, nil
		}
		if err != nil {
			return sink.Head{}, fmt.Errorf("file: read: %w", diskFault(directory, err))
		}
		if e.Head != nil {
			head = *e.Head
		}
	}
}

// Identity returns whose log it is.
func (l *LogReader) Identity() sink.Identity { return l.reader.Identity() }

// Head returns the head as it is.
func (l *LogReader) Head() sink.Head { return l.reader.state.head }

// Read returns how many bytes were read of Size.
func (l *LogReader) Read() int64 { return l.bytes }

// Size returns how many bytes of data there are.
func (l *LogReader) Size() (int64, error) {
	total := int64(0)
	for _, st := range l.reader.pending {
		for _, id := range st.segments {
			info, err := l.reader.disk.Stat(id.name(l.reader.config.Directory))
			if errors.Is(err, fs.ErrNotExist) {
				continue // retired meanwhile
			}
			if err != nil {
				return 0, l.wrap(err)
			}
			total += info.Size()
		}
	}
	return total, nil
}

// SyncPoints returns the sync points that are recorded, in order.
func (l *LogReader) SyncPoints() ([]change.Position, error) {
	all, err := syncPoints(l.reader.disk, l.reader.config.Directory, l.reader.config.UID)
	if err != nil {
		return nil, l.wrap(err)
	}
	return all, nil
}

// Refresh takes in what was written since, and has Next go on with it.
func (l *LogReader) Refresh() error {
	if err := l.reader.refresh(); err != nil {
		return l.wrap(err)
	}
	l.next = 0
	return nil
}

// Marks returns everything that was ever claimed, with how far it was read.
func (l *LogReader) Marks() (sink.Map, error) {
	m := l.reader.state.m
	if l.reader.state.head.Identity.UID != l.reader.config.UID {
		return sink.Map{}, nil
	}
	for _, st := range l.reader.pending {
		for _, piece := range st.pieces.Pieces(st.incarnation) {
			if len(m.Pieces(st.incarnation)) == 0 {
				break // superseded: its seal said more
			}
			var err error
			if m, err = m.Advance(st.incarnation, piece.Span, piece.Mark); err != nil {
				return sink.Map{}, l.wrap(err)
			}
		}
	}
	return m, nil
}

// Next returns the next entries, which belong together; io.EOF: there is no more now.
func (l *LogReader) Next(ctx context.Context) ([]Entry, error) {
	for l.next < len(l.reader.pending) {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		st := l.reader.pending[l.next]
		entries, more, err := l.step(st)
		if err != nil {
			return nil, l.wrap(err)
		}
		if !more {
			l.next++
		}
		if len(entries) > 0 {
			return entries, nil
		}
	}
	return nil, io.EOF
}

// step reads one unit of a claim.
func (l *LogReader) step(st *stream) (entries []Entry, more bool, err error) {
	if st.finished {
		return nil, false, nil
	}
	directory := l.reader.config.Directory
	before := st.batches
	st.taken = nil
	more, err = st.read(l.reader.disk, directory)
	switch {
	case err != nil:
		return nil, false, err
	case st.finished && st.segment == 0 && st.seal != nil && st.seal.Segment > 0: // nothing of it is left
		return retiredEntries(fromPiecesJSON(st.seal.Pieces)), false, nil
	case st.taken == nil && st.batches > before: // a header that says that batches came before it
		return retiredEntries(st.pieces.Pieces(st.incarnation)), more, nil
	case st.taken == nil:
		return nil, more, nil
	}
	batch, err := l.batch(st)
	l.bytes += st.taken.Bytes
	st.lines = nil
	return []Entry{{Batch: batch}}, more, err
}

func retiredEntries(pieces []sink.Piece) []Entry {
	var out []Entry
	for _, piece := range pieces {
		out = append(out, Entry{Batch: sink.Batch{Span: piece.Span, To: piece.Mark}, Retired: true})
	}
	return out
}

// batch decodes the batch that was taken.
func (l *LogReader) batch(st *stream) (sink.Batch, error) {
	out := sink.Batch{
		Changes: make([]change.Change, 0, st.taken.Changes),
		Span:    st.taken.Span.span(), To: st.taken.mark(), Snapshot: st.taken.Snapshot,
	}
	for line := range bytes.Lines(st.lines) {
		c, err := changeOf(bytes.TrimSuffix(line, []byte("\n")))
		if err != nil {
			return sink.Batch{}, err
		}
		out.Changes = append(out.Changes, c)
	}
	return out, nil
}

// changeOf reads a line back into the change that it was.
func changeOf(line []byte) (change.Change, error) {
	record, err := codec.Decode(line)
	if err != nil {
		return change.Change{}, err
	}
	key, found := record.KeyBytes()
	if !found {
		return change.Change{}, &changefeed.Fault{
			Code: changefeed.CodeRecordInvalid, Field: "log", Permanent: true,
			Detail: fmt.Sprintf("holds a change of a table at position %d, which can't be read back", record.Position),
			Cure:   "use a version of cdc-node that keeps logs of such sources",
		}
	}
	out := change.Change{
		Position: record.Position, Index: record.Index, Op: record.Op, CommitTime: record.CommitTime, Table: record.Table, Key: key,
	}
	if record.Before != nil {
		if out.Before, err = pairOf(record.Before); err != nil {
			return change.Change{}, err
		}
	}
	if record.After != nil {
		if out.After, err = pairOf(record.After); err != nil {
			return change.Change{}, err
		}
	}
	return out, nil
}

// pairOf reads a row of a key-value source.
func pairOf(row codec.Row) (*change.KV, error) {
	var pair change.KV
	for _, column := range row {
		raw, isText := column.Bytes()
		number, isNumber := column.Value.(int64)
		if isText && column.Name != "key" && column.Name != "value" {
			var err error
			if number, err = strconv.ParseInt(string(raw), 10, 64); err != nil {
				return nil, fmt.Errorf("column %s: %w", column.Name, err)
			}
			isNumber = true
		}
		switch {
		case column.Name == "key" && isText:
			pair.Key = raw
		case column.Name == "value" && isText:
			pair.Value = raw
		case column.Name == "create_revision" && isNumber:
			pair.CreateRevision = number
		case column.Name == "mod_revision" && isNumber:
			pair.ModRevision = number
		case column.Name == "version" && isNumber:
			pair.Version = number
		case column.Name == "lease" && isNumber:
			pair.Lease = number
		default:
			return nil, fmt.Errorf("column %.40q is none of a key-value source", column.Name)
		}
	}
	return &pair, nil
}

func (l *LogReader) wrap(err error) error {
	return fmt.Errorf("file: read: %w", diskFault(l.reader.config.Directory, err))
}

// Close ends the reader.
func (l *LogReader) Close() error { return l.reader.Close() }
