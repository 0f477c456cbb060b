package node

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"
	"google.golang.org/grpc"

	"fencerow/changefeed"
	"fencerow/kv/kvetcd"
	"fencerow/maintainer"
	"fencerow/record"
)

// oldEtcd answers as an etcd of some version, as far as nodes ask before they trust it.
type oldEtcd struct {
	pb.UnimplementedMaintenanceServer
	pb.UnimplementedClusterServer
	pb.UnimplementedKVServer
	version string
}

func (o *oldEtcd) Status(context.Context, *pb.StatusRequest) (*pb.StatusResponse, error) {
	return &pb.StatusResponse{Header: o.header(), Version: o.version}, nil
}

func (o *oldEtcd) MemberList(context.Context, *pb.MemberListRequest) (*pb.MemberListResponse, error) {
	return &pb.MemberListResponse{Header: o.header()}, nil
}

func (o *oldEtcd) Range(context.Context, *pb.RangeRequest) (*pb.RangeResponse, error) {
	return &pb.RangeResponse{Header: o.header()}, nil
}

func (o *oldEtcd) header() *pb.ResponseHeader { return &pb.ResponseHeader{ClusterId: 7, Revision: 12} }

// serveOld returns the address of an etcd that says it is of the version.
func serveOld(t *testing.T, version string) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	server, etcd := grpc.NewServer(), &oldEtcd{version: version}
	pb.RegisterMaintenanceServer(server, etcd)
	pb.RegisterClusterServer(server, etcd)
	pb.RegisterKVServer(server, etcd)
	done := make(chan error, 1)
	go func() { done <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		require.NoError(t, <-done)
	})
	return listener.Addr().String()
}

// The control plane refuses an etcd with known faults, unless it is told to take it.
func TestOldEtcdIsRefusedForTheRecords(t *testing.T) {
	for version, old := range map[string]bool{
		"3.5.21": true, "3.6.13": true, "3.6.14": false, "3.6.14-rc.0": true, "3.7.0": true, "3.7.1": false, "3.8.0": false, "3.7.0-rc.1": true,
	} {
		addr := serveOld(t, version)
		reach := func(allow bool) error {
			p := &process{config: Config{AllowOldEtcd: allow}, log: zap.NewNop()}
			client, err := dialControl(p.config, []string{addr})
			require.NoError(t, err)
			defer func() { _ = client.Close() }()
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			return p.reach(ctx, kvetcd.New(client), []string{addr})
		}
		require.NoError(t, reach(true), version)
		err := reach(false)
		if !old {
			require.NoError(t, err, version)
			continue
		}
		fault := changefeed.AsFault(err, "")
		require.Equal(t, changefeed.CodeEtcdTooOld, fault.Code, version)
		require.Equal(t, "--etcd", fault.Field)
		require.Equal(t, version, fault.Value)
		require.Contains(t, fault.Cure, "--allow-old-etcd")
	}
}

// As a source and as a sink an old etcd is used, with a warning for each.
func TestOldEtcdAsSourceAndSinkIsWarnedOf(t *testing.T) {
	source, sink := serveOld(t, "3.5.21"), serveOld(t, "3.6.2")
	logged, entries := observer.New(zapcore.WarnLevel)
	o := newOpener("1", Config{}, zap.New(logged))
	// Both say that they are one cluster; the prefixes don't overlap.
	opened, err := o.openSource(record.Spec{Source: "etcd://" + source + "/a/", Sink: "etcd://" + sink + "/b/"}, maintainer.Ownership{})
	require.NoError(t, err)
	defer func() { require.NoError(t, opened.Close()) }()
	identity, err := opened.Identity(t.Context())
	require.NoError(t, err)
	require.Equal(t, "7", identity)
	require.Equal(t, 1, entries.FilterMessage("source runs a version of etcd with known faults").Len())
	require.Equal(t, 1, entries.FilterMessage("sink runs a version of etcd with known faults").Len())
	_, err = opened.Identity(t.Context())
	require.NoError(t, err)
	require.Len(t, entries.All(), 2, "said once")
}

// What the API could not see while nothing answered is seen here: by cluster id, whatever the hosts are called.
func TestLoopsAreSeenByClusterID(t *testing.T) {
	one, two := serveOld(t, "3.7.3"), serveOld(t, "3.7.3") // two addresses, one cluster id
	for name, tc := range map[string]struct {
		control, source, sink string
		loop                  bool
	}{
		"overlap":                 {"1", "/orders/", "/orders/copy/", true},
		"beside each other":       {"1", "/orders/", "/copy/", false},
		"claims in the source":    {"1", "/", "/copy/", true},
		"records as source":       {"7", "/cdc/default/", "/copy/", true},
		"records in the source":   {"7", "/orders/", "/copy/", false},
		"sink among the records":  {"7", "/orders/", "/cdc/default/x/", true},
		"someone else's records":  {"1", "/cdc/default/", "/copy/", false},
		"a sink over the records": {"7", "/orders/", "/cd", true},
	} {
		o := newOpener(tc.control, Config{}, zap.NewNop())
		opened, err := o.openSource(record.Spec{Source: "etcd://" + one + tc.source, Sink: "etcd://" + two + tc.sink}, maintainer.Ownership{})
		require.NoError(t, err)
		_, err = opened.Identity(t.Context())
		require.NoError(t, opened.Close())
		if !tc.loop {
			require.NoError(t, err, name)
			continue
		}
		fault := changefeed.AsFault(err, "")
		require.Equal(t, changefeed.CodeSinkLoop, fault.Code, name)
		require.True(t, fault.Permanent, name)
		require.NotEmpty(t, fault.Cure, name)
	}
}
