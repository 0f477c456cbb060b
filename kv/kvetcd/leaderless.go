package kvetcd

import (
	"context"
	"errors"
	"strings"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
)

const (
	// leaderlessMax is how long a request looks for a member that has a leader: about as long as etcd itself would keep it
	// waiting, and longer than an election takes.
	leaderlessMax = 7 * time.Second
	// leaderlessPause is between two members, so that an etcd without a leader is not asked without end.
	leaderlessPause = 25 * time.Millisecond
	// leaderlessRenewals is how many members are asked to renew a lease: there is no time to wait for an election, the
	// session decides when to try again.
	leaderlessRenewals = 3
)

// askLeader has members without a leader refuse a request at once, and then asks the next one. A member that was cut off
// from the others otherwise takes requests and lets them wait for seconds, every third of all if it is one of three. Etcd
// refuses before the request is looked at, so it was not done, and may be sent again.
func askLeader(ctx context.Context, method string, request, reply any, connection *grpc.ClientConn, //nolint:revive // gRPC's signature
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	if !strings.HasPrefix(method, "/etcdserverpb.KV/") && !strings.HasPrefix(method, "/etcdserverpb.Lease/") {
		return invoke(ctx, method, request, reply, connection, options...)
	}
	limit := time.NewTimer(leaderlessMax)
	defer limit.Stop()
	demanding := clientv3.WithRequireLeader(ctx)
	for {
		err := invoke(demanding, method, request, reply, connection, options...)
		if !leaderless(err) {
			return err
		}
		next := time.NewTimer(leaderlessPause)
		select {
		case <-next.C:
		case <-limit.C:
			next.Stop()
			return err
		case <-ctx.Done():
			next.Stop()
			return err
		}
	}
}

// leaderless says that a member refused because it knows of no leader.
func leaderless(err error) bool { return errors.Is(rpctypes.Error(err), rpctypes.ErrNoLeader) }
