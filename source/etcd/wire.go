package etcd

import (
	"errors"
	"fmt"
	"slices"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"google.golang.org/grpc/encoding"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"fencerow/change"
)

// watched is one event of a watch. Its key-value pair shares the memory of the message it came in.
type watched struct {
	kv      change.KV
	prev    *change.KV // nil where it was not asked for, or is not known
	deleted bool
}

// size is what the change that is made of it has in memory, as change.Change.Size counts.
func (w *watched) size() int {
	const changeOverhead = 128
	size := changeOverhead + len(w.kv.Key) + w.kv.Size()
	if w.prev != nil {
		size += w.prev.Size()
	}
	return size
}

// answer is a response of etcd's watch. etcd's header revision says how far the store is, never how far the watch is:
// a watch that catches up gets it with the first thousand revisions of many.
type answer struct {
	cluster    uint64
	revision   int64
	created    bool
	canceled   bool
	fragment   bool
	compacted  int64
	reason     string
	events     []watched
	eventBytes int
}

// complete returns the highest revision up to which the watch has now delivered everything, or 0 if the answer doesn't
// say. Events of one revision are never parted, except over fragments.
func (a *answer) complete() int64 {
	switch {
	case len(a.events) > 0 && a.fragment:
		return a.events[len(a.events)-1].kv.ModRevision - 1
	case len(a.events) > 0:
		return a.events[len(a.events)-1].kv.ModRevision
	case a.created, a.canceled, a.fragment:
		return 0
	default:
		return a.revision // progress: sent only when the watch has everything up to here
	}
}

// codec sends etcd's own requests and reads its watch responses straight into answers, without a copy for every key and
// value: a message is one block of memory, and changes point into it.
type codec struct{}

var _ encoding.CodecV2 = codec{}

// Name is the name of the format on the wire.
func (codec) Name() string { return "proto" }

// Marshal writes a request.
func (codec) Marshal(v any) (mem.BufferSlice, error) {
	request, ok := v.(*pb.WatchRequest)
	if !ok {
		return nil, fmt.Errorf("etcd: can't send a %T", v)
	}
	data, err := proto.Marshal(request)
	if err != nil {
		return nil, fmt.Errorf("etcd: marshal watch request: %w", err)
	}
	return mem.BufferSlice{mem.SliceBuffer(data)}, nil
}

// Unmarshal reads a response into an *answer.
func (codec) Unmarshal(data mem.BufferSlice, v any) error {
	into, ok := v.(*answer)
	if !ok {
		return fmt.Errorf("etcd: can't receive a %T", v)
	}
	if err := into.decode(data.Materialize()); err != nil {
		return fmt.Errorf("etcd: watch response: %w", err)
	}
	return nil
}

// Field numbers of etcd's rpc.proto and kv.proto.
const (
	responseHeader    = 1
	responseCreated   = 3
	responseCanceled  = 4
	responseCompacted = 5
	responseReason    = 6
	responseFragment  = 7
	responseEvents    = 11

	headerCluster  = 1
	headerRevision = 3

	eventType    = 1
	eventKV      = 2
	eventPrevKV  = 3
	typeDeletion = 1

	kvKey            = 1
	kvCreateRevision = 2
	kvModRevision    = 3
	kvVersion        = 4
	kvValue          = 5
	kvLease          = 6
)

// fields calls visit for every field of a message. Fields of fixed size, which etcd doesn't use here, are skipped.
func fields(data []byte, visit func(number protowire.Number, value uint64, content []byte) error) error {
	for len(data) > 0 {
		number, kind, n := protowire.ConsumeTag(data)
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		var value uint64
		var content []byte
		switch kind {
		case protowire.VarintType:
			value, n = protowire.ConsumeVarint(data)
		case protowire.BytesType:
			content, n = protowire.ConsumeBytes(data)
		default:
			n = protowire.ConsumeFieldValue(number, kind, data)
			number = 0
		}
		if n < 0 {
			return protowire.ParseError(n)
		}
		data = data[n:]
		if err := visit(number, value, content); err != nil {
			return err
		}
	}
	return nil
}

func (a *answer) decode(data []byte) error {
	*a = answer{}
	events := 0
	err := fields(data, func(number protowire.Number, value uint64, content []byte) error {
		switch number {
		case responseHeader:
			return fields(content, func(number protowire.Number, value uint64, _ []byte) error {
				switch number {
				case headerCluster:
					a.cluster = value
				case headerRevision:
					a.revision = int64(value)
				default: // of no use here
				}
				return nil
			})
		case responseCreated:
			a.created = value != 0
		case responseCanceled:
			a.canceled = value != 0
		case responseCompacted:
			a.compacted = int64(value)
		case responseReason:
			a.reason = string(content)
		case responseFragment:
			a.fragment = value != 0
		case responseEvents:
			events++
		default: // of no use here
		}
		return nil
	})
	if err != nil || events == 0 {
		return err
	}
	a.events = make([]watched, 0, events) // one block: a change takes no allocation of its own
	return fields(data, func(number protowire.Number, _ uint64, content []byte) error {
		if number != responseEvents {
			return nil
		}
		a.events = append(a.events, watched{})
		event := &a.events[len(a.events)-1]
		if err := event.decode(content); err != nil {
			return err
		}
		if len(a.events) > 1 && event.kv.ModRevision < a.events[len(a.events)-2].kv.ModRevision {
			return errOrder
		}
		a.eventBytes += event.size()
		return nil
	})
}

var (
	errOrder = errors.New("revisions that fall")
	errKey   = errors.New("an event without a key or a revision")
)

func (w *watched) decode(data []byte) error {
	err := fields(data, func(number protowire.Number, value uint64, content []byte) error {
		switch number {
		case eventType:
			w.deleted = value == typeDeletion
		case eventKV:
			return decodeKV(content, &w.kv)
		case eventPrevKV:
			w.prev = new(change.KV)
			return decodeKV(content, w.prev)
		default: // of no use here
		}
		return nil
	})
	if err == nil && (len(w.kv.Key) == 0 || w.kv.ModRevision <= 0) {
		return errKey
	}
	return err
}

func decodeKV(data []byte, into *change.KV) error {
	return fields(data, func(number protowire.Number, value uint64, content []byte) error {
		switch number {
		case kvKey:
			into.Key = slices.Clip(content)
		case kvValue:
			into.Value = slices.Clip(content)
		case kvCreateRevision:
			into.CreateRevision = int64(value)
		case kvModRevision:
			into.ModRevision = int64(value)
		case kvVersion:
			into.Version = int64(value)
		case kvLease:
			into.Lease = int64(value)
		default: // of no use here
		}
		return nil
	})
}
