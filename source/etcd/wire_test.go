package etcd

import (
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"

	"fencerow/change"
)

func toKV(kv *mvccpb.KeyValue) *change.KV {
	if kv == nil {
		return nil
	}
	return &change.KV{
		Key: kv.GetKey(), Value: kv.GetValue(), CreateRevision: kv.GetCreateRevision(),
		ModRevision: kv.GetModRevision(), Version: kv.GetVersion(), Lease: kv.GetLease(),
	}
}

// requireSame compares our reading with the generated one.
func requireSame(t *testing.T, response *pb.WatchResponse, a *answer) {
	t.Helper()
	require.Equal(t, response.GetHeader().GetClusterId(), a.cluster)
	require.Equal(t, response.GetHeader().GetRevision(), a.revision)
	require.Equal(t, response.GetCreated(), a.created)
	require.Equal(t, response.GetCanceled(), a.canceled)
	require.Equal(t, response.GetFragment(), a.fragment)
	require.Equal(t, response.GetCompactRevision(), a.compacted)
	require.Equal(t, response.GetCancelReason(), a.reason)
	require.Len(t, a.events, len(response.GetEvents()))
	for i, event := range response.GetEvents() {
		require.Equal(t, event.GetType() == mvccpb.Event_DELETE, a.events[i].deleted)
		require.Equal(t, *toKV(event.GetKv()), a.events[i].kv)
		require.Equal(t, toKV(event.GetPrevKv()), a.events[i].prev)
	}
}

func sampleResponse() *pb.WatchResponse {
	return &pb.WatchResponse{
		Header: &pb.ResponseHeader{ClusterId: 1<<63 + 5, MemberId: 7, Revision: 99, RaftTerm: 3}, WatchId: 4, Fragment: true,
		Events: []*mvccpb.Event{
			{Type: mvccpb.Event_PUT, Kv: &mvccpb.KeyValue{
				Key: []byte("k"), Value: []byte("v"), CreateRevision: 3, ModRevision: 5, Version: 2, Lease: -8,
			}, PrevKv: &mvccpb.KeyValue{Key: []byte("k"), Value: []byte("u"), CreateRevision: 3, ModRevision: 4, Version: 1}},
			{Type: mvccpb.Event_DELETE, Kv: &mvccpb.KeyValue{Key: []byte("l"), ModRevision: 6}},
		},
	}
}

func TestAnswersAreReadAsTheGeneratedCodeReadsThem(t *testing.T) {
	for _, response := range []*pb.WatchResponse{
		{},
		sampleResponse(),
		{Header: &pb.ResponseHeader{Revision: 9}, WatchId: -1},
		{Header: &pb.ResponseHeader{Revision: 9}, Created: true},
		{Canceled: true, CompactRevision: 17, CancelReason: "etcdserver: compacted"},
	} {
		data, err := proto.Marshal(response)
		require.NoError(t, err)
		var a answer
		require.NoError(t, codec{}.Unmarshal(mem.BufferSlice{mem.SliceBuffer(data)}, &a))
		requireSame(t, response, &a)
	}
}

func TestAnswerSaysHowFarTheWatchIs(t *testing.T) {
	events := []watched{{kv: change.KV{ModRevision: 5}}, {kv: change.KV{ModRevision: 7}}}
	require.EqualValues(t, 7, (&answer{revision: 99, events: events}).complete(), "never the header's revision")
	require.EqualValues(t, 6, (&answer{revision: 99, events: events, fragment: true}).complete())
	require.EqualValues(t, 99, (&answer{revision: 99}).complete())
	require.Zero(t, (&answer{revision: 99, created: true}).complete())
	require.Zero(t, (&answer{revision: 99, canceled: true}).complete())
}

func FuzzDecode(f *testing.F) {
	data, err := proto.Marshal(sampleResponse())
	require.NoError(f, err)
	f.Add(data)
	f.Add([]byte{0x5a, 0x02, 0x12, 0x00})
	f.Fuzz(func(t *testing.T, data []byte) {
		var a answer
		if a.decode(data) != nil {
			return
		}
		// Repeated submessages are merged by the generated code, and by us too in what we look at.
		var response pb.WatchResponse
		if proto.Unmarshal(data, &response) == nil {
			require.Equal(t, response.GetHeader().GetRevision(), a.revision)
			require.Len(t, a.events, len(response.GetEvents()))
		}
	})
}
