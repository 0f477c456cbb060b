package peer

import (
	"encoding/json"
	"errors"
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/peer/peerpb"
)

// errNoBody says that an envelope carries nothing that this version can put on the wire.
var errNoBody = errors.New("peer: envelope without a known body")

// encode translates an envelope. Sender and receiver are the stream's, so they are not on the wire.
func encode(envelope message.Envelope) (*peerpb.Envelope, error) {
	encoded := &peerpb.Envelope{
		Namespace: envelope.ID.Namespace, Name: envelope.ID.Name, Uid: string(envelope.UID), Epoch: uint64(envelope.Epoch),
	}
	switch body := envelope.Body.(type) {
	case message.Bootstrap:
		spec, err := json.Marshal(body.Spec)
		if err != nil {
			return nil, fmt.Errorf("peer: encode spec: %w", err)
		}
		encoded.Body = &peerpb.Envelope_Bootstrap{Bootstrap: &peerpb.Bootstrap{
			SpecJson: spec, SpecRevision: body.SpecRevision, SourceId: body.SourceID, Checkpoint: uint64(body.Checkpoint),
		}}
	case message.BootstrapReply:
		encoded.Body = &peerpb.Envelope_BootstrapReply{BootstrapReply: &peerpb.BootstrapReply{
			Dispatchers: encodeStatuses(body.Dispatchers),
		}}
	case message.Place:
		encoded.Body = &peerpb.Envelope_Place{Place: &peerpb.Place{
			Seq: uint64(body.Seq), Span: encodeSpan(body.Span), From: encodeMark(body.From), Floor: uint64(body.Floor),
			Barrier: encodeBarrier(body.Barrier),
		}}
	case message.Stop:
		encoded.Body = &peerpb.Envelope_Stop{Stop: &peerpb.Stop{Token: encodeToken(body.Token), At: encodeMark(body.At)}}
	case message.Barrier:
		encoded.Body = &peerpb.Envelope_Barrier{Barrier: encodeBarrier(body)}
	case message.Close:
		encoded.Body = &peerpb.Envelope_Close{Close: &peerpb.Close{Removed: body.Removed}}
	case message.Closed:
		encoded.Body = &peerpb.Envelope_Closed{Closed: &peerpb.Closed{}}
	case message.ListStatuses:
		encoded.Body = &peerpb.Envelope_ListStatuses{ListStatuses: encodeList(body)}
	case message.Statuses:
		encoded.Body = &peerpb.Envelope_Statuses{Statuses: &peerpb.Statuses{
			Full: body.Full, Statuses: encodeStatuses(body.Statuses),
		}}
	case message.Heartbeat:
		encoded.Body = &peerpb.Envelope_Heartbeat{Heartbeat: &peerpb.Heartbeat{
			Number: body.Number, SetCount: body.Set.Count, SetSum: body.Set.Sum, Checkpoint: uint64(body.Checkpoint),
			Resolved: uint64(body.Resolved), Changed: encodeStatuses(body.Changed), Held: encodeHeld(body.Held),
		}}
	case message.Rejected:
		encoded.Body = &peerpb.Envelope_Rejected{Rejected: &peerpb.Rejected{
			Offered: uint64(body.Offered), Held: uint64(body.Held), Rule: body.Rule, Command: uint32(body.Command),
			Token: encodeToken(body.Token),
		}}
	default:
		return nil, fmt.Errorf("%w: %T", errNoBody, envelope.Body)
	}
	return encoded, nil
}

func encodeList(list message.ListStatuses) *peerpb.ListStatuses {
	if list.Halve.IsZero() {
		return &peerpb.ListStatuses{}
	}
	return &peerpb.ListStatuses{Halve: encodeToken(list.Halve)}
}

func encodeSpan(span changefeed.Span) *peerpb.Span {
	return &peerpb.Span{Start: span.Start, End: span.End}
}

func encodeToken(token fence.Token) *peerpb.Token {
	return &peerpb.Token{Epoch: uint64(token.Epoch()), Seq: uint64(token.Seq())}
}

func encodeMark(mark change.Mark) *peerpb.Mark {
	return &peerpb.Mark{Position: uint64(mark.Position), Index: mark.Index}
}

// encodeBarrier leaves out a barrier that there is not, which is most of them.
func encodeBarrier(barrier message.Barrier) *peerpb.Barrier {
	if barrier == (message.Barrier{}) {
		return nil
	}
	return &peerpb.Barrier{Number: barrier.Number, Position: uint64(barrier.Position), Action: uint32(barrier.Action)}
}

func encodeHeld(held message.Held) *peerpb.Held {
	if held == (message.Held{}) {
		return nil
	}
	return &peerpb.Held{
		Number: held.Number, Position: uint64(held.Position), Highest: uint64(held.Highest), Synced: uint64(held.Synced),
	}
}

func encodeStatuses(statuses []message.Status) []*peerpb.Status {
	encoded := make([]*peerpb.Status, 0, len(statuses))
	for i := range statuses {
		encoded = append(encoded, encodeStatus(&statuses[i]))
	}
	return encoded
}

func encodeStatus(status *message.Status) *peerpb.Status {
	encoded := &peerpb.Status{
		Start: status.Span.Start, End: status.Span.End, Epoch: uint64(status.Token.Epoch()), Seq: uint64(status.Token.Seq()),
		SpecRevision: status.SpecRevision, State: uint32(status.State), Position: uint64(status.Mark.Position),
		Index: status.Mark.Index, Known: status.Known, Resolved: uint64(status.Resolved),
		Fault: encodeFault(status.Fault), SourceId: status.SourceID, SnapshotRows: status.SnapshotRows,
		SnapshotTotal: status.SnapshotTotal, Changes: status.Changes, Bytes: status.Bytes, WaitingOn: status.WaitingOn,
		WaitingForNanoseconds: int64(status.WaitingFor), Barrier: uint64(status.Barrier),
		AgeSeconds: uint32(status.Age / changefeed.Second), Rate: status.Rate,
	}
	if status.Half != nil {
		encoded.HalfKey, encoded.HalfPercent = status.Half.Key, uint32(status.Half.Percent)
	}
	return encoded
}

// encodeFault keeps the text of the cause; what type it had ends here.
func encodeFault(fault *changefeed.Fault) *peerpb.Fault {
	if fault == nil {
		return nil
	}
	encoded := &peerpb.Fault{
		Code: string(fault.Code), Field: fault.Field, Value: fault.Value, Detail: fault.Detail, Cure: fault.Cure,
		Permanent: fault.Permanent,
	}
	if fault.Err != nil {
		encoded.Cause = fault.Err.Error()
	}
	return encoded
}
