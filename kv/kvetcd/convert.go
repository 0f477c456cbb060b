package kvetcd

import (
	"fmt"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/kv"
)

// keyFirst is the smallest key that etcd can store. A range from the empty key begins there.
const keyFirst = "\x00"

func normalRange(key, end string) (from, to string) {
	if key == "" && end != "" {
		return keyFirst, end
	}
	return key, end
}

func encodeCompares(compares []kv.Compare) ([]clientv3.Cmp, error) {
	encoded := make([]clientv3.Cmp, 0, len(compares))
	for _, c := range compares {
		compare := &pb.Compare{Key: []byte(c.Key)}
		if c.End != "" {
			compare.RangeEnd = []byte(c.End)
		}
		switch c.Relation {
		case kv.Equal:
			compare.Result = pb.Compare_EQUAL
		case kv.NotEqual:
			compare.Result = pb.Compare_NOT_EQUAL
		case kv.Less:
			compare.Result = pb.Compare_LESS
		case kv.Greater:
			compare.Result = pb.Compare_GREATER
		default:
			return nil, fmt.Errorf("kvetcd: compare of %q: unknown relation %d", c.Key, c.Relation)
		}
		switch c.Target {
		case kv.ModRevision:
			compare.Target = pb.Compare_MOD
			compare.TargetUnion = &pb.Compare_ModRevision{ModRevision: c.Number}
		case kv.CreateRevision:
			compare.Target = pb.Compare_CREATE
			compare.TargetUnion = &pb.Compare_CreateRevision{CreateRevision: c.Number}
		case kv.Version:
			compare.Target = pb.Compare_VERSION
			compare.TargetUnion = &pb.Compare_Version{Version: c.Number}
		case kv.Value:
			compare.Target = pb.Compare_VALUE
			compare.TargetUnion = &pb.Compare_Value{Value: c.Value}
		default:
			return nil, fmt.Errorf("kvetcd: compare of %q: unknown target %d", c.Key, c.Target)
		}
		encoded = append(encoded, clientv3.FromCompare(compare))
	}
	return encoded, nil
}

func encodeOps(ops []kv.Op) ([]clientv3.Op, error) {
	encoded := make([]clientv3.Op, 0, len(ops))
	for _, op := range ops {
		key, end := normalRange(op.Key, op.End)
		var options []clientv3.OpOption
		if end != "" && op.Kind != kv.OpPut {
			options = append(options, clientv3.WithRange(end))
		}
		switch op.Kind {
		case kv.OpGet:
			encoded = append(encoded, clientv3.OpGet(key, append(options, clientv3.WithLimit(op.Limit))...))
		case kv.OpPut:
			encoded = append(encoded, clientv3.OpPut(key, string(op.Value), clientv3.WithLease(clientv3.LeaseID(op.Lease))))
		case kv.OpDelete:
			encoded = append(encoded, clientv3.OpDelete(key, options...))
		default:
			return nil, fmt.Errorf("kvetcd: operation on %q: unknown kind %d", op.Key, op.Kind)
		}
	}
	return encoded, nil
}

func decodeHeader(header *pb.ResponseHeader) kv.Header {
	return kv.Header{ClusterID: header.GetClusterId(), Revision: header.GetRevision()}
}

func decodeTxn(answer *clientv3.TxnResponse) kv.Result {
	result := kv.Result{
		Header: decodeHeader(answer.Header), Succeeded: answer.Succeeded,
		Responses: make([]kv.Response, 0, len(answer.Responses)),
	}
	for _, response := range answer.Responses {
		var decoded kv.Response
		if r := response.GetResponseRange(); r != nil {
			decoded.Pairs, decoded.More = decodePairs(r.GetKvs()), r.GetMore()
		}
		if r := response.GetResponseDeleteRange(); r != nil {
			decoded.Deleted = r.GetDeleted()
		}
		result.Responses = append(result.Responses, decoded)
	}
	return result
}

func decodePairs(pairs []*mvccpb.KeyValue) []kv.Pair {
	decoded := make([]kv.Pair, 0, len(pairs))
	for _, pair := range pairs {
		decoded = append(decoded, decodePair(pair))
	}
	return decoded
}

func decodePair(pair *mvccpb.KeyValue) kv.Pair {
	return kv.Pair{
		Key: string(pair.GetKey()), Value: pair.GetValue(), CreateRevision: pair.GetCreateRevision(),
		ModRevision: pair.GetModRevision(), Version: pair.GetVersion(), Lease: kv.LeaseID(pair.GetLease()),
	}
}

func decodeEvents(events []*mvccpb.Event) []kv.Event {
	decoded := make([]kv.Event, 0, len(events))
	for _, event := range events {
		if event.GetType() == mvccpb.Event_DELETE {
			decoded = append(decoded, kv.Event{Deleted: true, Pair: kv.Pair{
				Key: string(event.GetKv().GetKey()), ModRevision: event.GetKv().GetModRevision(),
			}})
			continue
		}
		decoded = append(decoded, kv.Event{Pair: decodePair(event.GetKv())})
	}
	return decoded
}
