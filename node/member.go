package node

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/server/v3/embed"
	"go.uber.org/zap"

	"fencerow/changefeed"
)

// Bounds of the embedded member, so that a store full of history never stops the cluster.
const (
	memberQuotaBytes       = 8 << 30
	memberCompaction       = "1h" // of history is kept
	memberCompactionMode   = "periodic"
	memberMaxRequestBytes  = 1536 * 1024
	memberDirectory        = "etcd"
	memberDirectoryPrivate = 0o700
)

// startMember starts the embedded etcd member and waits until it serves. The caller closes it once.
func startMember(ctx context.Context, config Config, log *zap.Logger) (*embed.Etcd, error) {
	settings, err := memberSettings(config)
	if err != nil {
		return nil, err
	}
	settings.ZapLoggerBuilder = embed.NewZapLoggerBuilder(log)
	if err := os.MkdirAll(settings.Dir, memberDirectoryPrivate); err != nil {
		return nil, fmt.Errorf("node: data directory of the embedded etcd: %w", err)
	}
	member, err := embed.StartEtcd(settings)
	if err != nil {
		return nil, &changefeed.Fault{
			Code: changefeed.CodeEtcdUnreachable, Field: "embedded etcd", Detail: "did not start",
			Cure: "see that " + config.Member.ListenClient + " and " + config.Member.ListenPeer + " are free, or give --etcd", Err: err,
		}
	}
	select {
	case <-member.Server.ReadyNotify():
		return member, nil
	case err := <-member.Err():
		member.Close()
		return nil, fmt.Errorf("node: embedded etcd: %w", err)
	case <-ctx.Done():
		member.Close()
		return nil, fmt.Errorf("node: the embedded etcd was not ready in time, as when no majority of its members runs: %w",
			context.Cause(ctx))
	}
}

func memberSettings(config Config) (*embed.Config, error) {
	settings := embed.NewConfig()
	settings.Name = config.Name
	settings.Dir = filepath.Join(config.DataDir, memberDirectory)
	settings.QuotaBackendBytes = memberQuotaBytes
	settings.MaxRequestBytes = memberMaxRequestBytes
	settings.AutoCompactionMode = memberCompactionMode
	settings.AutoCompactionRetention = memberCompaction
	settings.ClusterState = config.Member.InitialClusterState
	settings.InitialClusterToken = "fencerow-" + config.Cluster
	// A restart of a node must not wait for long elections: the member's own timing stays at its defaults.
	settings.WatchProgressNotifyInterval = time.Second
	for _, one := range []struct {
		flag, text string
		target     *[]url.URL
	}{
		{"--etcd-listen-client", config.Member.ListenClient, &settings.ListenClientUrls},
		{"--etcd-advertise-client", config.Member.AdvertiseClient, &settings.AdvertiseClientUrls},
		{"--etcd-listen-peer", config.Member.ListenPeer, &settings.ListenPeerUrls},
		{"--etcd-advertise-peer", config.Member.AdvertisePeer, &settings.AdvertisePeerUrls},
	} {
		parsed, err := url.Parse(one.text)
		if err != nil || parsed.Host == "" {
			return nil, &changefeed.Fault{
				Code: changefeed.CodeRequestInvalid, Field: one.flag, Value: fmt.Sprintf("%.140q", one.text),
				Detail: "is not a URL", Cure: "give one such as http://127.0.0.1:2379", Err: err,
			}
		}
		*one.target = []url.URL{*parsed}
	}
	settings.InitialCluster = config.Member.InitialCluster
	if settings.InitialCluster == "" {
		settings.InitialCluster = settings.InitialClusterFromName(config.Name)
	}
	return settings, nil
}

// memberEndpoint returns where the embedded member is reached.
func memberEndpoint(member *embed.Etcd) string {
	return member.Clients[0].Addr().String()
}
