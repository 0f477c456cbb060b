package serial

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"fencerow/changefeed"
)

// Pipe carries frames between two nodes, in order, until either end gives it up. One goroutine sends and one receives.
type Pipe interface {
	// Send may keep the frame.
	Send(frame []byte) error
	Receive() ([]byte, error)
	// Close ends what either of them waits for. It is idempotent, and may be called by any goroutine.
	Close()
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
