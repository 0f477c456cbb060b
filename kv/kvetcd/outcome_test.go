package kvetcd_test

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvetcd"
)

// badDay is an etcd that answers every mutation with one error, and counts them.
type badDay struct {
	pb.UnimplementedKVServer
	pb.UnimplementedLeaseServer
	answer error
	asked  atomic.Int64
}

func (b *badDay) Txn(context.Context, *pb.TxnRequest) (*pb.TxnResponse, error) {
	b.asked.Add(1)
	return nil, b.answer
}

func (b *badDay) LeaseGrant(context.Context, *pb.LeaseGrantRequest) (*pb.LeaseGrantResponse, error) {
	b.asked.Add(1)
	return nil, b.answer
}

func startBadDay(t *testing.T, answer error) (*badDay, *kvetcd.Store) {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	day := &badDay{answer: answer}
	server := grpc.NewServer()
	pb.RegisterKVServer(server, day)
	pb.RegisterLeaseServer(server, day)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(server.Stop)
	client, err := kvetcd.Dial(kvetcd.Config{Endpoints: []string{"http://" + listener.Addr().String()}})
	require.NoError(t, err)
	store := kvetcd.New(client)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	return day, store
}

// hazard 3: a client that sends mutable transactions again by itself. Whatever the answer, it is sent once.
func TestAMutationIsSentOnceWhateverTheAnswer(t *testing.T) {
	for name, c := range map[string]struct {
		answer  error
		unknown bool
	}{
		"deadline, before the client's own": {status.Error(codes.DeadlineExceeded, "context deadline exceeded"), true},
		"cancelled by the server":           {status.Error(codes.Canceled, "context canceled"), true},
		"unavailable":                       {status.Error(codes.Unavailable, "connection error"), true},
		"no address":                        {status.Error(codes.Unavailable, "there is no address available"), true},
		"no connection":                     {status.Error(codes.Unavailable, "there is no connection available"), true},
		"internal":                          {status.Error(codes.Internal, "stream terminated"), true},
		"an answer too large to receive":    {status.Error(codes.ResourceExhausted, "grpc: received message larger than max"), true},
		"request timed out":                 {rpctypes.ErrGRPCTimeout, true},
		"leader failed":                     {rpctypes.ErrGRPCTimeoutDueToLeaderFail, true},
		"connection lost":                   {rpctypes.ErrGRPCTimeoutDueToConnectionLost, true},
		"leader changed":                    {rpctypes.ErrGRPCLeaderChanged, true},
		"server stopped":                    {rpctypes.ErrGRPCStopped, true},
		"something else":                    {errors.New("what"), true},
		"no space":                          {rpctypes.ErrGRPCNoSpace, false},
		"permission denied":                 {rpctypes.ErrGRPCPermissionDenied, false},
		"token expired":                     {rpctypes.ErrGRPCInvalidAuthToken, false},
		"auth changed":                      {rpctypes.ErrGRPCAuthOldRevision, false},
		"too large":                         {rpctypes.ErrGRPCRequestTooLarge, false},
		"too many operations":               {rpctypes.ErrGRPCTooManyOps, false},
		"too many requests":                 {rpctypes.ErrGRPCRequestTooManyRequests, false},
		"duplicate key":                     {rpctypes.ErrGRPCDuplicateKey, false},
		"lease not found":                   {rpctypes.ErrGRPCLeaseNotFound, false},
		"learner":                           {rpctypes.ErrGRPCNotSupportedForLearner, false},
	} {
		t.Run(name, func(t *testing.T) {
			day, store := startBadDay(t, c.answer)
			ctx := within(t)
			_, err := store.Txn(ctx, kv.Txn{Then: []kv.Op{kv.Put("a", nil)}})
			require.Error(t, err)
			require.Equal(t, c.unknown, errors.Is(err, fence.ErrUnknown), "%v", err)
			require.Equal(t, int64(1), day.asked.Load())
			_, err = store.Grant(ctx, time.Second)
			require.Error(t, err)
			require.Equal(t, int64(2), day.asked.Load())
		})
	}
}

func TestRefusalsAreRecognised(t *testing.T) {
	_, store := startBadDay(t, rpctypes.ErrGRPCNoSpace)
	_, err := store.Txn(within(t), kv.Txn{Then: []kv.Op{kv.Put("a", nil)}})
	require.True(t, kvetcd.NoSpace(err))
	require.False(t, kvetcd.Denied(err))
	_, store = startBadDay(t, rpctypes.ErrGRPCPermissionDenied)
	_, err = store.Txn(within(t), kv.Txn{Then: []kv.Op{kv.Put("a", nil)}})
	require.True(t, kvetcd.Denied(err))
	require.False(t, kvetcd.NoSpace(err))
	require.False(t, kvetcd.NoSpace(nil))
	_, store = startBadDay(t, rpctypes.ErrGRPCRequestTooLarge)
	_, err = store.Txn(within(t), kv.Txn{Then: []kv.Op{kv.Put("a", nil)}})
	require.ErrorIs(t, err, kv.ErrTooLarge)
}

func TestVersionsWithHolesAreRefused(t *testing.T) {
	for text, good := range map[string]bool{
		"3.6.14": true, "3.6.15": true, "3.7.1": true, "3.7.3": true, "3.8.0": true, "4.0.0": true, "v3.7.3": true,
		"3.7.3+git": true, "3.6.13": false, "3.5.99": false, "2.9.9": false, "3.7.0": false, "3.7.0-rc.1": false,
		"3.6.14-rc.0": false, "3.7.1-rc.0": false, "": false, "3.7": false, "a.b.c": false, "3.7.x": false, "3.-7.1": false,
	} {
		err := kvetcd.CheckVersion(text)
		require.Equal(t, good, err == nil, "%q: %v", text, err)
	}
	require.ErrorIs(t, kvetcd.CheckVersion("3.7.0"), kvetcd.ErrOldVersion)
}
