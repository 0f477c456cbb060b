package peer

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/peer/peerpb"
	"fencerow/record"
)

func sampleStatus() message.Status {
	return message.Status{
		Span: changefeed.Span{Start: []byte("a"), End: []byte{0xff}}, Token: fence.Mint(9, 3), SpecRevision: 11,
		State: message.DispatcherFailed, Mark: change.Mark{Position: 5, Index: 2}, Known: true, Resolved: 8,
		Fault: &changefeed.Fault{
			Code: changefeed.CodeSinkFull, Field: "f", Value: "v", Detail: "d", Cure: "c", Permanent: true,
			Err: errors.New("cause"),
		},
		SourceID: "src", SnapshotRows: 1, SnapshotTotal: 2, Changes: 3, Bytes: 4, WaitingOn: "sink write",
		WaitingFor: 5 * time.Second, Barrier: 6, Age: 7 * time.Second, Rate: 8, Half: &message.Half{Key: []byte("k"), Percent: 51},
	}
}

// bodies has one of each kind, with every field set.
func bodies() []message.Body {
	position := change.Position(77)
	spec := record.Spec{
		UID: "u", Namespace: "default", Name: "orders", Source: "etcd://a", Sink: "stdout:", Start: record.StartNow,
		StartPosition: &position, Desired: changefeed.DesiredRunning, Created: time.Unix(1, 0).UTC(),
		Updated: time.Unix(2, 0).UTC(), Move: &record.Move{To: "n", ID: "m"},
	}
	statuses := []message.Status{sampleStatus(), {}}
	return []message.Body{
		message.Bootstrap{Spec: spec, SpecRevision: 4, SourceID: "s", Checkpoint: 6},
		message.BootstrapReply{Dispatchers: statuses},
		message.BootstrapReply{},
		message.Place{Seq: 1, Span: changefeed.Span{Start: []byte("x")}, From: change.Mark{Position: 2, Index: 3}, Floor: 1},
		message.Place{Seq: 2, Barrier: message.Barrier{Number: 3, Position: 4, Action: message.BarrierStop}},
		message.Stop{Token: fence.Mint(1, 2), At: change.Mark{Position: 3}},
		message.Barrier{Number: 7, Position: 5, Action: message.BarrierWrite},
		message.Close{Removed: true},
		message.Closed{},
		message.ListStatuses{},
		message.ListStatuses{Halve: fence.Mint(2, 3)},
		message.Statuses{Full: true, Statuses: statuses},
		message.Heartbeat{
			Number: 1, Set: message.Digest{Count: 2, Sum: 1 << 63}, Checkpoint: 3, Resolved: 4, Changed: statuses[:1],
			Held: message.Held{Number: 5, Position: 6, Highest: 7, Synced: 8},
		},
		message.Rejected{Offered: 1, Held: 2, Rule: "F9", Command: message.KindPlace},
	}
}

func overTheWire(t *testing.T, envelope message.Envelope) message.Envelope {
	t.Helper()
	encoded, err := encode(envelope)
	require.NoError(t, err)
	data, err := proto.Marshal(encoded)
	require.NoError(t, err)
	var read peerpb.Envelope
	require.NoError(t, proto.Unmarshal(data, &read))
	decoded, err := decode(&read, envelope.From, envelope.To)
	require.NoError(t, err)
	return decoded
}

func TestEveryBodyComesOverAsItWas(t *testing.T) {
	seen := map[message.Kind]bool{}
	for _, body := range bodies() {
		envelope := message.Envelope{
			ID: changefeed.ID{Namespace: "ns", Name: "n"}, UID: "u", Epoch: 12, From: "a", To: "b", Body: body,
		}
		require.Equal(t, envelope, overTheWire(t, envelope))
		seen[body.Kind()] = true
	}
	for kind := message.KindBootstrap; kind.String() != "unknown"; kind++ {
		require.True(t, seen[kind], "a kind that no body was tried of: %s", kind)
	}
}

func TestWhatIsNotKnownIsAnErrorOfItsOwn(t *testing.T) {
	_, err := decode(&peerpb.Envelope{}, "a", "b")
	require.ErrorIs(t, err, errUnknownKind)
	_, err = decode(nil, "a", "b")
	require.ErrorIs(t, err, errUnknownKind)
	for _, envelope := range []*peerpb.Envelope{
		{Body: &peerpb.Envelope_Barrier{Barrier: &peerpb.Barrier{Action: 256}}},
		{Body: &peerpb.Envelope_Place{Place: &peerpb.Place{Barrier: &peerpb.Barrier{Action: 256}}}},
		{Body: &peerpb.Envelope_Rejected{Rejected: &peerpb.Rejected{Command: 300}}},
		{Body: &peerpb.Envelope_Statuses{Statuses: &peerpb.Statuses{Statuses: []*peerpb.Status{{State: 1 << 20}}}}},
		{Body: &peerpb.Envelope_Bootstrap{Bootstrap: &peerpb.Bootstrap{SpecJson: []byte("{")}}},
	} {
		_, err := decode(envelope, "a", "b")
		require.ErrorIs(t, err, errInvalid)
	}
	// A body whose message is missing, and statuses that are: zero values, which the receiver refuses by its own rules.
	_, err = decode(&peerpb.Envelope{Body: &peerpb.Envelope_Place{}}, "a", "b")
	require.NoError(t, err)
	_, err = decode(&peerpb.Envelope{Body: &peerpb.Envelope_Statuses{
		Statuses: &peerpb.Statuses{Statuses: []*peerpb.Status{nil}},
	}}, "a", "b")
	require.NoError(t, err)
	rejected, err := decode(&peerpb.Envelope{Body: &peerpb.Envelope_Rejected{
		Rejected: &peerpb.Rejected{Rule: string(bytes.Repeat([]byte("x"), 100))},
	}}, "a", "b")
	require.NoError(t, err)
	require.Equal(t, message.Rejected{Rule: "unknown"}, rejected.Body)
}

func FuzzDecodeNeverPanics(f *testing.F) {
	batch := &peerpb.Batch{}
	for _, body := range bodies() {
		encoded, err := encode(message.Envelope{UID: "u", Epoch: 1, Body: body})
		require.NoError(f, err)
		batch.Envelopes = append(batch.Envelopes, encoded)
	}
	seed, err := proto.Marshal(&peerpb.Frame{Kind: &peerpb.Frame_Batch{Batch: batch}})
	require.NoError(f, err)
	f.Add(seed)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		var frame peerpb.Frame
		if proto.Unmarshal(data, &frame) != nil {
			return
		}
		for _, envelope := range frame.GetBatch().GetEnvelopes() {
			decoded, err := decode(envelope, "a", "b")
			if err != nil {
				continue
			}
			again, err := encode(decoded)
			require.NoError(t, err)
			_, err = decode(again, "a", "b")
			require.NoError(t, err)
		}
	})
}
