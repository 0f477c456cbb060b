package sink

import (
	"context"
	"errors"
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
)

// Outcomes of recording a sync point that are no faults.
var (
	// ErrSynced says that this sync point is recorded already: whoever asks for it again has nothing to do.
	ErrSynced = errors.New("sink: the sync point is recorded already")
	// ErrApart says that not every part of the key space stands at the sync point, so that nothing was recorded.
	ErrApart = errors.New("sink: not everything stands at the sync point")
)

// Syncing is what a sink implements that records sync points: positions at which it holds exactly everything up to there,
// over all spans, so that a reader can take a consistent cut. Its writers are [SyncWriter].
type Syncing interface {
	Sink
	// LastSync returns the newest sync point that was recorded for this creation of the changefeed; 0 if there is none. An
	// owner learns from it alone whether its action was done, not from what it is told.
	LastSync(ctx context.Context) (change.Position, error)
}

// SyncWriter is a writer that records sync points.
type SyncWriter interface {
	Writer
	// Sync records the sync point in one atomic step: under this writer's claim (F23), with a key of its own, (uid,
	// position), that must not exist yet (F24), and only if every part of whole stands there. A copy holds nothing above
	// it at that moment; a log may, since its readers leave out what lies above.
	//
	// nil: recorded. ErrSynced: it was before. ErrApart: not recorded, since some part stands elsewhere or was never
	// claimed; the writer goes on. ErrStale, ErrUnknown and others are as for Write.
	Sync(ctx context.Context, whole changefeed.Span, at change.Position) error
}

// SyncPointsMax is how many sync points a sink keeps at least of those that it records. Older ones go: of a copy the
// target's own history doesn't reach back as far, and of a log a newer one serves as well.
const SyncPointsMax = 64

// StandsAt returns nil if every part of whole is exactly at the position, and [ErrApart] with the first that is not.
func (m Map) StandsAt(whole changefeed.Span, at change.Position) error {
	return m.stands(whole, at, func(held Held) bool { return held.Mark == change.At(at) })
}

// HasReached returns nil if every part of whole is at the position or above, and [ErrApart] with the first that is not.
func (m Map) HasReached(whole changefeed.Span, at change.Position) error {
	return m.stands(whole, at, func(held Held) bool { return !held.Mark.Before(change.At(at)) })
}

func (m Map) stands(whole changefeed.Span, at change.Position, good func(Held) bool) error {
	if at == 0 {
		return fmt.Errorf("%w: position 0 is none", ErrApart)
	}
	var spans []changefeed.Span
	for _, piece := range m.Overlapping(whole) {
		spans = append(spans, piece.Span)
		if !good(piece) {
			return fmt.Errorf("%w %d: %v is at %v", ErrApart, at, piece.Span, piece.Mark)
		}
	}
	for _, gap := range changefeed.Gaps(whole, spans) {
		return fmt.Errorf("%w %d: nobody ever claimed %v", ErrApart, at, gap)
	}
	return nil
}
