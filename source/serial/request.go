package serial

import (
	"errors"
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/source"
)

// Request opens a subscription at the owner's node.
type Request struct {
	Changefeed changefeed.ID
	UID        changefeed.UID
	Epoch      fence.Epoch // of the owner that is meant: the reader of an older one is not
	ID         string      // random
	Pieces     []source.Piece
	Credit     int // bytes that may be on their way
}

// Bounds of a request.
const (
	piecesMax   = 100_000
	idBytesMax  = 64
	keyBytesMax = 1 << 20
	// creditMin and creditMax bound the credit of one subscription: a window below makes it a message at a time, and one above
	// is more than a pump reads ahead.
	creditMin = 64 << 10
	creditMax = 256 << 20
)

var errRequest = errors.New("serial: request is not valid")

func (r *Request) validate() error {
	switch {
	case r.UID == "" || r.Epoch == 0:
		return fmt.Errorf("%w: no ownership is meant", errRequest)
	case len(r.ID) == 0 || len(r.ID) > idBytesMax:
		return fmt.Errorf("%w: no usable id", errRequest)
	case len(r.Pieces) == 0 || len(r.Pieces) > piecesMax:
		return fmt.Errorf("%w: %d pieces", errRequest, len(r.Pieces))
	case r.Credit < 1 || r.Credit > creditMax:
		return fmt.Errorf("%w: credit of %d bytes", errRequest, r.Credit)
	}
	for i := range r.Pieces {
		piece := &r.Pieces[i]
		switch {
		case !piece.Span.Valid() || len(piece.Span.Start) > keyBytesMax || len(piece.Span.End) > keyBytesMax:
			return fmt.Errorf("%w: piece %d has no valid span", errRequest, i)
		case piece.Mark == change.Mark{}:
			return fmt.Errorf("%w: piece %d wants a snapshot", errRequest, i)
		case i > 0 && (len(piece.Span.Start) == 0 || string(r.Pieces[i-1].Span.End) != string(piece.Span.Start)):
			return fmt.Errorf("%w: piece %d does not follow the one before", errRequest, i)
		}
	}
	return nil
}

// Why a subscription ends that its dispatcher opens anew.
var (
	errEnded   = errors.New("serial: the reader of the log has ended")
	errNoHub   = errors.New("serial: the reader of the log is not there yet")
	errDropped = errors.New("serial: the subscription was given up")
)

// Gap says that a subscription begins below what the source still has.
type Gap struct {
	At    change.Mark     // where the subscription begins
	Floor change.Position // from where on nothing is lost
}

// Error implements error.
func (g *Gap) Error() string {
	return fmt.Sprintf("a span is at %v, and the log is kept from %v on", g.At, g.Floor)
}

// fault is the gap as people are shown it, unless others have written what is missing: the dispatcher finds that out at the sink.
func (g *Gap) fault() *changefeed.Fault {
	return &changefeed.Fault{
		Code: changefeed.CodeSourceSlotLost, Field: "source", Detail: "has forgotten changes that were not written yet", Err: g,
		Cure: "remove the changefeed and create it anew, or set on_gap=resnapshot to have it read everything again", Permanent: true,
	}
}
