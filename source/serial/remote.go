package serial

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/source"
)

// Pipe carries frames between two nodes, in order, until either end gives it up. One goroutine sends and one receives.
type Pipe interface {
	// Send may keep the frame.
	Send(frame []byte) error
	Receive() ([]byte, error)
	// Close ends what either of them waits for. It is idempotent, and may be called by any goroutine.
	Close()
}

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

// again reports whether a dispatcher whose subscription ended with the error opens it again, without telling anybody.
func again(err error) bool {
	return errors.Is(err, errEnded) || errors.Is(err, errNoHub) || errors.Is(err, errDropped) || errors.Is(err, errWire) ||
		errors.Is(err, errPipe)
}

var errPipe = errors.New("serial: the connection to the reader's node broke")

// Serve serves one subscription of another node, until either end or ctx ends it.
func (n *Node) Serve(ctx context.Context, pipe Pipe) error {
	var hearing sync.WaitGroup
	defer hearing.Wait()
	defer pipe.Close()
	defer context.AfterFunc(ctx, pipe.Close)()
	silence := time.AfterFunc(silentMax, pipe.Close)
	defer silence.Stop()
	first, err := pipe.Receive()
	if err != nil {
		return fmt.Errorf("%w: %w", errPipe, err)
	}
	request, err := readRequest(first)
	if err != nil {
		return err
	}
	hub, sub, err := n.subscribe(ctx, &request)
	if err != nil {
		return sendEnd(pipe, err)
	}
	defer hub.leave(sub)
	gone := make(chan struct{})
	hearing.Go(func() {
		defer close(gone)
		hear(pipe, hub, sub, silence)
	})
	return feed(pipe, sub, gone)
}

func sendEnd(pipe Pipe, err error) error {
	frame, encodeErr := frameOf(frameEnd, endOf(err))
	if encodeErr != nil {
		return encodeErr
	}
	return pipe.Send(frame)
}

// hear takes in what the dispatcher says, until its pipe ends.
func hear(pipe Pipe, hub *Hub, sub *subscription, silence *time.Timer) {
	for {
		frame, err := pipe.Receive()
		if err != nil {
			return
		}
		silence.Reset(silentMax)
		if len(frame) == 0 {
			continue
		}
		switch frame[0] {
		case frameGrant:
			if bytes, size := binary.Uvarint(frame[1:]); size > 0 && bytes <= creditMax {
				sub.grant(int(bytes)) //nolint:gosec // bounded above
			}
		case frameHurry:
			hub.hurry()
		}
	}
}

// feed sends what the subscription gets, until it ends or the dispatcher has gone.
func feed(pipe Pipe, sub *subscription, gone <-chan struct{}) error {
	if err := pipe.Send([]byte{frameAccept}); err != nil {
		return err
	}
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	encoder, note, sent := newEncoder(), "", uint64(0)
	for {
		select {
		case <-gone:
			return nil
		case <-ticker.C:
			if err := pipe.Send(binary.AppendUvarint([]byte{frameBeat}, sent)); err != nil {
				return err
			}
		case <-sub.inbox.ready:
			if said := sub.inbox.said(); said != note {
				note = said
				if err := pipe.Send(append([]byte{frameNote}, shortened(note)...)); err != nil {
					return err
				}
			}
			messages, over := sub.inbox.take()
			if over != nil {
				return sendEnd(pipe, over)
			}
			sent += uint64(len(messages))
			if err := sendData(pipe, encoder, messages); err != nil {
				if errors.Is(err, errRow) {
					return sendEnd(pipe, err)
				}
				return err
			}
		}
	}
}

// noteBytesMax bounds what people are shown of the state of a log.
const noteBytesMax = 2000

func shortened(note string) string { return note[:min(len(note), noteBytesMax)] }

// sendData sends messages as parts of the stream of records.
func sendData(pipe Pipe, encoder *encoder, messages []Message) error {
	for i := range messages {
		if err := encoder.message(&messages[i]); err != nil {
			return err
		}
		messages[i] = Message{} // its memory is not needed any more
		for len(encoder.out) >= dataBytes || (i == len(messages)-1 && len(encoder.out) > 0) {
			n := min(len(encoder.out), dataBytes)
			if err := pipe.Send(append([]byte{frameData}, encoder.out[:n]...)); err != nil {
				return err
			}
			encoder.out = append(encoder.out[:0], encoder.out[n:]...)
		}
	}
	return nil
}

// remote is the dispatcher's end of a subscription at another node.
type remote struct {
	inbox *inbox
	pipe  Pipe
	sends chan []byte
	over  chan struct{} // closed when nothing more is received
	tasks sync.WaitGroup
}

// dial opens a subscription at another node. It lives until it is closed; ctx bounds the opening.
func (n *Node) dial(ctx context.Context, at changefeed.NodeID, request *Request) (*remote, error) {
	first, err := request.frame()
	if err != nil {
		return nil, err
	}
	pipe, err := n.config.Dialer.Dial(ctx, at)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errPipe, err)
	}
	r := &remote{inbox: newInbox(), pipe: pipe, sends: make(chan []byte, sendsMax), over: make(chan struct{})}
	r.inbox.note = whose(at) // until it accepts
	r.tasks.Go(func() {
		defer close(r.over)
		defer pipe.Close()
		r.receive()
	})
	r.tasks.Go(func() { r.send(first) })
	return r, nil
}

// sendsMax is how many grants may wait to be sent: each is of a part of the credit.
const sendsMax = 64

// send sends the request, and then what comes in sends.
func (r *remote) send(first []byte) {
	if err := r.pipe.Send(first); err != nil {
		return // the receive tells what is wrong
	}
	ticker := time.NewTicker(beatEvery)
	defer ticker.Stop()
	for {
		frame := []byte{frameBeat}
		select {
		case <-r.over:
			return
		case frame = <-r.sends:
		case <-ticker.C:
		}
		if err := r.pipe.Send(frame); err != nil {
			return
		}
	}
}

// receive puts what comes into the inbox.
func (r *remote) receive() {
	silence := time.AfterFunc(silentMax, r.pipe.Close) // also if the owner's node is silent while its hub is waited for
	defer silence.Stop()
	var records assembler
	received := uint64(0)
	take := func(m Message) {
		received++
		r.inbox.push(m)
	}
	for {
		frame, err := r.pipe.Receive()
		if err != nil {
			r.inbox.end(fmt.Errorf("%w: %w", errPipe, err))
			return
		}
		silence.Reset(silentMax)
		if len(frame) == 0 {
			continue
		}
		switch body := frame[1:]; frame[0] {
		case frameAccept:
			r.inbox.say("")
		case frameNote:
			r.inbox.say(shortened(string(body)))
		case frameEnd:
			var end endFrame
			if err := json.Unmarshal(body, &end); err != nil {
				r.inbox.end(fmt.Errorf("%w: %w", errWire, err))
				return
			}
			r.inbox.end(end.err())
			return
		case frameData:
			if err := records.add(body, take); err != nil {
				r.inbox.end(err)
				return
			}
		case frameBeat:
			if sent, size := binary.Uvarint(body); size > 0 && sent != received { // the last ones, after which nothing else comes
				r.inbox.end(fmt.Errorf("%w: %d messages of %d came", errWire, received, sent))
				return
			}
		}
	}
}

// grant gives credit back.
func (r *remote) grant(bytes int) {
	frame := binary.AppendUvarint([]byte{frameGrant}, uint64(max(bytes, 0))) //nolint:gosec // not negative
	select {
	case r.sends <- frame:
	default: // the connection stands still: another is opened, with the whole credit
		r.pipe.Close()
	}
}

func (r *remote) hurry() {
	select {
	case r.sends <- []byte{frameHurry}:
	default:
	}
}

func (r *remote) box() *inbox { return r.inbox }

// close gives the subscription up, and waits for its goroutines.
func (r *remote) close() {
	r.pipe.Close()
	r.tasks.Wait()
}

// assembler puts a stream of records together from its parts.
type assembler struct {
	decoder decoder
	held    []byte
}

// add takes in a part, and calls with every message that is complete. The part is not kept.
func (a *assembler) add(part []byte, with func(Message)) error {
	a.held = append(a.held, part...)
	used := 0
	for {
		size, n := binary.Uvarint(a.held[used:])
		if n < 0 || size > recordBytesMax {
			return fmt.Errorf("%w: a record of %d bytes", errWire, size)
		}
		if n == 0 || uint64(len(a.held)-used-n) < size { //nolint:gosec // not negative
			break
		}
		// What was decoded shares this memory, so that it is not used again.
		record := append([]byte(nil), a.held[used+n:used+n+int(size)]...) //nolint:gosec // bounded above
		used += n + int(size)                                             //nolint:gosec // bounded above
		m, ok, err := a.decoder.record(record)
		if err != nil {
			return err
		}
		if ok {
			with(m)
		}
	}
	a.held = append(a.held[:0], a.held[used:]...)
	return nil
}
