package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"fencerow/change"
)

// stream is a connection over which the server sends the log. One goroutine receives; status may be sent by any.
type stream struct {
	conn      net.Conn
	coalesced *coalescer
	frontend  *pgproto3.Frontend

	mu     sync.Mutex // guards what is sent
	buffer []byte
}

// Kinds of messages within the copy, and where their content begins.
const (
	copyLog       = 'w'
	copyKeepalive = 'k'
	copyStatus    = 'r'

	logHeaderBytes = 24 // where it is in the log, and a time
)

// protocol is how the log is sent.
type protocol string

const (
	// protocolWhole sends a transaction when it commits. Until then the server keeps it, and spills a large one to its disk.
	protocolWhole protocol = `proto_version '1'`
	// protocolStreamed sends a large one while it is in progress, which every server that we take can.
	protocolStreamed protocol = `proto_version '2', streaming 'on'`
)

// openStream has the server send what is above a position.
func (s *Source) openStream(ctx context.Context, above change.Position, as protocol) (*stream, error) {
	conn, err := s.dial(ctx, map[string]string{"replication": "database"})
	if err != nil {
		return nil, err
	}
	if err := s.sameSystem(ctx, conn); err != nil {
		(&connection{conn: conn}).close() //nolint:contextcheck // a goodbye has its own time
		return nil, err
	}
	taken, err := conn.Hijack()
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	out := &stream{conn: taken.Conn, coalesced: newCoalescer(taken.Conn, waitingIn(taken.Conn))}
	out.frontend = pgproto3.NewFrontend(out.coalesced, taken.Conn)
	if taken.Frontend.ReadBufferLen() > 0 { // what nobody asked for came meanwhile, and is in there
		out.frontend = taken.Frontend
	}
	stop := context.AfterFunc(ctx, out.close)
	defer stop()
	if err := out.start(s.startCommand(above, as)); err != nil {
		out.close()
		return nil, errors.Join(err, ctx.Err())
	}
	return out, nil
}

// startCommand asks for the log. Messages are asked for, since tables that join come with theirs.
func (s *Source) startCommand(above change.Position, as protocol) string {
	names := quoteText(quoteName(s.slotName()) + "," + quoteName(s.appendName()))
	return fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (%s, publication_names %s, messages 'true')",
		quoteName(s.slotName()), formatLSN(above+1), as, names)
}

// sameSystem refuses a server that is not the one that was read before: of several hosts another may be the first now.
func (s *Source) sameSystem(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, "IDENTIFY_SYSTEM").ReadAll()
	if err != nil {
		return fmt.Errorf("identify the server: %w", err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < 2 {
		return fmt.Errorf("identify the server: %w", errNoAnswer)
	}
	row := results[0].Rows[0]
	return s.same(identityOf(string(row[0]), string(row[1])))
}

func (s *stream) start(command string) error {
	s.frontend.Send(&pgproto3.Query{String: command})
	if err := s.frontend.Flush(); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	for {
		message, err := s.frontend.Receive()
		if err != nil {
			return fmt.Errorf("postgres: %w", err)
		}
		switch message := message.(type) {
		case *pgproto3.CopyBothResponse:
			return nil
		case *pgproto3.ErrorResponse:
			return fmt.Errorf("start the log: %w", pgconn.ErrorResponseToPgError(message))
		}
	}
}

// received is a message of the copy: a piece of the log, or how far everything was sent.
type received struct {
	log []byte // of pgoutput; valid until the next is received
	// sent is where the server has sent everything below, if log is nil. It reads records one by one, and sends a transaction when it
	// reads its commit; what it tells is where the record ends that it read last. Of what it streams before, the commit is not read yet
	// and so lies above: what is spooled is no part of what is told to be sent.
	sent    change.Position
	request bool // an answer is wanted
}

var errEnded = errors.New("postgres: the server ended the log")

func (s *stream) receive() (received, error) {
	for {
		message, err := s.frontend.Receive()
		if err != nil {
			return received{}, fmt.Errorf("read the log: %w", err)
		}
		switch message := message.(type) {
		case *pgproto3.CopyData:
			return parseCopy(message.Data)
		case *pgproto3.ErrorResponse:
			return received{}, fmt.Errorf("read the log: %w", pgconn.ErrorResponseToPgError(message))
		case *pgproto3.CopyDone, *pgproto3.CommandComplete, *pgproto3.ReadyForQuery:
			return received{}, errEnded
		}
	}
}

func parseCopy(data []byte) (received, error) {
	if len(data) == 0 {
		return received{}, errMalformed
	}
	switch data[0] {
	case copyLog:
		if len(data) <= 1+logHeaderBytes {
			return received{}, errMalformed
		}
		return received{log: data[1+logHeaderBytes:]}, nil
	case copyKeepalive:
		c := cursor{data: data[1:]}
		out := received{sent: change.Position(c.uint64())}
		c.uint64() // the server's time
		out.request = c.byte() == 1
		return out, c.end(copyKeepalive)
	default:
		return received{}, fmt.Errorf("%w of kind %q", errMalformed, data[0])
	}
}

// idle reports that nothing that was received waits to be read.
func (s *stream) idle() bool { return s.frontend.ReadBufferLen() == 0 && len(s.coalesced.unread) == 0 }

// status is what we tell the server.
type status struct {
	received  change.Position // for people, and for a server that wants to stop once everything was sent
	confirmed change.Position // the log at or below may be forgotten; 0 says nothing of it
	ask       bool            // for a keepalive
}

// sendMax bounds how long a status may take to be sent.
const sendMax = 10 * time.Second

// send tells the server how far we are. Only what is confirmed moves the slot. A status that confirms nothing leaves the "flush"
// of the protocol empty on purpose: then the server takes "write" for how far we are when it stops, and stops, although nothing of
// what we got is confirmed yet; and it never takes us for a synchronous standby that its commits could wait for.
func (s *stream) send(what status) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	body := binary.BigEndian.AppendUint64([]byte{copyStatus}, uint64(what.received))
	body = binary.BigEndian.AppendUint64(body, uint64(what.confirmed))
	body = binary.BigEndian.AppendUint64(body, 0)
	body = binary.BigEndian.AppendUint64(body, uint64(time.Now().UnixMicro()-epochMicroseconds))
	if what.ask {
		body = append(body, 1)
	} else {
		body = append(body, 0)
	}
	var err error
	if s.buffer, err = (&pgproto3.CopyData{Data: body}).Encode(s.buffer[:0]); err != nil {
		return fmt.Errorf("postgres: %w", err)
	}
	if err := s.conn.SetWriteDeadline(time.Now().Add(sendMax)); err != nil {
		return fmt.Errorf("tell how far we are: %w", err)
	}
	if _, err := s.conn.Write(s.buffer); err != nil {
		return fmt.Errorf("tell how far we are: %w", err)
	}
	return nil
}

func (s *stream) close() { _ = s.conn.Close() }
