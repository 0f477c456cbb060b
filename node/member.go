package node

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"time"

	"go.etcd.io/etcd/client/pkg/v3/transport"
	"go.etcd.io/etcd/pkg/v3/featuregate"
	"go.etcd.io/etcd/server/v3/embed"
	"go.etcd.io/etcd/server/v3/features"
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
	member, err := launchMember(ctx, settings)
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
		closeUnready(member)
		return nil, fmt.Errorf("node: embedded etcd: %w", err)
	case <-ctx.Done():
		closeUnready(member)
		return nil, fmt.Errorf("node: the embedded etcd was not ready in time, as when no majority of its members runs or they refuse each other's certificates: %w",
			context.Cause(ctx))
	}
}

// launchMember starts a member, and waits for that no longer than ctx: it would wait without end for another process that
// has its database open.
func launchMember(ctx context.Context, settings *embed.Config) (*embed.Etcd, error) {
	type launch struct {
		member *embed.Etcd
		err    error
	}
	launched := make(chan launch, 1)
	go func() {
		member, err := embed.StartEtcd(settings)
		launched <- launch{member, err}
	}()
	select {
	case l := <-launched:
		return l.member, l.err
	case <-ctx.Done():
	}
	go func() { // it comes to its end when the database is free
		if l := <-launched; l.err == nil {
			closeUnready(l.member)
		}
	}()
	return nil, fmt.Errorf("it does not come to serve, as when another process has %s open: %w", settings.Dir, context.Cause(ctx))
}

// closeUnready ends a member that may not be ready. Close alone waits for servers that wait until the member is ready.
func closeUnready(member *embed.Etcd) {
	member.Server.Stop()
	member.Close()
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
	if err := memberTLS(config, settings); err != nil {
		return nil, err
	}
	if err := memberSource(settings); err != nil {
		return nil, err
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

// memberSource has the member dial the others from the address that it listens on and says it has. They compare the address
// that a connection comes from with the certificate's, and a machine with several would take whichever is nearest.
func memberSource(settings *embed.Config) error {
	if settings.ListenPeerUrls[0].Hostname() != settings.AdvertisePeerUrls[0].Hostname() {
		return nil // the address may be another machine's, as behind a translation
	}
	gate, ok := settings.ServerFeatureGate.(featuregate.MutableFeatureGate)
	if !ok {
		return fmt.Errorf("node: embedded etcd: its features can't be set in a %T", settings.ServerFeatureGate)
	}
	if err := gate.SetFromMap(map[string]bool{string(features.SetMemberLocalAddr): true}); err != nil {
		return fmt.Errorf("node: embedded etcd: %w", err)
	}
	return nil
}

// memberTLS has the member serve its clients and its peers over TLS where --etcd-cert names a certificate, which must be
// good for a server and for a client, and refuses a member that is open beyond this machine. With --etcd-ca whoever
// connects must show a certificate of that authority.
func memberTLS(config Config, settings *embed.Config) error {
	refuse := func(flag, value, detail, cure string) error {
		return &changefeed.Fault{Code: changefeed.CodeRequestInvalid, Field: flag, Value: value, Detail: detail, Cure: cure}
	}
	files, scheme := config.EtcdTLS, "http"
	if files.Enabled() {
		scheme = "https"
		if files.Cert == "" {
			return refuse("--etcd-cert, --etcd-key", "", "are needed where the embedded etcd is to serve over TLS", "give both files")
		}
		if _, err := files.files().Both(); err != nil {
			return etcdTLSFault(err)
		}
		info := transport.TLSInfo{
			CertFile: files.Cert, KeyFile: files.Key, TrustedCAFile: files.CA, ClientCertAuth: files.CA != "", Logger: settings.GetLogger(),
		}
		settings.ClientTLSInfo, settings.PeerTLSInfo = info, info
	}
	for flag, urls := range map[string][]url.URL{
		"--etcd-listen-client": settings.ListenClientUrls, "--etcd-listen-peer": settings.ListenPeerUrls,
	} {
		one := urls[0]
		if one.Scheme != scheme {
			return refuse(flag, one.String(), "must be "+scheme+"://", "with --etcd-cert give https URLs, without it http ones")
		}
		if scheme == "http" && !loopback(one.Host) && !config.AllowOpenAPI {
			return refuse(flag, one.String(), "listens beyond loopback without TLS, so that anybody could change the records",
				"give --etcd-cert, --etcd-key and --etcd-ca, or --allow-open-api if the network is closed")
		}
	}
	return nil
}
