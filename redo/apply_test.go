package redo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
	"fencerow/sink/sinktest"
)

// story is a source of numbered changes, and the spans that dispatchers have of it.
type story struct {
	*testing.T
	pair
	random *rand.Rand
	epoch  fence.Epoch
	sink   sink.Sink
	pumps  []*mover
}

// mover is a dispatcher.
type mover struct {
	span changefeed.Span
	w    sink.Staged
	at   change.Position // up to where it has staged batches
	held *sink.Batch     // staged, and not in the target yet
}

// finish writes everything up to a position.
func (m *mover) finish(t *testing.T, to change.Position) {
	t.Helper()
	if m.held != nil {
		require.NoError(t, m.w.Write(t.Context(), *m.held))
		m.held = nil
	}
	require.NoError(t, m.w.Write(t.Context(), m.batch(to)))
	m.at = to
}

const letters = "abcdefghijklmnop"

// keyAt is the key that changes at a position.
func keyAt(position change.Position) string {
	return string(letters[(uint64(position)*7+uint64(position)/5)%uint64(len(letters))])
}

// stateAt is what the source holds at a position.
func stateAt(position change.Position) map[string]string {
	out := map[string]string{}
	for at := change.Position(2); at <= position; at++ {
		out[sinktest.KeyPrefix+keyAt(at)] = fmt.Sprintf("%s@%d", keyAt(at), at)
	}
	return out
}

// allOfK is the key space of the source.
func allOfK() changefeed.Span { return changefeed.Span{Start: []byte("k/"), End: []byte("k0")} }

func newStory(t *testing.T, seed uint64, target half) *story {
	t.Helper()
	s := &story{
		T: t, pair: pair{log: newFiles(t), target: target, whole: allOfK()}, random: rand.New(rand.NewPCG(seed, 1)), epoch: 1, //nolint:gosec // a test
	}
	s.takeOver()
	about := About{Changefeed: me.Changefeed.String(), UID: me.UID, Source: "etcd://127.0.0.1:1/?prefix=k/", Sink: "etcd://127.0.0.1:2/copy/"}
	require.NoError(t, about.store(s.log.directory))
	return s
}

// takeOver raises and claims in three spans.
func (s *story) takeOver() {
	s.Helper()
	s.sink = s.Open(s, me)
	require.NoError(s, s.sink.Raise(s.Context(), s.epoch, sink.KnownNothing))
	s.pumps = nil
	borders := []string{"k/", "k/e", "k/k", "k0"} // all that has the prefix
	for i := range 3 {
		s.claim(changefeed.Span{Start: []byte(borders[i]), End: []byte(borders[i+1])}, fence.Seq(i+1)) //nolint:gosec // small
	}
}

func (s *story) claim(span changefeed.Span, seq fence.Seq) {
	s.Helper()
	w, err := s.sink.Claim(s.Context(), sink.Claim{Span: span, Token: fence.Mint(s.epoch, seq), From: change.At(1)})
	require.NoError(s, err)
	m := &mover{span: span, w: w.(sink.Staged)}
	m.at = ^change.Position(0)
	for _, piece := range w.Pieces() {
		m.at = min(m.at, piece.Mark.Whole())
	}
	s.pumps = append(s.pumps, m)
}

// batch is what comes next for a dispatcher.
func (m *mover) batch(to change.Position) sink.Batch {
	batch := sink.Batch{Span: m.span, To: change.At(to)}
	for at := m.at + 1; at <= to; at++ {
		if m.span.Contains([]byte(sinktest.KeyPrefix + keyAt(at))) {
			batch.Changes = append(batch.Changes, put(m.span, at, keyAt(at)).Changes...)
		}
	}
	return batch
}

// goOn stages some batches of each, and writes them to the target when they may pass.
func (s *story) goOn(steps int) {
	s.Helper()
	for range steps {
		m := s.pumps[s.random.IntN(len(s.pumps))]
		if m.held == nil {
			batch := m.batch(m.at + change.Position(1+s.random.IntN(30))) //nolint:gosec // small
			require.NoError(s, m.w.Stage(s.Context(), batch))
			m.at, m.held = batch.To.Position, &batch
		}
		for _, m := range s.pumps {
			if m.held != nil && s.passes(m, *m.held) {
				require.NoError(s, m.w.Write(s.Context(), *m.held))
				m.held = nil
			}
		}
	}
}

func (s *story) passes(m *mover, batch sink.Batch) bool {
	ctx, cancel := context.WithTimeout(s.Context(), time.Millisecond)
	defer cancel()
	return m.w.Await(ctx, batch) == nil
}

// lowest is what the consistent position must be.
func (s *story) lowest() change.Position {
	s.Helper()
	m, err := s.log.openLog(s, me).Marks(s.Context())
	require.NoError(s, err)
	low := ^change.Position(0)
	for _, piece := range m.Held() {
		low = min(low, piece.Mark.Whole())
	}
	return low
}

func (s *story) apply(target half, crash sinktest.Crash) (Result, error) {
	at := &crashes{crash: crash}
	return Apply(s.Context(), ApplyConfig{
		Directory: s.log.directory, Quiet: time.Millisecond,
		Open: func(_ About, as sink.Identity) (Target, error) {
			opened := target.open(s, as)
			return &faultyTarget{faultySink: faultySink{Sink: opened, at: at}, opened: opened.(sink.Inspector)}, nil
		},
	})
}

type faultyTarget struct {
	faultySink
	opened sink.Inspector
}

func (f *faultyTarget) Inspect(ctx context.Context) (sink.Kept, error) { return f.opened.Inspect(ctx) }

// requireHistory requires that the target has each change up to a position once, in order per key, and nothing else.
func (s *story) requireHistory(target half, to change.Position) {
	s.Helper()
	got := map[string][]string{}
	for _, entry := range target.read(s, me, 0) {
		got[entry.Key] = append(got[entry.Key], entry.Value)
	}
	want := map[string][]string{}
	for at := change.Position(2); at <= to; at++ {
		key := sinktest.KeyPrefix + keyAt(at)
		want[key] = append(want[key], fmt.Sprintf("%s@%d", keyAt(at), at))
	}
	require.Equal(s, want, got)
}

// TestApplyBringsTheTargetToOnePosition kills it at each of its steps in turn, and applies again.
func TestApplyBringsTheTargetToOnePosition(t *testing.T) {
	t.Parallel()
	killed := 0
	for seed := range uint64(6) {
		for at := 1; ; at++ {
			s := newStory(t, seed, newCopy(t))
			s.goOn(30)
			if seed%2 == 1 {
				s.epoch = 2
				s.takeOver()
				s.goOn(20)
			}
			low := s.lowest()
			when := []sinktest.Moment{sinktest.BeforeEffect, sinktest.AfterEffect}[at%2]
			_, err := s.apply(s.target, sinktest.Crash{At: at, When: when})
			over := err == nil
			if !over {
				require.ErrorIs(t, err, errCrashed)
				killed++
			}
			result, err := s.apply(s.target, sinktest.Crash{})
			require.NoError(t, err)
			require.Equal(t, low, result.Position)
			require.Equal(t, stateAt(low), last(s.target.read(t, me, 0)))
			s.requireHistory(s.target, low)
			for _, m := range s.pumps {
				require.ErrorIs(t, m.w.Write(t.Context(), m.batch(m.at+5)), fence.ErrStale, "who wrote before is shut out")
			}
			if over {
				break
			}
		}
	}
	require.Greater(t, killed, 20)
}

// TestApplyToAnEmptyTarget leaves a changefeed that goes on alone.
func TestApplyToAnEmptyTarget(t *testing.T) {
	t.Parallel()
	s := newStory(t, 3, newCopy(t))
	s.goOn(40)
	low := s.lowest()
	for name, open := range map[string]half{"etcd": newCopy(t), "files": newFiles(t)} {
		_, err := s.apply(open, sinktest.Crash{At: 4, When: sinktest.AfterEffect})
		require.Error(t, err, name)
		result, err := s.apply(open, sinktest.Crash{})
		require.NoError(t, err, name)
		require.Equal(t, low, result.Position)
		s.requireHistory(open, low)
	}
	s.goOn(20) // nobody was shut out
}

// TestTheChangefeedGoesOnAfterApply, since its source was not lost after all.
func TestTheChangefeedGoesOnAfterApply(t *testing.T) {
	t.Parallel()
	s := newStory(t, 4, newCopy(t))
	s.goOn(40)
	_, err := s.apply(s.target, sinktest.Crash{})
	require.NoError(t, err)
	again := s.sink
	_, err = again.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(1, 99)})
	require.ErrorIs(t, err, fence.ErrStale, "no placement of the owner before")
	s.epoch = 2
	s.takeOver()
	s.goOn(60)
	low := s.lowest()
	for _, m := range s.pumps {
		m.finish(t, low+100)
	}
	s.requireHistory(s.target, low+100)
}

// TestApplyIsFencedByANewerOwner: a claim of a newer epoch comes in the middle of it.
func TestApplyIsFencedByANewerOwner(t *testing.T) {
	t.Parallel()
	s := newStory(t, 5, newCopy(t))
	s.goOn(40)
	low := s.lowest()
	calls := 0
	_, err := Apply(t.Context(), ApplyConfig{
		Directory: s.log.directory, Quiet: time.Millisecond,
		Open: func(_ About, as sink.Identity) (Target, error) {
			opened := s.target.open(t, as)
			return &hooked{Sink: opened, Inspector: opened.(sink.Inspector), before: func() {
				if calls++; calls == 2 {
					s.epoch = 2
					s.takeOver()
				}
			}}, nil
		},
	})
	require.ErrorIs(t, err, fence.ErrStale)
	fault, ok := errors.AsType[*changefeed.Fault](err)
	require.True(t, ok)
	require.Equal(t, changefeed.CodeSinkInUse, fault.Code)
	for _, m := range s.pumps {
		m.finish(t, low+50)
	}
	s.requireHistory(s.target, low+50)
}

// hooked is a target with something that happens before its writes.
type hooked struct {
	sink.Sink
	sink.Inspector
	before func()
}

func (h *hooked) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	w, err := h.Sink.Claim(ctx, claim)
	if err != nil {
		return nil, err
	}
	return &hookedWriter{Writer: w, before: h.before}, nil
}

type hookedWriter struct {
	sink.Writer
	before func()
}

func (h *hookedWriter) Write(ctx context.Context, batch sink.Batch) error {
	h.before()
	return h.Writer.Write(ctx, batch)
}

func TestApplyRefuses(t *testing.T) {
	t.Parallel()
	refused := func(t *testing.T, s *story, target half, code changefeed.Code, says string) {
		t.Helper()
		_, err := s.apply(target, sinktest.Crash{})
		fault, ok := errors.AsType[*changefeed.Fault](err)
		require.True(t, ok, "%v", err)
		require.Equal(t, code, fault.Code, "%v", err)
		require.Contains(t, err.Error(), says)
		require.NotEmpty(t, fault.Cure)
	}
	t.Run("a directory that is no log", func(t *testing.T) {
		t.Parallel()
		_, err := Apply(t.Context(), ApplyConfig{Directory: t.TempDir()})
		require.ErrorContains(t, err, "holds no redo log")
	})
	t.Run("a changefeed that writes", func(t *testing.T) {
		t.Parallel()
		s := newStory(t, 6, newCopy(t))
		s.goOn(20)
		_, err := Apply(t.Context(), ApplyConfig{
			Directory: s.log.directory, Quiet: 200 * time.Millisecond,
			Open: func(_ About, as sink.Identity) (Target, error) { return s.target.open(t, as).(Target), nil },
			Tell: func(p Progress) {
				if p.Doing == "seeing that nobody writes" {
					m := s.pumps[0]
					require.NoError(t, m.w.Stage(t.Context(), m.batch(m.at+3)))
				}
			},
		})
		require.ErrorContains(t, err, "is being written to")
		for _, m := range s.pumps {
			require.NoError(t, m.w.Write(t.Context(), m.batch(m.at+9)), "nobody was shut out")
		}
	})
	t.Run("the target of another", func(t *testing.T) {
		t.Parallel()
		s := newStory(t, 7, newCopy(t))
		s.goOn(20)
		other, foreign := newCopy(t), me
		foreign.Changefeed.Name, foreign.UID = "bills", "uid-9"
		require.NoError(t, other.open(t, foreign).Raise(t.Context(), 1, sink.KnownNothing))
		_, err := s.apply(other, sinktest.Crash{})
		require.Error(t, err)
	})
	t.Run("a part that nobody claimed", func(t *testing.T) {
		t.Parallel()
		s := newStory(t, 8, newCopy(t))
		s.goOn(20)
		p := &story{T: t, pair: pair{log: newFiles(t), target: newCopy(t)}, epoch: 1}
		p.sink = p.Open(t, me)
		require.NoError(t, p.sink.Raise(t.Context(), 1, sink.KnownNothing))
		p.claim(changefeed.Span{Start: []byte("k/"), End: []byte("k/e")}, 1)
		require.NoError(t, (About{UID: me.UID, Source: "etcd://127.0.0.1:1/?prefix=k/"}).store(p.log.directory))
		refused(t, p, p.target, changefeed.CodeSinkBehind, "nobody ever wrote")
	})
	t.Run("a snapshot that is not at its end", func(t *testing.T) {
		t.Parallel()
		s := newStory(t, 9, newCopy(t))
		require.NoError(t, s.pumps[0].w.Write(t.Context(), sink.Batch{Span: s.pumps[0].span, To: change.At(50), Snapshot: true}))
		s.pumps[0].at = 50
		refused(t, s, newCopy(t), changefeed.CodeSinkBehind, "a page of a snapshot was read at 50")
	})
	t.Run("a target beyond the log", func(t *testing.T) {
		t.Parallel()
		s := newStory(t, 10, newCopy(t))
		s.goOn(10)
		require.NoError(t, s.pumps[1].w.Write(t.Context(), s.pumps[1].batch(900)))
		refused(t, s, s.target, changefeed.CodeSinkBehind, "the target is at")
	})
	t.Run("what was retired", func(t *testing.T) {
		t.Parallel()
		s := newStory(t, 11, newCopy(t))
		s.goOn(40)
		s.epoch = 2
		s.takeOver() // so that the claims before have ended
		s.goOn(20)
		names, err := filepath.Glob(filepath.Join(s.log.directory, "data", "00000000000000000002-*"))
		require.NoError(t, err)
		require.NotEmpty(t, names)
		for _, name := range names {
			require.NoError(t, os.Remove(name))
		}
		refused(t, s, newCopy(t), changefeed.CodeSinkLost, "redo_retain")
		low := s.lowest()
		result, err := s.apply(s.target, sinktest.Crash{})
		require.NoError(t, err, "its own target has come as far")
		require.Equal(t, low, result.Position)
		s.requireHistory(s.target, low)
	})
}
