package peer

import (
	"context"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"fencerow/message"
	"fencerow/peer/peerpb"
)

// rawStream is a peer made by hand, that can misbehave.
type rawStream struct {
	t    *testing.T
	ends grpc.BidiStreamingClient[peerpb.Frame, peerpb.Frame]
}

func openRaw(t *testing.T, n *node, hello *peerpb.Hello) *rawStream {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///"+n.address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	t.Cleanup(func() {
		cancel()
		require.NoError(t, connection.Close())
	})
	ends, err := peerpb.NewPeerClient(connection).Exchange(ctx)
	require.NoError(t, err)
	r := &rawStream{t: t, ends: ends}
	if hello != nil {
		require.NoError(t, ends.Send(&peerpb.Frame{Kind: &peerpb.Frame_Hello{Hello: hello}}))
	}
	return r
}

func goodHello(generation uint64) *peerpb.Hello {
	return &peerpb.Hello{
		Protocol: protocolVersion, Cluster: "test", EtcdClusterId: 7, Node: "a", To: "b", Generation: generation,
	}
}

func (r *rawStream) accepted() *rawStream {
	r.t.Helper()
	frame, err := r.ends.Recv()
	require.NoError(r.t, err)
	require.NotNil(r.t, frame.GetHello())
	return r
}

func (r *rawStream) send(t *testing.T, epoch uint64, bodies ...*peerpb.Envelope) {
	t.Helper()
	for _, body := range bodies {
		body.Uid, body.Epoch = "u", epoch
	}
	// Sending on a stream that the other end gave up may fail, and that is all right.
	err := r.ends.Send(&peerpb.Frame{Kind: &peerpb.Frame_Batch{Batch: &peerpb.Batch{Envelopes: bodies}}})
	require.True(t, err == nil || errors.Is(err, io.EOF), "%v", err)
}

func closedEnvelope() *peerpb.Envelope {
	return &peerpb.Envelope{Body: &peerpb.Envelope_Closed{Closed: &peerpb.Closed{}}}
}

func (r *rawStream) ended() codes.Code {
	for {
		if _, err := r.ends.Recv(); err != nil {
			return status.Code(err)
		}
	}
}

// hazards 44 and 53: two streams of one peer; only the newer one counts, whichever comes first.
func TestTheOlderOfTwoStreamsIsClosedAndItsMessagesAreDropped(t *testing.T) {
	b := startNode(t, "b", patient)
	first := openRaw(t, b, goodHello(5)).accepted()
	first.send(t, 1, closedEnvelope())
	eventually(t, func() bool { return b.inbox.count() == 1 }, "delivered")
	second := openRaw(t, b, goodHello(6)).accepted()
	second.send(t, 3, closedEnvelope())
	eventually(t, func() bool { return b.inbox.count() == 2 }, "delivered")
	first.send(t, 2, closedEnvelope())
	require.Equal(t, codes.Aborted, first.ended())
	late := openRaw(t, b, goodHello(5))
	late.send(t, 2, closedEnvelope())
	require.Equal(t, codes.Aborted, late.ended())
	second.send(t, 4, closedEnvelope())
	eventually(t, func() bool { return b.inbox.count() == 3 }, "the newer one goes on")
	for i, epoch := range []uint64{1, 3, 4} {
		require.Equal(t, epoch, uint64(b.inbox.all()[i].Epoch))
	}
}

// The message is on its way to its mailbox when the newer stream comes: the rest of its batch is not delivered.
func TestABatchOfAReplacedStreamIsCutShort(t *testing.T) {
	inside, proceed := make(chan struct{}), make(chan struct{})
	var got inbox
	b := startNode(t, "b", func(c *Config) {
		patient(c)
		c.Deliver = func(envelope message.Envelope) {
			got.deliver(envelope)
			if envelope.Epoch.Compare(1) == 0 {
				close(inside)
				<-proceed
			}
		}
	})
	first := openRaw(t, b, goodHello(1)).accepted()
	second := &peerpb.Envelope{Body: &peerpb.Envelope_Close{Close: &peerpb.Close{}}}
	first.send(t, 1, closedEnvelope())
	<-inside
	first.send(t, 2, second)
	newer := openRaw(t, b, goodHello(2)).accepted()
	newer.send(t, 3, closedEnvelope())
	close(proceed)
	require.Equal(t, codes.Aborted, first.ended())
	eventually(t, func() bool {
		all := got.all()
		return len(all) > 0 && all[len(all)-1].Epoch.Compare(3) == 0
	}, "the newer one delivers")
	last := uint64(0)
	for _, envelope := range got.all() {
		require.Greater(t, uint64(envelope.Epoch), last, "in order")
		last = uint64(envelope.Epoch)
	}
}

func TestWhatIsUnknownOrInvalidIsCountedAndTheStreamGoesOn(t *testing.T) {
	b := startNode(t, "b", patient)
	raw := openRaw(t, b, goodHello(1)).accepted()
	require.NoError(t, raw.ends.Send(&peerpb.Frame{}), "a frame of a kind that is not known")
	raw.send(t, 1, &peerpb.Envelope{},
		&peerpb.Envelope{Body: &peerpb.Envelope_Barrier{Barrier: &peerpb.Barrier{Action: 1000}}}, closedEnvelope())
	eventually(t, func() bool { return b.inbox.count() == 1 }, "the good one is delivered")
	require.Equal(t, 1, b.counted(0, UnknownKind))
	require.Equal(t, 1, b.counted(0, Invalid))
	require.NoError(t, raw.ends.Send(&peerpb.Frame{Kind: &peerpb.Frame_Hello{Hello: goodHello(2)}}))
	require.Equal(t, codes.Unavailable, raw.ended(), "but two hellos are too many")
}

func TestABadHelloIsRefused(t *testing.T) {
	b := startNode(t, "b", nil)
	for name, change := range map[string]func(*peerpb.Hello){
		"another protocol": func(h *peerpb.Hello) { h.Protocol = 99 },
		"another cluster":  func(h *peerpb.Hello) { h.Cluster = "x" },
		"another etcd":     func(h *peerpb.Hello) { h.EtcdClusterId = 1 },
		"another receiver": func(h *peerpb.Hello) { h.To = "c" },
		"no sender":        func(h *peerpb.Hello) { h.Node = "" },
		"a larger id":      func(h *peerpb.Hello) { h.Node = "z" },
		"its own id":       func(h *peerpb.Hello) { h.Node = "b" },
	} {
		hello := goodHello(1)
		change(hello)
		require.Equal(t, codes.FailedPrecondition, openRaw(t, b, hello).ended(), name)
	}
	raw := openRaw(t, b, nil)
	raw.send(t, 1, closedEnvelope())
	require.Equal(t, codes.FailedPrecondition, raw.ended(), "no hello at all")
	require.Zero(t, b.inbox.count())
	require.Empty(t, b.Reachable())
	require.Empty(t, b.links, "nothing is remembered of strangers")
}

// A peer that nobody named, and that goes, leaves nothing behind; what it could be told while it was there, it was.
func TestAPeerThatIsNotNamedIsServedWhileItIsThere(t *testing.T) {
	b := startNode(t, "b", patient)
	raw := openRaw(t, b, goodHello(1)).accepted()
	eventually(t, func() bool { return len(b.Reachable()) == 1 }, "connected")
	require.Empty(t, b.Unreachable())
	b.Send(message.Envelope{To: "a", UID: "u", Body: message.Closed{}})
	frame, err := raw.ends.Recv()
	require.NoError(t, err)
	require.Len(t, frame.GetBatch().GetEnvelopes(), 1)
	require.NoError(t, raw.ends.CloseSend())
	eventually(t, func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.links) == 0
	}, "forgotten")
}

// A peer that reads nothing must not hold up anybody: the queue is bounded, and Send returns.
func TestAPeerThatReadsNothingIsFoundOut(t *testing.T) {
	b := startNode(t, "b", nil)
	raw := openRaw(t, b, goodHello(1)).accepted()
	b.SetPeers(nil)
	eventually(t, func() bool { return len(b.Reachable()) == 1 }, "connected")
	large := message.Place{}
	large.Span.Start = make([]byte, frameBytesMax)
	began := time.Now()
	for range 4 * queueBytesMax / frameBytesMax {
		b.Send(message.Envelope{To: "a", UID: "u", Body: large})
	}
	require.Less(t, time.Since(began), testLimit)
	require.Positive(t, b.counted(message.KindPlace, DroppedFull))
	eventually(t, func() bool { return len(b.Reachable()) == 0 }, "it answers no ping, and does not read either")
	_ = raw
}
