package sinktest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// Run runs the whole suite.
func Run(t *testing.T, h Harness) {
	t.Helper()
	for _, c := range cases() {
		t.Run(c.name, func(t *testing.T) { c.run(newWorld(t, h)) })
	}
}

// testCase is one scenario of the suite.
type testCase struct {
	name string
	run  func(w *world)
}

func cases() []testCase {
	return []testCase{
		{"raise", testRaise},
		{"a claim is refused below floor and higher tokens", testClaimRefused},
		{"a token claims again", testReclaim},
		{"a write is compared with its own claim", testLateWrite},
		{"a takeover goes on where it was", testTakeover},
		{"overlapping claims of unequal positions", testUnequal},
		{"parts never claimed start at from", testNeverClaimed},
		{"an adopted token claims again below the floor", testAdopted},
		{"split and merged in the middle of changes", testSplitMerge},
		{"a large run and a large position", testLarge},
		{"a snapshot is resumed, split and merged", testSnapshot},
		{"a snapshot removes stale keys", testStaleKeys},
		{"a busy writer does not starve a claim", testBusy},
		{"removed", testRemoved},
		{"a re-created changefeed inherits nothing", testReborn},
		{"another cluster and another changefeed are refused", testInUse},
		{"a target that was lost", testLost},
		{"a target behind the checkpoint", testBehind},
		{"a cancelled context", testCancelled},
		{"crash at every effect", testCrashes},
		{"a sync point holds exactly everything", testSyncApart},
		{"a sync point is recorded once", testSyncOnce},
		{"many sync points", testSyncMany},
		{"crash at every effect of a sync point", testSyncCrashes},
		{"random claimers", testRandom},
		{"concurrent claimers", testConcurrent},
	}
}

// world is one target with one toy source.
type world struct {
	*testing.T
	harness Harness
	target  Target
	source  *history
	me      sink.Identity
	seq     fence.Seq
}

const worldKeys = 24

func newWorld(t *testing.T, h Harness) *world {
	t.Helper()
	source := newHistory(rand.New(rand.NewPCG(7, 11)), 400, worldKeys)
	source.folds = h.Folds
	return &world{
		T: t, harness: h, target: h.New(t), source: source,
		me: sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1"},
	}
}

func (w *world) ctx() context.Context { return w.Context() }

// open returns a sink of another node.
func (w *world) open() sink.Sink {
	w.Helper()
	s := w.target.Open(w, w.me)
	w.Cleanup(func() { _ = s.Close() })
	return s
}

func (w *world) raise(s sink.Sink, epoch fence.Epoch) {
	w.Helper()
	require.NoError(w, s.Raise(w.ctx(), epoch, sink.KnownNothing))
}

// next returns a claim with a token above all that were given out at or below that epoch.
func (w *world) next(epoch fence.Epoch, span changefeed.Span) sink.Claim {
	w.seq++
	return sink.Claim{Span: span, Token: fence.Mint(epoch, w.seq)}
}

func (w *world) claim(s sink.Sink, c sink.Claim) *pump {
	w.Helper()
	p, err := claim(w.ctx(), s, w.source, c)
	require.NoError(w, err)
	w.Cleanup(func() { _ = p.writer.Close() })
	return p
}

func (w *world) advance(p *pump, upTo change.Position) {
	w.Helper()
	require.NoError(w, p.advance(w.ctx(), upTo))
}

// refused requires that a write of this claim is refused for good.
func (w *world) refused(p *pump) {
	w.Helper()
	late := sink.Batch{Span: p.span, To: change.At(w.source.head)}
	for _, c := range w.source.between(w.source.head-1, w.source.head) {
		if p.span.Contains(c.Key) {
			late.Changes = append(late.Changes, c)
		}
	}
	require.ErrorIs(w, p.writer.Write(w.ctx(), late), fence.ErrStale)
}

func (w *world) judge(from, upTo change.Position) {
	w.Helper()
	require.NoError(w, w.source.judge(w.target.Read(w, w.me), from, upTo))
}

// finish claims everything with a new owner, writes all that is left, and judges.
func (w *world) finish(epoch fence.Epoch, from change.Position) {
	w.Helper()
	s := w.open()
	w.raise(s, epoch)
	p := w.claim(s, w.next(epoch, changefeed.Whole()))
	require.NoError(w, p.snapshot(w.ctx(), max(from, 1), 5))
	w.advance(p, w.source.head)
	w.judge(from, w.source.head)
}

// requirePieces compares as text: an empty border may be nil or not.
func (w *world) requirePieces(want, got []sink.Piece) {
	w.Helper()
	require.Equal(w, fmt.Sprint(want), fmt.Sprint(got))
}

func (w *world) requireCode(err error, code changefeed.Code) {
	w.Helper()
	var fault *changefeed.Fault
	require.ErrorAs(w, err, &fault)
	require.Equal(w, code, fault.Code, "%v", err)
}
