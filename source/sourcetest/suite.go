package sourcetest

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

// Subject is a kind of source with something behind it that can be written to.
type Subject struct {
	// Open returns a new source of a key space that is this test's own; options as its kind reads them.
	Open func(t *testing.T) source.Source
	// OpenBridging is Open with the option that reads a new snapshot where history is gone. Nil skips its cases.
	OpenBridging func(t *testing.T) source.Source
	// Write commits the writes as one transaction, and returns their position. Keys are from Key.
	Write func(ctx context.Context, writes []Write) (change.Position, error)
	// Key returns the i-th of the keys of the source, which rise with i.
	Key func(t *testing.T, i int) string
	// Value returns the value of a row.
	Value func(change.Row) string
	// Forget makes the history up to the position unreadable. Nil skips its cases.
	Forget func(ctx context.Context, position change.Position) error
	// Serial says that indexes are the places in a transaction, whatever is read, and that history which is gone is the fault
	// source.slot_lost.
	Serial bool
	// Disturb breaks the connections of all sources. Nil skips its case.
	Disturb func(t *testing.T)
}

const (
	caseMax = 60 * time.Second
	keys    = 40
)

// Run runs the suite.
func Run(t *testing.T, subject Subject) {
	t.Helper()
	for name, run := range map[string]func(*suite){
		"changes in order, positions whole":         (*suite).live,
		"resumes from any mark":                     (*suite).resume,
		"pieces that are unequally far":             (*suite).unequal,
		"part of the key space":                     (*suite).part,
		"snapshot, then live, under writes":         (*suite).snapshot,
		"snapshot resumed in the middle":            (*suite).snapshotResumed,
		"idle source makes progress":                (*suite).idle,
		"once each over reconnects":                 (*suite).reconnect,
		"history gone is a fault":                   (*suite).gone,
		"history gone is bridged":                   (*suite).bridged,
		"ends with its context, and closes twice":   (*suite).ends,
		"small buffer and a reader that is slow":    (*suite).slow,
		"identity stays and head rises":             (*suite).identity,
		"snapshot of nothing still covers the span": (*suite).empty,
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), caseMax)
			defer cancel()
			run(&suite{Subject: subject, T: t, ctx: ctx, random: rand.New(rand.NewPCG(1, 2))})
		})
	}
}

// suite is one case being run.
type suite struct {
	Subject
	*testing.T
	ctx    context.Context //nolint:containedctx // one case, from beginning to end
	random *rand.Rand

	mu  sync.Mutex
	log Log
}

func (s *suite) open() source.Source {
	opened := s.Open(s.T)
	s.Cleanup(func() { require.NoError(s, opened.Close()) })
	return opened
}

// write commits a transaction on up to four keys and logs it.
func (s *suite) write(random *rand.Rand) change.Position {
	var writes []Write
	for _, i := range random.Perm(keys)[:1+random.IntN(4)] {
		write := Write{Key: s.Key(s.T, i), Value: fmt.Sprint(random.Uint64())}
		if s.exists(write.Key) && random.IntN(4) == 0 {
			write.Deleted, write.Value = true, ""
		}
		writes = append(writes, write)
	}
	return s.commit(writes)
}

func (s *suite) exists(key string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	last := slices.IndexFunc(s.log, func(w Write) bool { return w.Key == key })
	for i := range s.log {
		if s.log[i].Key == key {
			last = i
		}
	}
	return last >= 0 && !s.log[last].Deleted
}

func (s *suite) commit(writes []Write) change.Position {
	position, err := s.Write(s.ctx, writes)
	require.NoError(s, err)
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, write := range writes {
		write.Position = position
		if s.Serial {
			write.Index = uint32(i) //nolint:gosec // a few
		}
		s.log = append(s.log, write)
	}
	return position
}

func (s *suite) fill(n int) (last change.Position) {
	for range n {
		last = s.write(s.random)
	}
	return last
}

// follow reads from the pieces until everything is delivered up to the position, and judges it.
func (s *suite) follow(from source.Source, pieces []source.Piece, to func() change.Position) *Checker {
	checker := s.checker(pieces)
	reader, err := from.Read(s.ctx, source.Request{Pieces: pieces, BufferBytes: 1 << 20})
	require.NoError(s, err)
	defer func() { require.NoError(s, reader.Close()) }()
	for lowest(checker.Marks()) < to() {
		event, err := reader.Next(s.ctx)
		require.NoError(s, err)
		checker.Add(event)
	}
	return checker
}

func (s *suite) checker(pieces []source.Piece) *Checker {
	checker := NewChecker(pieces, s.Value)
	if s.Serial {
		checker.OfSerialLog()
	}
	return checker
}

func lowest(pieces []source.Piece) change.Position {
	low := pieces[0].Mark
	for _, piece := range pieces {
		low = change.Earlier(low, piece.Mark)
	}
	return low.Whole()
}

func fixed(position change.Position) func() change.Position {
	return func() change.Position { return position }
}

func (s *suite) judge(checker *Checker) { require.NoError(s, checker.Finish(s.log)) }

func (s *suite) head(of source.Source) change.Position {
	head, err := of.Head(s.ctx)
	require.NoError(s, err)
	return head
}

func (s *suite) pieces(span changefeed.Span, mark change.Mark) []source.Piece {
	return []source.Piece{{Span: span, Mark: mark}}
}

func (s *suite) live() {
	from := s.open()
	start := s.head(from)
	s.fill(10)
	var group sync.WaitGroup
	group.Go(func() { s.fill(60) })
	defer group.Wait()
	checker := s.follow(from, s.pieces(from.Span(), change.At(start)), func() change.Position {
		s.mu.Lock()
		defer s.mu.Unlock()
		if len(s.log) == 0 {
			return start + 1
		}
		return s.log[len(s.log)-1].Position
	})
	group.Wait()
	head := s.head(from)
	s.judge(checker)
	s.judge(s.follow(from, checker.Marks(), fixed(head)))
}

func (s *suite) resume() {
	from := s.open()
	start := s.head(from)
	end := s.fill(40)
	var positions []change.Position
	for _, write := range s.log {
		positions = append(positions, write.Position)
	}
	positions = slices.Compact(positions)
	for i, position := range positions {
		if i%4 != 0 {
			continue
		}
		s.judge(s.follow(from, s.pieces(from.Span(), change.At(position)), fixed(end)))
	}
	// In the middle of a position too.
	s.judge(s.follow(from, s.pieces(from.Span(), change.Mark{Position: positions[len(positions)/2], Index: 1}), fixed(end)))
	s.judge(s.follow(from, s.pieces(from.Span(), change.At(start)), fixed(end)))
}

func (s *suite) unequal() {
	from := s.open()
	s.fill(20)
	positions := []change.Position{s.fill(10), s.fill(10), s.fill(10)}
	end := s.fill(20)
	for range 5 {
		var pieces []source.Piece
		cuts := from.Span().SplitAt([]byte(s.Key(s.T, 10)), []byte(s.Key(s.T, 20)), []byte(s.Key(s.T, 30)))
		for _, span := range cuts {
			mark := change.At(positions[s.random.IntN(3)])
			if s.random.IntN(4) == 0 {
				mark = change.Mark{} // this one wants a snapshot
			}
			pieces = append(pieces, source.Piece{Span: span, Mark: mark})
		}
		s.judge(s.follow(from, pieces, fixed(end)))
	}
}

func (s *suite) part() {
	from := s.open()
	start := s.head(from)
	end := s.fill(50)
	for _, span := range from.Span().SplitAt([]byte(s.Key(s.T, 7)), []byte(s.Key(s.T, 23))) {
		s.judge(s.follow(from, s.pieces(span, change.At(start)), fixed(end)))
		s.judge(s.follow(from, s.pieces(span, change.Mark{}), fixed(end)))
	}
}

func (s *suite) snapshot() {
	from := s.open()
	s.fill(30)
	var group sync.WaitGroup
	random := rand.New(rand.NewPCG(3, 4))
	var last change.Position
	written := make(chan struct{})
	group.Go(func() {
		for range 80 {
			last = s.write(random)
		}
		close(written)
		s.write(random) // an event after the end is known, or follow would not look again
	})
	checker := s.follow(from, s.pieces(from.Span(), change.Mark{}), func() change.Position {
		select {
		case <-written:
			return last
		default:
			return ^change.Position(0)
		}
	})
	group.Wait()
	s.judge(checker)
}

func (s *suite) snapshotResumed() {
	from := s.open()
	s.fill(60)
	pieces := s.pieces(from.Span(), change.Mark{})
	for range 3 { // each reader is given up after its first page
		reader, err := from.Read(s.ctx, source.Request{Pieces: pieces, BufferBytes: 1 << 20})
		require.NoError(s, err)
		event, err := reader.Next(s.ctx)
		require.NoError(s, err)
		require.NoError(s, reader.Close())
		checker := s.checker(pieces)
		checker.Add(event)
		s.judge(checker)
		pieces = checker.Marks()
		s.fill(5)
	}
	end := s.fill(5)
	s.judge(s.follow(from, pieces, fixed(end)))
}

func (s *suite) idle() {
	from := s.open()
	end := s.fill(5)
	checker := s.follow(from, s.pieces(from.Span(), change.At(end)), fixed(end))
	s.judge(checker)
	// The head moves by writes outside of the part that is read.
	parts := from.Span().SplitAt([]byte(s.Key(s.T, keys)))
	require.Len(s, parts, 2)
	end = s.fill(5)
	checker = s.follow(from, s.pieces(parts[1], change.At(end-1)), fixed(end))
	s.judge(checker)
}

func (s *suite) reconnect() {
	if s.Disturb == nil {
		s.Skip("this source can't be disturbed")
	}
	from := s.open()
	start := s.head(from)
	var last change.Position
	written := make(chan struct{})
	var group sync.WaitGroup
	group.Go(func() {
		for i := range 120 {
			last = s.write(s.random)
			if i%30 == 10 {
				s.Disturb(s.T)
			}
		}
		close(written)
		s.write(s.random) // as in snapshot
	})
	checker := s.follow(from, s.pieces(from.Span(), change.At(start)), func() change.Position {
		select {
		case <-written:
			return last
		default:
			return ^change.Position(0)
		}
	})
	group.Wait()
	s.judge(checker)
}

func (s *suite) gone() {
	if s.Forget == nil {
		s.Skip("this source forgets nothing")
	}
	from := s.open()
	mark := s.fill(10)
	s.fill(5)
	last := s.fill(5)
	require.NoError(s, s.Forget(s.ctx, last))
	reader, err := from.Read(s.ctx, source.Request{Pieces: s.pieces(from.Span(), change.At(mark))})
	require.NoError(s, err)
	defer func() { require.NoError(s, reader.Close()) }()
	for err == nil {
		_, err = reader.Next(s.ctx)
	}
	fault := changefeed.AsFault(err, "")
	code := changefeed.CodeSourceCompacted
	if s.Serial {
		code = changefeed.CodeSourceSlotLost
	}
	require.Equal(s, code, fault.Code)
	require.True(s, fault.Permanent)
	require.NotEmpty(s, fault.Cure)
	// What is above the border can still be read.
	s.judge(s.follow(from, s.pieces(from.Span(), change.At(last)), fixed(last)))
}

func (s *suite) bridged() {
	if s.Forget == nil || s.OpenBridging == nil {
		s.Skip("this source bridges nothing")
	}
	from := s.OpenBridging(s.T)
	defer func() { require.NoError(s, from.Close()) }()
	s.fill(40)
	mark := s.fill(1)
	s.fill(20)
	last := s.fill(1)
	require.NoError(s, s.Forget(s.ctx, last))
	end := s.fill(10)
	checker := s.follow(from, s.pieces(from.Span(), change.At(mark)), fixed(end))
	s.judge(checker)
	require.True(s, slices.ContainsFunc(checker.events, func(e source.Event) bool { return e.Snapshot }))
}

func (s *suite) ends() {
	from := s.open()
	ctx, cancel := context.WithCancel(s.ctx)
	reader, err := from.Read(s.ctx, source.Request{Pieces: s.pieces(from.Span(), change.At(s.head(from)))})
	require.NoError(s, err)
	time.AfterFunc(20*time.Millisecond, cancel)
	for err == nil {
		_, err = reader.Next(ctx)
	}
	require.True(s, errors.Is(err, context.Canceled), "%v", err)
	require.NoError(s, reader.Close())
	require.NoError(s, reader.Close())
	_, err = reader.Next(s.ctx)
	require.Error(s, err)
	reader, err = from.Read(s.ctx, source.Request{Pieces: s.pieces(from.Span(), change.Mark{})})
	require.NoError(s, err)
	require.NoError(s, reader.Close())
}

func (s *suite) slow() {
	from := s.open()
	start := s.head(from)
	end := s.fill(100)
	reader, err := from.Read(s.ctx, source.Request{Pieces: s.pieces(from.Span(), change.At(start)), BufferBytes: 1})
	require.NoError(s, err)
	defer func() { require.NoError(s, reader.Close()) }()
	checker := s.checker(s.pieces(from.Span(), change.At(start)))
	for lowest(checker.Marks()) < end {
		event, err := reader.Next(s.ctx)
		require.NoError(s, err)
		checker.Add(event)
	}
	s.judge(checker)
}

func (s *suite) identity() {
	one, other := s.open(), s.open()
	first, err := one.Identity(s.ctx)
	require.NoError(s, err)
	require.NotEmpty(s, first)
	second, err := other.Identity(s.ctx)
	require.NoError(s, err)
	require.Equal(s, first, second)
	before := s.head(one)
	last := s.fill(3)
	require.Greater(s, last, before)
	require.GreaterOrEqual(s, s.head(other), last)
}

func (s *suite) empty() {
	from := s.open()
	require.True(s, from.Span().Valid())
	span := changefeed.Span{Start: []byte(s.Key(s.T, keys)), End: []byte(s.Key(s.T, keys+1))}
	checker := s.follow(from, s.pieces(span, change.Mark{}), func() change.Position { return 1 })
	s.judge(checker)
	require.True(s, checker.events[0].Snapshot)
	require.Empty(s, checker.events[0].Changes)
	require.True(s, checker.events[0].Span.Equal(span))
}
