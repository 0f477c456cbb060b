package postgres

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/fence"
	"fencerow/internal/pgdial"
)

// Config says what to follow, and for whom.
type Config struct {
	URI     endpoint.URI
	Options changefeed.Options // those of [Options] are read, others are not looked at
	// Changefeed and Epoch name our connections; the epoch is 0 where only snapshots are read.
	Changefeed changefeed.ID
	Epoch      fence.Epoch
	// UID names slot and publications.
	UID string
	// Identity is what [Source.Identity] returned before, once it was stored. Empty takes any at first, and then only that.
	Identity string
	// Confirm returns nil if the record, read now, still names this epoch and its owner. It is asked before something is made
	// or somebody else's connection is ended. Nil where the epoch is 0.
	Confirm func(context.Context) error
	// Directory is where transactions are kept that the server streams before they commit. Others may use it for the same. Empty has the
	// server keep them.
	Directory string
	// SpoolBytes bounds that; 0 is the default.
	SpoolBytes int64
	Logger     *zap.Logger
}

func (c Config) validate() error {
	if c.Logger == nil || c.UID == "" {
		return errors.New("postgres: no logger, or no uid")
	}
	return pgdial.Server{URI: c.URI, Options: c.Options, Field: "source"}.Check()
}

// patience is how long faults of the server are borne. Tests have less of it.
type patience struct {
	request  time.Duration // for one request
	retry    time.Duration // a log that loses the server comes back by itself for as long
	takeover time.Duration // an older reader's connection may take as long to end
	answer   time.Duration // for one statement, however long the server may take over it
}

func patienceDefault() patience {
	return patience{request: 5 * time.Second, retry: 5 * time.Second, takeover: 5 * time.Second, answer: statementMax + 5*time.Second}
}

// statementMax bounds what the server does for one statement, also when we are gone.
const statementMax = 30 * time.Second

// Source is the tables of one database that the patterns match. See [source.Serial].
type Source struct {
	settings
	patience  patience
	config    Config
	server    pgdial.Server
	logger    *zap.Logger
	snapshots *snapshots

	mu     sync.Mutex
	admin  *connection // for questions; nil until it is needed
	closed bool

	read atomic.Pointer[string] // the identity of what was read; nil before anything is
}

// New makes a source. It connects when it is first used.
func New(config Config) (*Source, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	parsed, err := parseSettings(config.Options)
	if err != nil {
		return nil, err
	}
	s := &Source{
		settings: parsed, patience: patienceDefault(), config: config, logger: config.Logger,
		server: pgdial.Server{URI: config.URI, Options: config.Options, Field: "source"},
	}
	if config.Identity != "" {
		s.read.Store(&config.Identity)
	}
	s.snapshots = newSnapshots(s)
	return s, nil
}

// slotName is the name of the slot, and of the publication of tables whose rows have an identity.
func (s *Source) slotName() string {
	name := strings.Map(func(r rune) rune {
		switch {
		case 'a' <= r && r <= 'z', '0' <= r && r <= '9':
			return r
		case 'A' <= r && r <= 'Z':
			return r - 'A' + 'a'
		default:
			return '_'
		}
	}, s.config.UID)
	return "fencerow_" + name[:min(len(name), uidMax)]
}

// uidMax leaves room for what stands around it in a name of at most 63 bytes.
const uidMax = 40

// appendName is the name of the publication of tables whose rows have no identity.
func (s *Source) appendName() string { return s.slotName() + "_append" }

// Span returns the key space of all tables.
func (s *Source) Span() changefeed.Span { return changefeed.Whole() }

// Identity returns the system identifier and the timeline, with a slash between. A standby that is promoted begins another
// timeline: its log is the same only up to there.
func (s *Source) Identity(ctx context.Context) (string, error) {
	var identity string
	err := s.ask(ctx, func(ctx context.Context, c *connection) (err error) {
		identity, err = identify(ctx, c)
		return err
	})
	if err == nil {
		err = s.same(identity)
	}
	return identity, err
}

// identify returns what the database's contents are called.
func identify(ctx context.Context, c *connection) (string, error) {
	answer, err := c.query(ctx, `SELECT system_identifier, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8) FROM pg_control_system()`)
	if answer, err = answer.one(err); err != nil {
		return "", fmt.Errorf("identify the server: %w", err)
	}
	timeline, err := strconv.ParseUint(answer.text(0, 1), 16, 32)
	if err != nil {
		return "", fmt.Errorf("identify the server: %w", err)
	}
	return identityOf(answer.text(0, 0), strconv.FormatUint(timeline, 10)), nil
}

func identityOf(system, timeline string) string { return system + "/" + timeline }

// same refuses another server than the one that was read before, or that was asked first.
func (s *Source) same(identity string) error {
	if s.read.CompareAndSwap(nil, &identity) {
		return nil
	}
	if before := *s.read.Load(); before != identity {
		return s.replaced(identity, before)
	}
	return nil
}

// Head returns the position up to which everything that the server has committed durably lies: a commit that is not written
// yet can't be sent either, and may be lost with the server.
func (s *Source) Head(ctx context.Context) (change.Position, error) {
	var head change.Position
	err := s.ask(ctx, func(ctx context.Context, c *connection) (err error) {
		head, err = headOf(ctx, c)
		return err
	})
	return head, err
}

// headOf returns the last place that is durable: the flush position is where the next record begins, or later.
func headOf(ctx context.Context, c *connection) (change.Position, error) {
	answer, err := c.query(ctx, `SELECT pg_current_wal_flush_lsn()`)
	if answer, err = answer.one(err); err != nil {
		return 0, fmt.Errorf("read the head: %w", err)
	}
	flushed, err := answer.lsn(0)
	return below(flushed), err
}

// Close ends the connections. Logs and readers must have been closed.
func (s *Source) Close() error {
	s.snapshots.close()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	if s.admin != nil {
		s.admin.close()
		s.admin = nil
	}
	return nil
}

var errClosed = errors.New("postgres: the source was closed")

// ask has a question answered over the connection that is kept for that. Faults have the form that people are shown.
func (s *Source) ask(ctx context.Context, question func(context.Context, *connection) error) error {
	ctx, cancel := context.WithTimeout(ctx, s.patience.request)
	defer cancel()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return errClosed
	}
	kept := s.admin != nil
	err := s.askOnce(ctx, question)
	if kept && s.admin == nil && ctx.Err() == nil {
		err = s.askOnce(ctx, question) // the server has ended an idle connection
	}
	return s.fault(err)
}

// askOnce keeps the connection if it is still good. Called with the lock held.
func (s *Source) askOnce(ctx context.Context, question func(context.Context, *connection) error) error {
	if s.admin == nil {
		var err error
		if s.admin, err = s.connect(ctx); err != nil {
			return err
		}
	}
	err := question(ctx, s.admin)
	if s.admin.conn.IsClosed() {
		s.admin = nil
	}
	return err
}
