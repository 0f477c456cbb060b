package postgres

import (
	"bufio"
	"bytes"
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"sync/atomic"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"fencerow/change"
)

// Where a transaction becomes larger than the server keeps in memory, the server sends its changes before it knows how it ends. They
// are spooled here until it commits, and only then read, as if they had come then. What is spooled is no progress: nothing of it is
// given out or acknowledged, so the server sends it again over the next connection, and nothing here outlives this one.

// Bounds of what is spooled. Beyond them the server is asked to keep large transactions itself until they commit.
const (
	// streamSpoolMax bounds what is spooled over one connection, of all transactions that are open together.
	streamSpoolMax = 16 << 30
	// streamsMax bounds how many transactions are spooled at once: each holds a file open.
	streamsMax = 256
	// streamAbortsMax bounds the subtransactions of one transaction that were rolled back: their numbers are kept in memory.
	streamAbortsMax = 1 << 20

	// streamReserve is what is left free of the disk, which others use too, an embedded etcd among them.
	streamReserve = 1 << 30

	streamBufferBytes = 256 << 10
)

// The messages of pgoutput around what is streamed, from version 2 of its protocol on.
const (
	kindStreamStart  = 'S'
	kindStreamStop   = 'E'
	kindStreamCommit = 'c'
	kindStreamAbort  = 'A'
)

// errNotSpooled says that the disk can't hold what the server streams. It is cured by not having it streamed.
var errNotSpooled = errors.New("postgres: a transaction in progress can't be kept on the local disk")

// spool stands between the log and who reads it: it gives on what is of a transaction that has committed, in the order of commits.
// It is used by one goroutine.
type spool struct {
	directory string
	bytesMax  int64
	spare     uint64               // bytes of the disk that are left free
	used      *atomic.Int64        // bytes; others read it
	open      map[uint32]*streamed // by the number of the transaction
	writer    *bufio.Writer
	current   *streamed // whose block comes now; nil between blocks

	arrived uint64 // how many descriptions of tables have come
	newest  map[uint32]described
}

// described is the newest description of a table among those that were given on.
type described struct {
	arrived uint64
	message []byte
}

// streamed is a transaction in progress.
type streamed struct {
	xid       uint32
	file      *os.File
	bytes     int64
	aborted   map[uint32]struct{} // its subtransactions that were rolled back
	relations map[uint32]uint64   // when it described each table last
}

// protocol returns how the log is to be sent.
func (s *Source) protocol() protocol {
	if s.streaming && s.config.Directory != "" {
		return protocolStreamed
	}
	return protocolWhole
}

// newSpool returns the spool of one connection.
func (s *Source) newSpool(used *atomic.Int64) *spool {
	return newSpool(s.config.Directory, cmp.Or(s.config.SpoolBytes, streamSpoolMax), used)
}

// streamNoMore has the next connections go without what the disk can't hold: the server keeps it then.
func (l *Log) streamNoMore(err error) {
	l.as = protocolWhole
	l.source.logger.Warn("large transactions are not streamed any more until the changefeed is read anew: the server spills them to its disk; "+
		"make room below the data directory, or set the option "+OptionStreaming+"=off",
		zap.Stringer("source", l.source.server.URI), zap.String("directory", l.source.config.Directory), zap.Error(err))
}

func newSpool(directory string, bytesMax int64, used *atomic.Int64) *spool {
	return &spool{
		directory: directory, bytesMax: bytesMax, used: used, spare: streamReserve, open: make(map[uint32]*streamed), newest: make(map[uint32]described),
		writer: bufio.NewWriterSize(nil, streamBufferBytes),
	}
}

// close forgets what is spooled.
func (s *spool) close() {
	for _, t := range s.open {
		s.forget(t)
	}
	s.current = nil
}

func (s *spool) forget(t *streamed) {
	delete(s.open, t.xid)
	s.used.Add(-t.bytes)
	_ = t.file.Close() //nolint:errcheck // it has no name any more, so that is the end of it
}

// take takes a message in, and gives on what is to be read now: itself, or a transaction that ends with it, or nothing.
func (s *spool) take(message []byte, give func([]byte) error) error {
	if len(message) == 0 {
		return errMalformed
	}
	switch kind := message[0]; kind {
	case kindStreamStart:
		return s.start(message[1:])
	case kindStreamStop:
		return s.stop(message[1:])
	case kindStreamAbort:
		return s.abort(message[1:])
	case kindStreamCommit:
		return s.commit(message[1:], give)
	default:
		if s.current != nil {
			return s.keep(message)
		}
		if kind == kindRelation {
			s.arrived++
			if oid, err := relationOID(message); err == nil {
				s.newest[oid] = described{arrived: s.arrived, message: bytes.Clone(message)}
			}
		}
		return give(message)
	}
}

// start begins a block.
func (s *spool) start(body []byte) error {
	c := cursor{data: body}
	xid, first := c.uint32(), c.byte()
	if err := c.end(kindStreamStart); err != nil {
		return err
	}
	t := s.open[xid]
	if s.current != nil || first > 1 || (first == 1) != (t == nil) {
		return fmt.Errorf("%w: a block of transaction %d out of place", errMalformed, xid)
	}
	if t == nil {
		if len(s.open) >= streamsMax {
			return fmt.Errorf("%w: more than %d are open at once", errNotSpooled, streamsMax)
		}
		file, err := s.create()
		if err != nil {
			return err
		}
		t = &streamed{xid: xid, file: file, aborted: make(map[uint32]struct{}), relations: make(map[uint32]uint64)}
		s.open[xid] = t
	}
	s.current = t
	s.writer.Reset(t.file)
	return s.reserve()
}

// reserve refuses a block for which the disk has too little room: it holds about what the server keeps in memory of a transaction.
func (s *spool) reserve() error {
	var disk unix.Statfs_t
	if err := unix.Statfs(s.directory, &disk); err != nil {
		return fmt.Errorf("%w: look at the disk: %w", errNotSpooled, err)
	}
	if free := disk.Bavail * uint64(disk.Bsize); free < s.spare { //nolint:gosec // a size
		return fmt.Errorf("%w: it has %d MiB left, of which %d are for others", errNotSpooled, free>>20, s.spare>>20)
	}
	return nil
}

// create makes a file that only we can read. It loses its name at once: whatever ends this process ends the file too.
func (s *spool) create() (*os.File, error) {
	if err := os.MkdirAll(s.directory, 0o700); err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSpooled, err)
	}
	file, err := os.CreateTemp(s.directory, "transaction-")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errNotSpooled, err)
	}
	if err := os.Remove(file.Name()); err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %w", errNotSpooled, err), file.Close())
	}
	return file, nil
}

// stop ends a block.
func (s *spool) stop(body []byte) error {
	if s.current == nil || len(body) > 0 {
		return fmt.Errorf("%w: the end of no block", errMalformed)
	}
	s.current = nil
	if err := s.writer.Flush(); err != nil {
		return fmt.Errorf("%w: %w", errNotSpooled, err)
	}
	return nil
}

// recordBytes stand before each message in the file: its length, and the number of its subtransaction.
const recordBytes = 4 + 4

// keep spools a message of a block. After its kind it has the number of its subtransaction, which is the transaction's own outside all
// savepoints.
func (s *spool) keep(message []byte) error {
	t, kind := s.current, message[0]
	switch kind {
	case kindRelation, kindType, kindInsert, kindUpdate, kindDelete, kindTruncate, kindMessage:
	case kindOrigin:
		return nil // it has no number, and is of no interest
	default:
		return fmt.Errorf("%w of kind %q in a block", errMalformed, kind)
	}
	c := cursor{data: message[1:]}
	subxid := c.uint32()
	if kind == kindRelation {
		s.arrived++
		oid := cursor{data: c.data}
		t.relations[oid.uint32()] = s.arrived
		c.bad = c.bad || oid.bad
	}
	if c.bad {
		return fmt.Errorf("%w of kind %q in a block", errMalformed, kind)
	}
	size := int64(recordBytes + 1 + len(c.data))
	if s.used.Load()+size > s.bytesMax {
		return fmt.Errorf("%w: those in progress take more than %d bytes", errNotSpooled, s.bytesMax)
	}
	t.bytes += size
	s.used.Add(size)
	var record [recordBytes + 1]byte
	binary.BigEndian.PutUint32(record[:], uint32(1+len(c.data)))
	binary.BigEndian.PutUint32(record[4:], subxid)
	record[recordBytes] = kind
	_, err := s.writer.Write(record[:])
	if err == nil {
		_, err = s.writer.Write(c.data)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errNotSpooled, err)
	}
	return nil
}

// abort drops a subtransaction, or the whole transaction. One of which nothing is here has nothing to drop.
func (s *spool) abort(body []byte) error {
	c := cursor{data: body}
	xid, subxid := c.uint32(), c.uint32()
	if err := c.end(kindStreamAbort); err != nil {
		return err
	}
	if s.current != nil {
		return fmt.Errorf("%w: an abort in a block", errMalformed)
	}
	t := s.open[xid]
	switch {
	case t == nil:
	case subxid == xid:
		s.forget(t)
	case len(t.aborted) >= streamAbortsMax:
		return fmt.Errorf("%w: more than %d of its savepoints were rolled back", errNotSpooled, streamAbortsMax)
	default:
		t.aborted[subxid] = struct{}{}
	}
	return nil
}

// commit gives a whole transaction on, between a Begin and a Commit as the server sends them for one that it does not stream.
func (s *spool) commit(body []byte, give func([]byte) error) error {
	c := cursor{data: body}
	xid := c.uint32()
	end := c.data // which has the same fields as a Commit
	c.byte()      // flags, none of which there are
	position := change.Position(c.uint64())
	c.uint64() // where the record ends
	at := c.uint64()
	if err := c.end(kindStreamCommit); err != nil {
		return err
	}
	t := s.open[xid]
	if s.current != nil || t == nil {
		return fmt.Errorf("%w: the end of transaction %d out of place", errMalformed, xid)
	}
	defer s.forget(t)
	begin := binary.BigEndian.AppendUint64([]byte{kindBegin}, uint64(position))
	begin = binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(begin, at), xid)
	commit := append([]byte{kindCommit}, end...) // before what end shares its memory with is read on
	if err := give(begin); err != nil {
		return err
	}
	older, err := s.replay(t, give)
	if err != nil {
		return err
	}
	if err := give(commit); err != nil {
		return err
	}
	for _, oid := range older {
		if err := give(s.newest[oid].message); err != nil {
			return err
		}
	}
	return nil
}
