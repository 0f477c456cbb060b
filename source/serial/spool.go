package serial

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/zap"
)

// Bounds of what is spooled, where nothing else is said.
const (
	// SpoolBytesDefault bounds what a node spools. One subscription may have a quarter of it.
	SpoolBytesDefault = 8 << 30
	spoolParts        = 4
	// spoolMemoryBytes is what the store keeps in memory before it writes a file, and spoolCacheBytes what it reads ahead.
	spoolMemoryBytes = 16 << 20
	spoolCacheBytes  = 8 << 20
	// trimBytes is how much of one subscription is read before it is deleted.
	trimBytes = 32 << 20
)

// SpoolConfig is what a spool is made of.
type SpoolConfig struct {
	Directory string // is emptied; no other process may use it
	Bytes     int64  // 0: the default
	FS        vfs.FS // nil: the disk
	Logger    *zap.Logger
}

// Spool keeps on the local disk what subscriptions were not ready to take, so that a slow one does not hold up the others. It
// is opened when one first lags. Nothing in it outlives the process: what is lost is read from the source again.
type Spool struct {
	config SpoolConfig
	log    *zap.Logger
	used   atomic.Int64
	full   atomic.Bool // the disk took nothing more

	mu     sync.Mutex // guards what follows
	db     *pebble.DB // nil before it is used
	closed bool
	last   uint64 // number of a subscription
	failed bool   // to open; said once
}

// NewSpool returns a spool that is empty.
func NewSpool(config SpoolConfig) *Spool {
	if config.FS == nil {
		config.FS = vfs.Default
	}
	if config.Bytes == 0 {
		config.Bytes = SpoolBytesDefault
	}
	return &Spool{config: config, log: config.Logger}
}

// Used returns how many bytes are spooled.
func (s *Spool) Used() int64 { return s.used.Load() }

// Close forgets everything. Subscriptions must have ended.
func (s *Spool) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.db == nil {
		return nil
	}
	err := s.db.Close()
	s.db = nil
	if err != nil {
		return fmt.Errorf("serial: close the spool: %w", err)
	}
	return nil
}

var errSpoolClosed = errors.New("serial: the spool is closed")

// open returns the store, and makes it if need be.
func (s *Spool) open() (*pebble.DB, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.db != nil || s.closed {
		if s.closed {
			return nil, errSpoolClosed
		}
		return s.db, nil
	}
	db, err := s.start()
	if err != nil && !s.failed {
		s.log.Error("no spool: a slow span holds up the others", zap.String("directory", s.config.Directory), zap.Error(err))
	}
	s.failed = err != nil
	s.db = db
	return db, err
}

func (s *Spool) start() (*pebble.DB, error) {
	fs := s.config.FS
	if err := fs.MkdirAll(s.config.Directory, 0o700); err != nil {
		return nil, fmt.Errorf("serial: make the spool: %w", err)
	}
	lock, err := pebble.LockDirectory(s.config.Directory, fs)
	if err != nil {
		return nil, fmt.Errorf("serial: the spool is used by another process: %w", err)
	}
	if err := empty(fs, s.config.Directory); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	cache := pebble.NewCache(spoolCacheBytes)
	defer cache.Unref()
	db, err := pebble.Open(s.config.Directory, &pebble.Options{
		FS: fs, Lock: lock, Cache: cache, MemTableSize: spoolMemoryBytes, DisableWAL: true, Logger: quiet{s.log},
		FormatMajorVersion: pebble.FormatNewest,
		EventListener: &pebble.EventListener{
			BackgroundError: func(err error) {
				s.full.Store(true)
				s.log.Warn("the spool can't be written, and slow spans hold up the others", zap.Error(err))
			},
			FlushEnd: func(info pebble.FlushInfo) {
				if info.Err == nil {
					s.full.Store(false)
				}
			},
		},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("serial: open the spool: %w", err), lock.Close())
	}
	return db, nil
}

// empty removes what a process before this one has left, but for the lock.
func empty(fs vfs.FS, directory string) error {
	names, err := fs.List(directory)
	if err != nil {
		return fmt.Errorf("serial: look into the spool: %w", err)
	}
	for _, name := range names {
		if strings.HasPrefix(name, "LOCK") {
			continue
		}
		if err := fs.RemoveAll(filepath.Join(directory, name)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return fmt.Errorf("serial: empty the spool: %w", err)
		}
	}
	return nil
}

// quiet logs only what is wrong.
type quiet struct{ log *zap.Logger }

func (quiet) Infof(string, ...any) {}

func (q quiet) Errorf(format string, args ...any) {
	q.log.Warn("spool", zap.String("error", fmt.Sprintf(format, args...)))
}

// Fatalf is called where the store can't go on, and must not return. The node's dispatchers are taken over by others.
func (q quiet) Fatalf(format string, args ...any) {
	q.log.Fatal("the spool can't go on", zap.String("error", fmt.Sprintf(format, args...)))
}

// backlog is what one subscription has in the spool. The subscription's lock guards it.
type backlog struct {
	spool   *Spool // nil: there is none
	number  uint64 // in the spool; 0 before the first
	encoder *encoder
	first   uint64 // number of the oldest message that is not read
	next    uint64 // number of the next one that comes
	sizes   []int  // of those in between
	bytes   int64  // of them
	read    int64  // bytes that were read and not deleted
	trimmed uint64 // everything below was deleted
}

func (b *backlog) empty() bool { return b.first == b.next }

// room reports whether the subscription may spool more.
func (b *backlog) room() bool {
	return b.spool != nil && !b.spool.full.Load() && b.bytes < b.spool.config.Bytes/spoolParts && b.spool.used.Load() < b.spool.config.Bytes
}

// append adds a message.
func (b *backlog) append(m *Message) error {
	db, err := b.spool.open()
	if err != nil {
		return err
	}
	if b.number == 0 {
		b.spool.mu.Lock()
		b.spool.last++
		b.number = b.spool.last
		b.spool.mu.Unlock()
	}
	if b.empty() {
		b.encoder = newEncoder() // relations of before are not needed any more
		b.encoder.silent = true
	}
	b.encoder.out = b.encoder.out[:0]
	if err := b.encoder.message(m); err != nil {
		return err
	}
	if err := db.Set(b.key(b.next), b.encoder.out, pebble.NoSync); err != nil {
		return fmt.Errorf("serial: spool: %w", err)
	}
	size := len(b.encoder.out)
	b.next++
	b.sizes = append(b.sizes, size)
	b.bytes += int64(size)
	b.spool.used.Add(int64(size))
	return nil
}

func (b *backlog) key(number uint64) []byte {
	return binary.BigEndian.AppendUint64(binary.BigEndian.AppendUint64(make([]byte, 0, 16), b.number), number)
}

// take returns the oldest message and takes it out.
func (b *backlog) take() (Message, error) {
	db, err := b.spool.open()
	if err != nil {
		return Message{}, err
	}
	value, closer, err := db.Get(b.key(b.first))
	if err != nil {
		return Message{}, fmt.Errorf("serial: read the spool: %w", err)
	}
	held := append([]byte(nil), value...)
	if err := closer.Close(); err != nil {
		return Message{}, fmt.Errorf("serial: read the spool: %w", err)
	}
	_, n := binary.Uvarint(held)
	m, ok, err := b.encoder.decoder().record(held[max(n, 0):])
	if err != nil || !ok {
		return Message{}, errors.Join(err, fmt.Errorf("%w: in the spool", errWire))
	}
	size := int64(b.sizes[0])
	b.sizes = b.sizes[1:]
	b.first++
	b.bytes -= size
	b.read += size
	b.spool.used.Add(-size)
	if b.empty() || b.read >= trimBytes {
		return m, b.trim(db)
	}
	return m, nil
}

// trim deletes what was read.
func (b *backlog) trim(db *pebble.DB) error {
	if err := db.DeleteRange(b.key(b.trimmed), b.key(b.first), pebble.NoSync); err != nil {
		return fmt.Errorf("serial: trim the spool: %w", err)
	}
	b.trimmed, b.read = b.first, 0
	return nil
}

// drop forgets everything.
func (b *backlog) drop() error {
	if b.number == 0 {
		return nil
	}
	b.spool.used.Add(-b.bytes)
	b.first, b.bytes, b.sizes = b.next, 0, nil
	db, err := b.spool.open()
	if err != nil {
		return err
	}
	return b.trim(db)
}
