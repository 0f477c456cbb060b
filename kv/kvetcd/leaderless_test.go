package kvetcd_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"fencerow/kv"
	"fencerow/kv/kvetcd"
)

// member is one of an etcd. One that was cut off from the others keeps requests waiting, unless they demand a leader; so
// does etcd's.
type member struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	cutOff bool
	asked  atomic.Int64
}

func (m *member) look(ctx context.Context) error {
	m.asked.Add(1)
	if !m.cutOff {
		return nil
	}
	demands, _ := metadata.FromIncomingContext(ctx)
	if len(demands[rpctypes.MetadataRequireLeaderKey]) > 0 {
		return rpctypes.ErrGRPCNoLeader
	}
	<-ctx.Done()
	return rpctypes.ErrGRPCTimeout
}

func (m *member) Txn(ctx context.Context, _ *pb.TxnRequest) (*pb.TxnResponse, error) {
	return &pb.TxnResponse{Header: &pb.ResponseHeader{Revision: 7}, Succeeded: true}, m.look(ctx)
}

func (m *member) Range(ctx context.Context, _ *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{Header: &pb.ResponseHeader{Revision: 7}}, m.look(ctx)
}

func (m *member) LeaseGrant(ctx context.Context, _ *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	return &pb.LeaseGrantResponse{Header: &pb.ResponseHeader{Revision: 7}, ID: 3, TTL: 2}, m.look(ctx)
}

func (m *member) LeaseKeepAlive(stream grpc.BidiStreamingServer[pb.LeaseKeepAliveRequest, pb.LeaseKeepAliveResponse]) error {
	if err := m.look(stream.Context()); err != nil {
		return err
	}
	if _, err := stream.Recv(); err != nil {
		return err
	}
	return stream.Send(&pb.LeaseKeepAliveResponse{Header: &pb.ResponseHeader{Revision: 7}, ID: 3, TTL: 2})
}

func (m *member) serve(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server := grpc.NewServer()
	pb.RegisterKVServer(server, m)
	pb.RegisterLeaseServer(server, m)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-done)
	})
	return "http://" + listener.Addr().String()
}

// hazard 54: a member of etcd is isolated from its peers while we talk to it. It holds nobody up: who has a leader is asked.
// (A third of all requests waited until their time limit, and nodes lost their sessions again and again.)
func TestAMemberWithoutALeaderHoldsNobodyUp(t *testing.T) {
	well, cut := &member{}, &member{cutOff: true}
	client, err := kvetcd.Dial(kvetcd.Config{Endpoints: []string{well.serve(t), cut.serve(t)}})
	require.NoError(t, err)
	store := kvetcd.New(client)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	ctx := within(t)
	for cut.asked.Load() < 8 { // in turns, once both are connected
		_, err := store.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("a", nil)}})
		require.NoError(t, err)
		_, err = store.Range(ctx, kv.Range{Key: "a"})
		require.NoError(t, err)
		_, err = store.Grant(ctx, time.Second)
		require.NoError(t, err)
		_, err = store.KeepAlive(ctx, 3)
		require.NoError(t, err)
	}
}
