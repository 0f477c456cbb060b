// Package serialtest has a serial source in memory, which keeps the contract of [source.Serial] and can be told to fail in
// the ways in which real ones do.
package serialtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/source"
)

// Table is the relation of all rows.
var Table = &change.Relation{ //nolint:gochecknoglobals // read only
	Schema: "public", Name: "t", Columns: []change.Column{
		{Name: "k", Type: "text", Number: 1, Key: 1}, {Name: "v", Type: "text", Number: 2, Null: true},
	},
}

// Key returns the key of the row with this number.
func Key(i int) string {
	start, _ := change.TableSpan(Table.Schema, Table.Name)
	return string(change.AppendKey(start, Table, [][]byte{fmt.Appendf(nil, "%06d", i), nil}))
}

// Value returns what a row of the table has beside its key.
func Value(row change.Row) string {
	tuple, ok := row.(*change.Tuple)
	if !ok {
		return ""
	}
	return string(tuple.Cells[1])
}

// Database is what sources read. Its methods may be called by any goroutine.
type Database struct {
	// EventChanges is how many changes an event has at most; more of one transaction are in several. 0: no limit.
	EventChanges int

	mu       sync.Mutex // guards what follows
	commits  [][]change.Change
	head     change.Position
	rows     map[string]*change.Tuple
	slot     bool
	kept     change.Position // everything at or below is forgotten
	broken   int             // generation of the logs that still work
	reader   fence.Epoch     // of the newest log
	fault    error
	moved    chan struct{}
	followed int
}

// NewDatabase returns an empty one.
func NewDatabase() *Database {
	return &Database{head: 100, rows: make(map[string]*change.Tuple), moved: make(chan struct{})}
}

// Write is a change of one row.
type Write struct {
	Key     string
	Value   string
	Deleted bool
}

const step = 10 // between two commits

// Commit commits writes as one transaction.
func (d *Database) Commit(writes []Write) change.Position {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.head += step
	changes := make([]change.Change, len(writes))
	for i, write := range writes {
		c := change.Change{
			Position: d.head, Index: uint32(i), Op: change.OpCreate, Key: []byte(write.Key), Table: Table.String(), //nolint:gosec // a few
			CommitTime: time.Unix(int64(d.head), 0).UTC(), //nolint:gosec // small
		}
		if before := d.rows[write.Key]; before != nil {
			c.Op, c.Before = change.OpUpdate, before
		}
		if write.Deleted {
			c.Op = change.OpDelete
			delete(d.rows, write.Key)
		} else {
			start, _ := change.TableSpan(Table.Schema, Table.Name)
			row := &change.Tuple{Of: Table, Cells: [][]byte{[]byte(write.Key[len(start):]), []byte(write.Value)}}
			c.After, d.rows[write.Key] = row, row
		}
		changes[i] = c
	}
	d.commits = append(d.commits, changes)
	d.touch()
	return d.head
}

// touch wakes everything that waits. The lock is held.
func (d *Database) touch() {
	close(d.moved)
	d.moved = make(chan struct{})
}

// Head returns the position of the last commit.
func (d *Database) Head() change.Position {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.head
}

// Break has every open log fail once.
func (d *Database) Break() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.broken++
	d.touch()
}

// Fail has everything fail with the error from now on; nil ends that.
func (d *Database) Fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = err
	d.touch()
}

// DropSlot loses what the source keeps.
func (d *Database) DropSlot() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.slot = false
	d.broken++
	d.touch()
}

// Kept returns up to where everything is forgotten.
func (d *Database) Kept() change.Position {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.kept
}

// Slot reports whether something is kept for a changefeed.
func (d *Database) Slot() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.slot
}

// Followed returns how often a log was opened.
func (d *Database) Followed() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.followed
}

// Open returns a source under an epoch; 0 for dispatchers.
func (d *Database) Open(epoch fence.Epoch) *Source { return &Source{database: d, epoch: epoch} }

// Source implements [source.Serial].
type Source struct {
	database *Database
	epoch    fence.Epoch
}

var errBroken = errors.New("serialtest: the connection broke")

// SlotLost is the fault of a slot that is gone.
func SlotLost() *changefeed.Fault {
	return &changefeed.Fault{Code: changefeed.CodeSourceSlotLost, Detail: "the slot is gone", Cure: "reset the changefeed", Permanent: true}
}

// Identity implements source.Source.
func (s *Source) Identity(context.Context) (string, error) {
	s.database.mu.Lock()
	defer s.database.mu.Unlock()
	return "memory", s.database.fault
}

// Head implements source.Source.
func (s *Source) Head(context.Context) (change.Position, error) {
	s.database.mu.Lock()
	defer s.database.mu.Unlock()
	return s.database.head, s.database.fault
}

// Span implements source.Source.
func (s *Source) Span() changefeed.Span { return changefeed.Whole() }

// Close implements source.Source.
func (s *Source) Close() error { return nil }

// Prepare implements source.Serial.
func (s *Source) Prepare(_ context.Context, begun bool) (change.Position, error) {
	d := s.database
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.fault != nil:
		return 0, d.fault
	case d.slot:
		return d.kept, nil
	case begun:
		return 0, SlotLost()
	}
	d.slot, d.kept = true, d.head
	return d.kept, nil
}

// Drop implements source.Serial.
func (s *Source) Drop(context.Context) error {
	d := s.database
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault != nil {
		return d.fault
	}
	d.slot = false
	return nil
}

// Follow implements source.Serial.
func (s *Source) Follow(_ context.Context, above change.Position) (source.Log, error) {
	d := s.database
	d.mu.Lock()
	defer d.mu.Unlock()
	if s.epoch.OlderThan(d.reader) {
		return nil, fmt.Errorf("serialtest: %w", fence.ErrStale)
	}
	d.reader = s.epoch
	d.broken++ // an older reader's connection
	d.touch()
	d.followed++
	return &follower{database: d, at: max(above, d.kept), generation: d.broken}, nil // a server skips what it has forgotten
}

// follower implements source.Log.
type follower struct {
	database   *Database
	at         change.Position // everything at or below was delivered
	part       int             // of the commit above it
	generation int
	told       bool
	closed     bool
}

// Next implements source.Reader.
func (f *follower) Next(ctx context.Context) (source.Event, error) {
	d := f.database
	for {
		d.mu.Lock()
		event, due, err := f.next()
		moved := d.moved
		d.mu.Unlock()
		if err != nil || due {
			return event, err
		}
		select {
		case <-moved:
		case <-ctx.Done():
			return source.Event{}, ctx.Err()
		}
	}
}

// next returns what is due. The lock is held.
func (f *follower) next() (event source.Event, due bool, err error) {
	d := f.database
	switch {
	case f.closed || f.generation != d.broken:
		return event, false, errBroken
	case d.fault != nil:
		return event, false, d.fault
	case !d.slot:
		return event, false, SlotLost()
	}
	at, _ := slices.BinarySearchFunc(d.commits, f.at+1, func(c []change.Change, p change.Position) int {
		return int(c[0].Position) - int(p) //nolint:gosec // small
	})
	if at == len(d.commits) {
		if f.told || f.at >= d.head {
			return event, false, nil
		}
		f.told, f.at = true, d.head
		return source.Event{To: change.At(d.head), Resolved: d.head}, true, nil
	}
	commit := d.commits[at][f.part:]
	position := commit[0].Position
	to := change.At(position)
	if d.EventChanges > 0 && len(commit) > d.EventChanges {
		commit = commit[:d.EventChanges]
		f.part += d.EventChanges
		to.Index = uint32(f.part) //nolint:gosec // a few
	} else {
		f.part, f.at, f.told = 0, position, false
	}
	return source.Event{Changes: slices.Clone(commit), To: to, Resolved: d.head}, true, nil
}

// Close implements source.Reader.
func (f *follower) Close() error {
	f.database.mu.Lock()
	defer f.database.mu.Unlock()
	f.closed = true
	return nil
}

// Acknowledge implements source.Log.
func (f *follower) Acknowledge(position change.Position) {
	f.database.mu.Lock()
	defer f.database.mu.Unlock()
	f.database.kept = max(f.database.kept, position)
}

// pageRows is how many rows a page of a snapshot has.
const pageRows = 7

// Read implements source.Source: the snapshots of the pieces that have none.
func (s *Source) Read(_ context.Context, request source.Request) (source.Reader, error) {
	d := s.database
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.fault != nil {
		return nil, d.fault
	}
	out := &snapshot{}
	for _, piece := range request.Pieces {
		if piece.Mark == (change.Mark{}) {
			out.pages = append(out.pages, d.pages(piece.Span)...)
		}
	}
	return out, nil
}

// pages returns what a span holds now. The lock is held.
func (d *Database) pages(span changefeed.Span) []source.Event {
	var out []source.Event
	event := source.Event{Span: span, To: change.At(d.head), Snapshot: true}
	for _, key := range slices.Sorted(maps.Keys(d.rows)) {
		if !span.Contains([]byte(key)) {
			continue
		}
		if len(event.Changes) == pageRows {
			event.Span.End = []byte(key)
			out = append(out, event)
			event = source.Event{Span: changefeed.Span{Start: []byte(key), End: span.End}, To: change.At(d.head), Snapshot: true}
		}
		event.Changes = append(event.Changes, change.Change{
			Position: d.head, Index: uint32(len(event.Changes)), Op: change.OpRead, Key: []byte(key), Table: Table.String(), //nolint:gosec // a few
			After: d.rows[key],
		})
	}
	return append(out, event)
}

type snapshot struct{ pages []source.Event }

// Next implements source.Reader.
func (s *snapshot) Next(ctx context.Context) (source.Event, error) {
	if ctx.Err() != nil {
		return source.Event{}, ctx.Err()
	}
	if len(s.pages) == 0 {
		return source.Event{}, io.EOF
	}
	page := s.pages[0]
	s.pages = s.pages[1:]
	return page, nil
}

// Close implements source.Reader.
func (s *snapshot) Close() error {
	s.pages = nil
	return nil
}
