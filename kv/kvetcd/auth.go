package kvetcd

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// tokenSource fetches etcd's token when the first request needs one, and again after etcd refused it. The client
// library's own way asks for a token when the client is made, and so waits for etcd there, and asks again for every
// stream.
type tokenSource struct {
	user, password string

	mu    sync.Mutex
	auth  pb.AuthClient // nil until connected
	token string
	known bool

	fetching chan struct{} // one permit: only one request asks at a time
}

func newTokenSource(user, password string) *tokenSource {
	return &tokenSource{user: user, password: password, fetching: make(chan struct{}, 1)}
}

func (t *tokenSource) connect(connection *grpc.ClientConn) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.auth = pb.NewAuthClient(connection)
}

// GetRequestMetadata adds the token to a request; asking for the token itself needs none.
func (t *tokenSource) GetRequestMetadata(ctx context.Context, uri ...string) (map[string]string, error) {
	for _, u := range uri {
		if strings.HasSuffix(u, "/etcdserverpb.Auth") {
			return nil, nil
		}
	}
	token, err := t.fetch(ctx)
	if err != nil {
		return nil, err
	}
	if token == "" {
		return nil, nil
	}
	return map[string]string{rpctypes.TokenFieldNameGRPC: token}, nil
}

// RequireTransportSecurity lets etcd decide.
func (t *tokenSource) RequireTransportSecurity() bool { return false }

func (t *tokenSource) current() (string, pb.AuthClient, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.token, t.auth, t.known
}

func (t *tokenSource) fetch(ctx context.Context) (string, error) {
	if token, _, known := t.current(); known {
		return token, nil
	}
	select {
	case t.fetching <- struct{}{}:
		defer func() { <-t.fetching }()
	case <-ctx.Done():
		return "", ctx.Err()
	}
	token, auth, known := t.current()
	if known || auth == nil {
		return token, nil
	}
	answer, err := auth.Authenticate(ctx, &pb.AuthenticateRequest{Name: t.user, Password: t.password},
		grpc.WaitForReady(true))
	switch {
	case errors.Is(rpctypes.Error(err), rpctypes.ErrAuthNotEnabled):
		token = ""
	case err != nil && refused(err):
		// With etcd's own words, so that it is told from an answer that was lost. Its code may not be returned from here.
		return "", status.Error(codes.Unauthenticated, rpctypes.ErrorDesc(err))
	case err != nil:
		return "", fmt.Errorf("authenticate: %w", err)
	default:
		token = answer.GetToken()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.token, t.known = token, true
	return token, nil
}

// forget drops the token if err says that etcd does not take it. The request itself is not sent again here.
func (t *tokenSource) forget(err error) {
	switch rpctypes.Error(err) {
	case rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrUserEmpty: //nolint:errorlint // switched on is etcd's own error, not a wrapped one
		t.mu.Lock()
		defer t.mu.Unlock()
		t.known = false
	}
}

func (t *tokenSource) watchUnary(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, //nolint:revive // gRPC's signature
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	err := invoke(ctx, method, request, reply, connection, options...)
	if err != nil {
		t.forget(err)
	}
	return err
}

func (t *tokenSource) watchStream(ctx context.Context, desc *grpc.StreamDesc, connection *grpc.ClientConn, method string, //nolint:revive // gRPC's signature
	open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	stream, err := open(ctx, desc, connection, method, options...)
	if err != nil {
		t.forget(err)
		return nil, err
	}
	return &authStream{ClientStream: stream, tokens: t}, nil
}

type authStream struct {
	grpc.ClientStream
	tokens *tokenSource
}

func (s *authStream) RecvMsg(message any) error {
	err := s.ClientStream.RecvMsg(message)
	if err != nil {
		s.tokens.forget(err)
		return err
	}
	// A watch that is refused ends by a response, not by an error.
	if w, ok := message.(*pb.WatchResponse); ok && w.GetCanceled() && w.GetCancelReason() != "" {
		if e := refusedWatch(w.GetCancelReason()); e != nil {
			s.tokens.forget(e)
		}
	}
	return nil
}
