package sqlsink

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"go.uber.org/zap"

	"fencerow/fence"
	"fencerow/internal/failpoint"
	"fencerow/sink"
)

// triesMax bounds how often one call starts over, because of a race or a writer whose transaction had to be ended. Each
// time somebody else got on, or is gone.
const triesMax = 5

// Config of a sink.
type Config struct {
	// Open connects to the target. The name says what the connection is for, and is shown there.
	Open     func(ctx context.Context, name string) (Session, error)
	Dialect  Dialect
	Tables   Tables // how rows of tables are written
	Layout   Layout
	Settings Settings
	Name     string // the target as people are shown it in faults
	Identity sink.Identity
	Logger   *zap.Logger
}

func (c *Config) validate() error {
	var faults []error
	if c.Open == nil || c.Dialect == nil {
		faults = append(faults, errors.New("sink sql: Open or Dialect is missing"))
	}
	if c.Identity.Cluster == "" || c.Identity.UID == "" {
		faults = append(faults, fmt.Errorf("sink sql: identity %+v is not valid", c.Identity))
	}
	if err := c.Identity.Changefeed.Validate(); err != nil {
		faults = append(faults, err)
	}
	if err := checkTable(c.Settings.Table); err != nil {
		faults = append(faults, fmt.Errorf("sink sql: table %.100q %w", c.Settings.Table, err))
	}
	if c.Layout == LayoutTables && c.Tables == nil {
		faults = append(faults, errors.New("sink sql: this kind of server has no tables for a source of tables"))
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return errors.Join(faults...)
}

// Sink writes to a table of a database.
type Sink struct {
	config     Config
	statements statements
	layout     layout
}

var _ sink.Sink = (*Sink)(nil)

// New makes a sink. It connects on first use.
func New(config Config) (*Sink, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Sink{
		config:     config,
		statements: statements{dialect: config.Dialect, as: config.Identity},
		layout:     layout{dialect: config.Dialect, table: config.Settings.Table, mode: config.Settings.Mode},
	}, nil
}

// open connects for one call, or for one writer.
func (s *Sink) open(ctx context.Context, what string) (Session, error) {
	session, err := s.config.Open(ctx, fmt.Sprintf("fencerow %s %s", s.config.Identity.Changefeed, what))
	if err != nil {
		return nil, s.failed("connect", err)
	}
	return session, nil
}

// with does one thing on a connection of its own.
func (s *Sink) with(ctx context.Context, doing string, do func(Session) error) error {
	session, err := s.open(ctx, "control")
	if err != nil {
		return err
	}
	defer func() { _ = session.Close() }() // what it did is committed, or is not to be
	return s.again(ctx, session, doing, func() error { return do(session) })
}

// again does something until nothing raced it. What was locked is let go by the time-outs of whoever locked it.
func (s *Sink) again(ctx context.Context, session Session, doing string, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		reason := reasonOf(err)
		if err == nil || try == triesMax || !passes(reason) {
			return s.shown(doing, err)
		}
		if _, err := session.Do(ctx, rollback()); err != nil {
			return s.shown(doing, err)
		}
	}
}

// passes reports whether time heals what a server refused for this reason.
func passes(reason Reason) bool {
	return reason == RefusedRace || reason == RefusedDuplicate || reason == RefusedLocked
}

// shown is failed for what is not yet in the form that people are shown.
func (s *Sink) shown(doing string, err error) error {
	if err == nil || errors.Is(err, fence.ErrStale) || errors.Is(err, sink.ErrApart) || errors.Is(err, sink.ErrSynced) {
		return err
	}
	if _, waits := errors.AsType[*sink.Barrier](err); waits {
		return err
	}
	return s.failed(doing, err)
}

// commit does what is left to do in a transaction, and ends it. An answer that is lost is [fence.ErrUnknown].
func (s *Sink) commit(ctx context.Context, session Session, doing string, statements ...Statement) error {
	if failpoint.On {
		detail := func() string { return doing + " of " + s.config.Identity.Changefeed.String() }
		ctx = failpoint.Hold(ctx, failpoint.Txn, detail)
		if _, err := session.Do(ctx, statements...); err != nil { // who is held at the commit has everything else done
			return err
		}
		statements = nil
		ctx = failpoint.Hold(ctx, failpoint.Commit, detail)
	}
	err := session.Commit(ctx, statements...)
	if _, refused := errors.AsType[*Refused](err); err == nil || refused || errors.Is(err, ErrNotOne) {
		return err
	}
	return fmt.Errorf("sink sql: commit: %w: %w", err, fence.ErrUnknown)
}

// Raise implements [sink.Sink].
func (s *Sink) Raise(ctx context.Context, epoch fence.Epoch, known sink.Known) error {
	return s.with(ctx, "raise the floor", func(session Session) error {
		if err := s.setup(ctx, session); err != nil {
			return err
		}
		target := "" // tables of a source are looked at when the first row of each comes
		if s.config.Layout == LayoutPairs {
			var err error
			if target, err = s.prepare(ctx, session); err != nil {
				return err
			}
		}
		return s.raise(ctx, session, target, func(held sink.Head) (sink.Head, error) {
			return held.Raise(s.config.Identity, epoch, known)
		})
	})
}

// setup makes our tables. It asks first, so that a user who may not create anything can use what is there.
func (s *Sink) setup(ctx context.Context, session Session) error {
	results, err := session.Do(ctx, s.config.Dialect.Present())
	if err != nil || s.complete(results[0].Rows) {
		return err
	}
	_, err = session.Do(ctx, s.config.Dialect.Setup()...)
	return err
}

// complete reports whether all tables of ours that are needed are among those which are there.
func (s *Sink) complete(present [][]string) bool {
	needed := ours()
	if s.config.Layout == LayoutTables {
		needed = append(needed, oursForTables)
	}
	for _, name := range needed {
		if !slices.ContainsFunc(present, func(row []string) bool { return len(row) > 0 && strings.HasSuffix(row[0], name) }) {
			return false
		}
	}
	return true
}

// raise stores the head that follows the one that is there.
func (s *Sink) raise(ctx context.Context, session Session, target string, follow func(sink.Head) (sink.Head, error)) error {
	held, err := s.lockedHead(ctx, session)
	if err != nil {
		return err
	}
	head, err := follow(held.Head)
	if err != nil {
		return err
	}
	fresh := !held.Exists() || head.Succeeds(held.Head)
	if !fresh && held.target != target {
		return moved(held.target, target)
	}
	if fresh {
		err = s.begin(ctx, session, held, headRow{Head: head, target: target})
	} else {
		_, err = session.Do(ctx, s.statements.updateHead(held.id, head, held.target))
	}
	if err != nil {
		return err
	}
	return s.commit(ctx, session, "raise")
}

// lockedHead begins a transaction, and reads the head with its row locked.
func (s *Sink) lockedHead(ctx context.Context, session Session) (headRow, error) {
	results, err := session.Do(ctx,
		begin(),
		s.statements.lockHead(), // fence:F22 sql
		s.statements.readHead())
	if err != nil {
		return headRow{}, err
	}
	return headOf(results[len(results)-1])
}

// headOf decodes the head that a statement returned, if it did.
func headOf(result Result) (headRow, error) {
	if len(result.Rows) == 0 {
		return headRow{}, nil
	}
	head, err := readHead(result.Rows[0])
	if err != nil {
		return headRow{}, broken("heads", err)
	}
	return head, nil
}

// begin stores the first head of a creation, and registers its table.
func (s *Sink) begin(ctx context.Context, session Session, held, next headRow) error {
	results, err := session.Do(ctx, s.statements.holderOf(next.target))
	if err != nil {
		return err
	}
	holder, err := headOf(results[0])
	if err != nil {
		return err
	}
	if holder.Exists() && holder.id != held.id {
		return sink.InUse(holder.Identity)
	}
	var do []Statement
	if held.Exists() {
		do = append(s.forget(held.id), s.statements.updateHead(held.id, next.Head, next.target))
	} else {
		do = append(do, s.statements.insertHead(next.Head, next.target))
	}
	if next.target != "" {
		do = append(do, s.statements.register(next.target))
	}
	_, err = session.Do(ctx, do...)
	return err
}

// forget returns what lets go of everything that was kept beside a head.
func (s *Sink) forget(head int64) []Statement {
	out := append(s.statements.clear(head), s.statements.unregister(head))
	if s.config.Layout == LayoutTables {
		out = append(out, s.statements.forgetTables(head))
	}
	return out
}

// prepare makes sure that the table of data is there and can hold what is written to it, and returns its full name. It
// comes before the transaction of the head, since some servers end a transaction to create a table: a crash in between
// leaves an empty table.
func (s *Sink) prepare(ctx context.Context, session Session) (string, error) {
	describe := s.config.Dialect.Describe(s.config.Settings.Table)
	results, err := session.Do(ctx, s.statements.readHead(), describe)
	if err != nil {
		return "", err
	}
	head, err := headOf(results[0])
	if err != nil {
		return "", err
	}
	columns := results[1].Rows
	if len(columns) == 0 {
		name := s.config.Settings.Table
		switch {
		case head.Identity == s.config.Identity && !head.Removed && (head.target == name || strings.HasSuffix(head.target, "."+name)):
			return "", s.tableLost(name)
		case !s.config.Settings.Create:
			return "", s.noTable()
		}
		if results, err = session.Do(ctx, exec(CreateTable(s.config.Dialect, name, s.config.Settings.Mode)), describe); err != nil {
			return "", err
		}
		columns = results[1].Rows
	}
	return s.checkColumns(columns)
}

// checkColumns returns the full name of a table whose columns will do.
func (s *Sink) checkColumns(rows [][]string) (string, error) {
	full, found := "", map[string]string{}
	for _, row := range rows {
		r := reader{row: row}
		full = r.text()
		found[r.text()] = r.text()
	}
	for _, column := range ColumnsOf(s.config.Settings.Mode) {
		have, there := found[column.Name]
		switch {
		case !there:
			return "", s.wrongTable(column.Name, "is missing")
		case !s.config.Dialect.Holds(column.Kind).MatchString(have):
			return "", s.wrongTable(column.Name, "is of type "+have+", which can't hold it")
		}
	}
	return full, nil
}

// Remove implements [sink.Sink]. The rows of the copy stay.
func (s *Sink) Remove(ctx context.Context, epoch fence.Epoch) error {
	return s.with(ctx, "remove the claims", func(session Session) error {
		if err := s.setup(ctx, session); err != nil {
			return err
		}
		held, err := s.lockedHead(ctx, session)
		if err != nil {
			return err
		}
		head, err := held.Remove(s.config.Identity, epoch)
		if err != nil || head == held.Head {
			return err
		}
		target := s.config.Settings.Table
		if s.config.Layout == LayoutTables {
			target = ""
		}
		do := []Statement{s.statements.insertHead(head, target)}
		if held.Exists() {
			do = append(s.forget(held.id), s.statements.updateHead(held.id, head, held.target))
		}
		if _, err := session.Do(ctx, do...); err != nil {
			return err
		}
		return s.commit(ctx, session, "removal")
	})
}

// Close implements [sink.Sink]. Every connection belongs to a call or to a writer, so none is left.
func (s *Sink) Close() error { return nil }
