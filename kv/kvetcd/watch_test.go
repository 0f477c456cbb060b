package kvetcd

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	"google.golang.org/grpc"

	"fencerow/kv"
)

// scripted is a stream of a watch, and its client, whose answers a test writes.
type scripted struct {
	grpc.ClientStream
	ctx     context.Context
	sent    chan *pb.WatchRequest
	answers chan *pb.WatchResponse
}

func (s *scripted) Watch(ctx context.Context, _ ...grpc.CallOption) (pb.Watch_WatchClient, error) {
	s.ctx = ctx
	return s, nil
}

func (s *scripted) Send(request *pb.WatchRequest) error {
	s.sent <- request
	return nil
}

func (s *scripted) Recv() (*pb.WatchResponse, error) {
	select {
	case answer := <-s.answers:
		return answer, nil
	case <-s.ctx.Done():
		return nil, s.ctx.Err()
	}
}

// etcd holds the events of a watch back until it has announced it, and its answer to a progress request, which is of the
// whole stream, overtakes them: a reader that is told a revision before its events leaves them out when they come.
func TestProgressIsNotAskedForBeforeTheWatchIsAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		etcd := &scripted{sent: make(chan *pb.WatchRequest, 4), answers: make(chan *pb.WatchResponse)}
		w := &watch{responses: make(chan kv.WatchResponse), progress: make(chan struct{}, 1)}
		ended := make(chan kv.WatchResponse, 1)
		go func() { ended <- (&Store{watch: etcd}).stream(ctx, w, kv.WatchRequest{Key: "a", From: 5}) }()
		require.NotNil(t, (<-etcd.sent).GetCreateRequest())
		require.NoError(t, w.RequestProgress(ctx))
		synctest.Wait()
		require.Empty(t, etcd.sent, "the watch was not announced")

		etcd.answers <- &pb.WatchResponse{Created: true, Header: &pb.ResponseHeader{Revision: 9}}
		etcd.answers <- &pb.WatchResponse{Events: []*mvccpb.Event{{Kv: &mvccpb.KeyValue{Key: []byte("a"), ModRevision: 7}}}}
		require.Len(t, (<-w.responses).Events, 1)
		require.NotNil(t, (<-etcd.sent).GetProgressRequest(), "what was asked for meanwhile is sent then")
		cancel()
		require.ErrorIs(t, (<-ended).Err, context.Canceled)
	})
}
