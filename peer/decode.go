package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/peer/peerpb"
)

var (
	// errUnknownKind says that a newer version sent something that this one does not know. It is ignored and counted.
	errUnknownKind = errors.New("peer: message of an unknown kind")
	errInvalid     = errors.New("peer: invalid message")
)

// decode translates what came from a node to this one. Nothing that comes over the wire makes it panic, and what it
// returns shares nothing with the frame that is worth keeping apart: a frame is decoded once.
func decode(encoded *peerpb.Envelope, from, to changefeed.NodeID) (message.Envelope, error) {
	body, err := decodeBody(encoded)
	if err != nil {
		return message.Envelope{}, err
	}
	return message.Envelope{
		ID:  changefeed.ID{Namespace: encoded.GetNamespace(), Name: encoded.GetName()},
		UID: changefeed.UID(encoded.GetUid()), Epoch: fence.Epoch(encoded.GetEpoch()), From: from, To: to, Body: body,
	}, nil
}

func decodeBody(encoded *peerpb.Envelope) (message.Body, error) {
	switch body := encoded.GetBody().(type) {
	case *peerpb.Envelope_Bootstrap:
		return decodeBootstrap(body.Bootstrap)
	case *peerpb.Envelope_BootstrapReply:
		statuses, err := decodeStatuses(body.BootstrapReply.GetDispatchers())
		return message.BootstrapReply{Dispatchers: statuses}, err
	case *peerpb.Envelope_Place:
		barrier, err := decodeBarrier(body.Place.GetBarrier())
		return message.Place{
			Seq: fence.Seq(body.Place.GetSeq()), Span: decodeSpan(body.Place.GetSpan()), From: decodeMark(body.Place.GetFrom()),
			Floor: change.Position(body.Place.GetFloor()), Barrier: barrier,
		}, err
	case *peerpb.Envelope_Stop:
		return message.Stop{Token: decodeToken(body.Stop.GetToken()), At: decodeMark(body.Stop.GetAt())}, nil
	case *peerpb.Envelope_Barrier:
		return decodeBarrier(body.Barrier)
	case *peerpb.Envelope_Close:
		return message.Close{Removed: body.Close.GetRemoved()}, nil
	case *peerpb.Envelope_Closed:
		return message.Closed{}, nil
	case *peerpb.Envelope_ListStatuses:
		return message.ListStatuses{Halve: decodeToken(body.ListStatuses.GetHalve())}, nil
	case *peerpb.Envelope_Statuses:
		statuses, err := decodeStatuses(body.Statuses.GetStatuses())
		return message.Statuses{Full: body.Statuses.GetFull(), Statuses: statuses}, err
	case *peerpb.Envelope_Heartbeat:
		changed, err := decodeStatuses(body.Heartbeat.GetChanged())
		return message.Heartbeat{
			Number: body.Heartbeat.GetNumber(), Checkpoint: change.Position(body.Heartbeat.GetCheckpoint()),
			Set:      message.Digest{Count: body.Heartbeat.GetSetCount(), Sum: body.Heartbeat.GetSetSum()},
			Resolved: change.Position(body.Heartbeat.GetResolved()), Changed: changed, Held: decodeHeld(body.Heartbeat.GetHeld()),
		}, err
	case *peerpb.Envelope_Rejected:
		command, err := narrow(body.Rejected.GetCommand(), "command")
		return message.Rejected{
			Offered: fence.Epoch(body.Rejected.GetOffered()), Held: fence.Epoch(body.Rejected.GetHeld()),
			Rule: clean(body.Rejected.GetRule()), Command: message.Kind(command),
			Token: decodeToken(body.Rejected.GetToken()),
		}, err
	default:
		return nil, errUnknownKind
	}
}

func decodeBootstrap(encoded *peerpb.Bootstrap) (message.Body, error) {
	body := message.Bootstrap{
		SpecRevision: encoded.GetSpecRevision(), SourceID: encoded.GetSourceId(),
		Checkpoint: change.Position(encoded.GetCheckpoint()),
	}
	if err := json.Unmarshal(encoded.GetSpecJson(), &body.Spec); err != nil {
		return nil, fmt.Errorf("%w: spec: %w", errInvalid, err)
	}
	return body, nil
}

func decodeBarrier(encoded *peerpb.Barrier) (message.Barrier, error) {
	action, err := narrow(encoded.GetAction(), "barrier action")
	return message.Barrier{
		Number: encoded.GetNumber(), Position: change.Position(encoded.GetPosition()), Action: message.BarrierAction(action),
	}, err
}

func decodeHeld(encoded *peerpb.Held) message.Held {
	return message.Held{
		Number: encoded.GetNumber(), Position: change.Position(encoded.GetPosition()), Highest: change.Position(encoded.GetHighest()),
		Synced: change.Position(encoded.GetSynced()),
	}
}

// narrow reads one of our enumerations of 8 bits.
func narrow(value uint32, what string) (uint8, error) {
	if value > math.MaxUint8 {
		return 0, fmt.Errorf("%w: %s %d", errInvalid, what, value)
	}
	return uint8(value), nil
}

func decodeSpan(span *peerpb.Span) changefeed.Span {
	return changefeed.Span{Start: orNil(span.GetStart()), End: orNil(span.GetEnd())}
}

// orNil makes an empty bound the nil that it was.
func orNil(bound []byte) []byte {
	if len(bound) == 0 {
		return nil
	}
	return bound
}

// decodeToken is one of the places that make tokens: of bytes that another node wrote.
func decodeToken(token *peerpb.Token) fence.Token {
	return fence.Mint(fence.Epoch(token.GetEpoch()), fence.Seq(token.GetSeq()))
}

func decodeMark(mark *peerpb.Mark) change.Mark {
	return change.Mark{Position: change.Position(mark.GetPosition()), Index: mark.GetIndex()}
}

func decodeStatuses(encoded []*peerpb.Status) ([]message.Status, error) {
	if len(encoded) == 0 {
		return nil, nil
	}
	statuses := make([]message.Status, 0, len(encoded))
	for _, status := range encoded {
		state, err := narrow(status.GetState(), "dispatcher state")
		if err != nil {
			return nil, err
		}
		statuses = append(statuses, message.Status{
			Span:         changefeed.Span{Start: orNil(status.GetStart()), End: orNil(status.GetEnd())},
			Token:        fence.Mint(fence.Epoch(status.GetEpoch()), fence.Seq(status.GetSeq())),
			SpecRevision: status.GetSpecRevision(), State: message.DispatcherState(state),
			Mark:     change.Mark{Position: change.Position(status.GetPosition()), Index: status.GetIndex()},
			Known:    status.GetKnown(),
			Resolved: change.Position(status.GetResolved()), Fault: decodeFault(status.GetFault()),
			SourceID: status.GetSourceId(), SnapshotRows: status.GetSnapshotRows(), SnapshotTotal: status.GetSnapshotTotal(),
			Changes: status.GetChanges(), Bytes: status.GetBytes(), WaitingOn: status.GetWaitingOn(),
			WaitingFor: changefeed.Duration(status.GetWaitingForNanoseconds()), Barrier: change.Position(status.GetBarrier()),
			Age: changefeed.Duration(status.GetAgeSeconds()) * changefeed.Second, Rate: status.GetRate(), Half: decodeHalf(status),
		})
	}
	return statuses, nil
}

func decodeHalf(status *peerpb.Status) *message.Half {
	percent := status.GetHalfPercent()
	if percent == 0 || percent > 100 || len(status.GetHalfKey()) == 0 {
		return nil
	}
	return &message.Half{Key: status.GetHalfKey(), Percent: uint8(percent)}
}

func decodeFault(encoded *peerpb.Fault) *changefeed.Fault {
	if encoded == nil {
		return nil
	}
	fault := &changefeed.Fault{
		Code: changefeed.Code(encoded.GetCode()), Field: encoded.GetField(), Value: encoded.GetValue(),
		Detail: encoded.GetDetail(), Cure: encoded.GetCure(), Permanent: encoded.GetPermanent(),
	}
	if encoded.GetCause() != "" {
		fault.Err = errors.New(encoded.GetCause())
	}
	return fault
}

// ruleBytesMax bounds the name of a rule, which becomes the label of a metric.
const ruleBytesMax = 16

// clean keeps what another node calls a rule from becoming any text that it likes.
func clean(rule string) string {
	if len(rule) > ruleBytesMax || strings.ToValidUTF8(rule, "") != rule {
		return "unknown"
	}
	return rule
}
