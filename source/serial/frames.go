package serial

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/source"
)

// FrameBytesMax bounds one frame.
const FrameBytesMax = 4 << 20

const (
	// dataBytes is how much of the stream of records goes into one frame.
	dataBytes = 256 << 10
	// beatEvery is how often either end says that it is there, and silentMax how long it may be silent: a half-open
	// connection looks alive to the system.
	beatEvery = time.Second
	silentMax = 10 * time.Second
)

// The kinds of frames: the first byte of each. The first frame of a dispatcher is its request, the first of the owner's
// node its acceptance, or the end.
const (
	frameRequest = 'Q' // requestFrame
	frameGrant   = 'G' // bytes, as a varint
	frameHurry   = 'H'
	frameBeat    = 'B' // from the owner's node: how many messages were sent, as a varint
	frameAccept  = 'A'
	frameData    = 'D' // a part of the stream of records
	frameNote    = 'N' // what the reader of the log waits for
	frameEnd     = 'E' // endFrame
)

type requestFrame struct {
	Namespace string       `json:"namespace"`
	Name      string       `json:"name"`
	UID       string       `json:"uid"`
	Epoch     uint64       `json:"epoch"`
	ID        string       `json:"id"`
	Credit    int          `json:"credit"`
	Pieces    []pieceFrame `json:"pieces"`
}

type pieceFrame struct {
	Start    []byte `json:"start,omitempty"`
	End      []byte `json:"end,omitempty"`
	Position uint64 `json:"position"`
	Index    uint32 `json:"index,omitempty"`
}

// endFrame is why a subscription ends. A fault is for people; without one the dispatcher subscribes again.
type endFrame struct {
	Reason string      `json:"reason,omitempty"`
	Fault  *faultFrame `json:"fault,omitempty"`
	Gap    *gapFrame   `json:"gap,omitempty"`
}

type faultFrame struct {
	Code      string `json:"code"`
	Field     string `json:"field,omitempty"`
	Value     string `json:"value,omitempty"`
	Detail    string `json:"detail,omitempty"`
	Cure      string `json:"cure,omitempty"`
	Permanent bool   `json:"permanent,omitempty"`
	Cause     string `json:"cause,omitempty"`
}

type gapFrame struct {
	Position uint64 `json:"position"`
	Index    uint32 `json:"index,omitempty"`
	Floor    uint64 `json:"floor"`
}

func frameOf(kind byte, body any) ([]byte, error) {
	encoded, err := json.Marshal(body)
	if err != nil {
		return nil, fmt.Errorf("serial: encode a frame: %w", err)
	}
	frame := append([]byte{kind}, encoded...)
	if len(frame) > FrameBytesMax {
		return nil, fmt.Errorf("serial: a frame of %d bytes is above %d", len(frame), FrameBytesMax)
	}
	return frame, nil
}

func (r *Request) frame() ([]byte, error) {
	out := requestFrame{
		Namespace: r.Changefeed.Namespace, Name: r.Changefeed.Name, UID: string(r.UID), Epoch: uint64(r.Epoch), ID: r.ID, Credit: r.Credit,
	}
	for i := range r.Pieces {
		piece := &r.Pieces[i]
		out.Pieces = append(out.Pieces, pieceFrame{
			Start: piece.Span.Start, End: piece.Span.End, Position: uint64(piece.Mark.Position), Index: piece.Mark.Index,
		})
	}
	return frameOf(frameRequest, out)
}

// readRequest reads the first frame of a dispatcher.
func readRequest(frame []byte) (Request, error) {
	if len(frame) == 0 || frame[0] != frameRequest {
		return Request{}, fmt.Errorf("%w: the first frame is none", errRequest)
	}
	var in requestFrame
	if err := json.Unmarshal(frame[1:], &in); err != nil {
		return Request{}, fmt.Errorf("%w: %w", errRequest, err)
	}
	out := Request{
		Changefeed: changefeed.ID{Namespace: in.Namespace, Name: in.Name}, UID: changefeed.UID(in.UID), Epoch: fence.Epoch(in.Epoch),
		ID: in.ID, Credit: in.Credit,
	}
	for i := range in.Pieces {
		piece := &in.Pieces[i]
		out.Pieces = append(out.Pieces, source.Piece{
			Span: changefeed.Span{Start: piece.Start, End: piece.End},
			Mark: change.Mark{Position: change.Position(piece.Position), Index: piece.Index},
		})
	}
	return out, out.validate()
}

// endOf says why a subscription ends, so that the other node knows what to do about it.
func endOf(err error) endFrame {
	if gap, ok := errors.AsType[*Gap](err); ok {
		return endFrame{Gap: &gapFrame{Position: uint64(gap.At.Position), Index: gap.At.Index, Floor: uint64(gap.Floor)}}
	}
	if again(err) {
		return endFrame{Reason: err.Error()}
	}
	fault := changefeed.AsFault(err, changefeed.CodeSourceUnreachable)
	out := faultFrame{
		Code: string(fault.Code), Field: fault.Field, Value: fault.Value, Detail: fault.Detail, Cure: fault.Cure, Permanent: fault.Permanent,
	}
	if fault.Err != nil {
		out.Cause = fault.Err.Error()
	}
	return endFrame{Fault: &out}
}

// endError is what ended a subscription, as the other node said it.
type endError struct{ reason string }

func (e *endError) Error() string { return e.reason }

func (e *endFrame) err() error {
	switch {
	case e.Gap != nil:
		return &Gap{
			At:    change.Mark{Position: change.Position(e.Gap.Position), Index: e.Gap.Index},
			Floor: change.Position(e.Gap.Floor),
		}
	case e.Fault != nil:
		fault := &changefeed.Fault{
			Code: changefeed.Code(e.Fault.Code), Field: e.Fault.Field, Value: e.Fault.Value, Detail: e.Fault.Detail, Cure: e.Fault.Cure,
			Permanent: e.Fault.Permanent,
		}
		if e.Fault.Cause != "" {
			fault.Err = &endError{reason: e.Fault.Cause}
		}
		return fault
	default:
		return fmt.Errorf("%w: %w", errEnded, &endError{reason: e.Reason})
	}
}
