package kvetcd

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"

	"fencerow/kv"
)

// watch is one gRPC stream with one watcher. The client library shares streams, on which a progress request is answered
// only when all watchers have caught up, and buffers without bound for a slow reader; here a reader that does not take
// stops the stream by flow control, and etcd lets that watcher fall behind.
type watch struct {
	responses chan kv.WatchResponse
	progress  chan struct{} // one pending request is enough
}

// Watch starts a watch. It ends with the first trouble of its stream, and says so in its last response: the caller
// watches again from the revision that it has seen completely, plus 1.
func (s *Store) Watch(ctx context.Context, request kv.WatchRequest) kv.Watch {
	w := &watch{responses: make(chan kv.WatchResponse), progress: make(chan struct{}, 1)}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		w.responses = make(chan kv.WatchResponse, 1)
		w.responses <- kv.WatchResponse{Err: kv.ErrClosed}
		close(w.responses)
		return w
	}
	s.watches.Go(func() {
		defer close(w.responses)
		streamCtx, cancel := context.WithCancel(clientv3.WithRequireLeader(ctx))
		defer cancel()
		defer context.AfterFunc(s.client.Ctx(), cancel)() //nolint:contextcheck // the watch lives as its caller says
		last := s.stream(streamCtx, w, request)
		if s.client.Ctx().Err() != nil {
			last.Err = kv.ErrClosed
			select { // whoever is not waiting sees the channel closed
			case w.responses <- last:
			default:
			}
			return
		}
		w.deliver(streamCtx, last)
	})
	return w
}

// Responses returns the channel of responses.
func (w *watch) Responses() <-chan kv.WatchResponse { return w.responses }

// RequestProgress asks etcd how far the watch is. It does not wait for the answer, which comes as a response.
func (w *watch) RequestProgress(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("kvetcd: request progress: %w", err)
	}
	select {
	case w.progress <- struct{}{}:
	default: // one is waiting already
	}
	return nil
}

// stream runs the watch and returns its last response. etcd does not answer a progress request while the first revision
// asked for lies ahead of the store, which on a quiet store is for ever. So the watch begins one revision before, and
// leaves out what was not asked for; if that one was compacted away, there is one to begin with.
func (s *Store) stream(ctx context.Context, w *watch, request kv.WatchRequest) kv.WatchResponse {
	from := max(request.From, 1)
	last := s.streamFrom(ctx, w, request, max(from-1, 1))
	if from > 1 && last.Compacted == from && ctx.Err() == nil {
		return s.streamFrom(ctx, w, request, from)
	}
	return last
}

// streamFrom asks etcd for the events from a revision at or below the one that was requested.
func (s *Store) streamFrom(ctx context.Context, w *watch, request kv.WatchRequest, from int64) kv.WatchResponse {
	failed := func(err error) kv.WatchResponse {
		return kv.WatchResponse{Err: fmt.Errorf("kvetcd: watch: %w", clientv3.ContextError(ctx, err))}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := s.watch.Watch(ctx, grpc.WaitForReady(true), grpc.MaxCallRecvMsgSize(ReceiveBytesMax))
	if err != nil {
		return failed(err)
	}
	key, end := normalRange(request.Key, request.End)
	create := &pb.WatchCreateRequest{
		Key: []byte(key), RangeEnd: []byte(end), StartRevision: from, Fragment: true,
	}
	err = stream.Send(&pb.WatchRequest{RequestUnion: &pb.WatchRequest_CreateRequest{CreateRequest: create}})
	if err != nil && !errors.Is(err, io.EOF) { // of EOF the receive tells the reason
		return failed(err)
	}
	var sender sync.WaitGroup
	defer sender.Wait()
	defer cancel()
	for {
		answer, err := stream.Recv()
		if err != nil {
			return failed(err)
		}
		response, ended := decodeWatch(answer)
		if ended {
			return response
		}
		if answer.GetCreated() {
			// Not before: etcd holds events back until it has announced the watch, but answers a progress request past them.
			sender.Go(func() { w.sendProgress(ctx, stream) })
			continue // its revision says nothing about what was delivered
		}
		if !since(&response, request.From) {
			continue
		}
		if !w.deliver(ctx, response) {
			return failed(ctx.Err())
		}
	}
}

// since leaves out the events before a revision; false says that nothing else was in the response. Events come in order
// of revision, so that nothing is left over of a revision that is left out.
func since(response *kv.WatchResponse, from int64) bool {
	if len(response.Events) == 0 {
		return true
	}
	response.Events = slices.DeleteFunc(response.Events, func(event kv.Event) bool { return event.Pair.ModRevision < from })
	return len(response.Events) > 0
}

func (w *watch) sendProgress(ctx context.Context, stream pb.Watch_WatchClient) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.progress:
			union := &pb.WatchRequest_ProgressRequest{ProgressRequest: &pb.WatchProgressRequest{}}
			if err := stream.Send(&pb.WatchRequest{RequestUnion: union}); err != nil {
				return // the receive tells
			}
		}
	}
}

func (w *watch) deliver(ctx context.Context, response kv.WatchResponse) bool {
	select {
	case w.responses <- response:
		return true
	case <-ctx.Done():
		return false
	}
}

// decodeWatch translates a response; ended says that it is the last one.
func decodeWatch(answer *pb.WatchResponse) (response kv.WatchResponse, ended bool) {
	response = kv.WatchResponse{Header: decodeHeader(answer.GetHeader()), Fragment: answer.GetFragment()}
	switch {
	case answer.GetCompactRevision() != 0:
		response.Compacted = answer.GetCompactRevision()
		response.Err = fmt.Errorf("kvetcd: watch: %w", kv.ErrCompacted)
		return response, true
	case answer.GetCanceled():
		reason := answer.GetCancelReason()
		if err := refusedWatch(reason); err != nil {
			response.Err = fmt.Errorf("kvetcd: watch: %w", err)
		} else {
			response.Err = fmt.Errorf("kvetcd: watch: cancelled by etcd: %q", reason)
		}
		return response, true
	}
	response.Events = decodeEvents(answer.GetEvents())
	if n := len(response.Events); n > 0 {
		// The header has the store's revision, but a watcher that is behind gets at most 1000 revisions at a time: only
		// up to the last event is everything here.
		response.Revision = response.Events[n-1].Pair.ModRevision
	}
	return response, false
}

// refusedWatch finds the error in the text by which etcd ends a watch; nil if there is none.
func refusedWatch(reason string) error {
	for _, refusal := range refusals() {
		if strings.Contains(reason, refusal.Error()) {
			return refusal
		}
	}
	if strings.Contains(reason, rpctypes.ErrNoLeader.Error()) {
		return rpctypes.ErrNoLeader
	}
	return nil
}
