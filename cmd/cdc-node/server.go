package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"sigs.k8s.io/yaml"

	"fencerow/node"
)

func newServer() *cobra.Command {
	var config node.Config
	var path string
	cmd := &cobra.Command{
		Use: "server", Short: "Run a node of a cluster", Args: cobra.NoArgs,
		Long: "Run a node of a cluster. Each flag can also be given in the YAML file of --config, without the dashes, and as an\n" +
			"environment variable, as in CDC_NODE_HTTP_ADDR. The command line goes before the environment, and that before the file.",
		Example: "  cdc-node server --name n1 --etcd 10.0.0.1:2379,10.0.0.2:2379,10.0.0.3:2379 --data-dir /var/lib/cdc-node",
		PreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := readEnv(cmd.Flags(), os.LookupEnv); err != nil {
				return err
			}
			return readConfig(cmd.Flags(), path)
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			config.Version = version
			keepGarbage()
			return node.Run(ctx, config)
		},
	}
	cmd.Flags().StringVar(&path, "config", "", "YAML file with any of these flags")
	serverFlags(cmd.Flags(), &config)
	return cmd
}

// serverFlags has a flag for each field of the configuration.
func serverFlags(f *pflag.FlagSet, c *node.Config) {
	f.StringVar(&c.Name, "name", "", "the stable name of the node (default: the host name)")
	f.StringVar(&c.Cluster, "cluster", node.DefaultCluster, "records live under /cdc/<cluster>/")
	f.StringSliceVar(&c.Etcd, "etcd", nil, "comma-separated etcd endpoints; empty: an embedded member")
	f.StringVar(&c.Member.ListenClient, "etcd-listen-client", node.DefaultEtcdClientURL, "embedded member: URL for clients")
	f.StringVar(&c.Member.AdvertiseClient, "etcd-advertise-client", "", "embedded member: what clients dial (default: the listen URL)")
	f.StringVar(&c.Member.ListenPeer, "etcd-listen-peer", node.DefaultEtcdPeerURL, "embedded member: URL for other members")
	f.StringVar(&c.Member.AdvertisePeer, "etcd-advertise-peer", "", "embedded member: what other members dial (default: the listen URL)")
	f.StringVar(&c.Member.InitialCluster, "etcd-initial-cluster", "", "embedded member: name=URL, comma-separated (default: this one alone)")
	f.StringVar(&c.Member.InitialClusterState, "etcd-initial-cluster-state", "new", "embedded member: new or existing")
	f.StringVar(&c.DataDir, "data-dir", node.DefaultDataDir, "everything that this node keeps")
	f.StringVar(&c.HTTPAddr, "http-addr", node.DefaultHTTPAddr, "API, metrics and health")
	f.StringVar(&c.PeerAddr, "peer-addr", node.DefaultPeerAddr, "gRPC between nodes")
	f.StringVar(&c.AdvertiseHTTP, "advertise-http", "", "what other nodes dial (default: the listen address)")
	f.StringVar(&c.AdvertisePeer, "advertise-peer", "", "what other nodes dial (default: the listen address)")
	f.DurationVar(&c.SessionTTL, "session-ttl", node.DefaultSessionTTL, "how long a node that is gone is waited for; at least 2s")
	f.DurationVar(&c.StatusInterval, "status-interval", node.DefaultStatusInterval, "how often a changed status is stored")
	f.DurationVar(&c.StartTimeout, "start-timeout", node.DefaultStartTimeout, "how long starting may take")
	f.DurationVar(&c.StopTimeout, "stop-timeout", node.DefaultStopTimeout, "how long a clean stop may take")
	f.DurationVar(&c.HandoffTimeout, "handoff-timeout", 0,
		"how long an owner that is asked to release may take before it is bumped over; the coordinator's counts (default: twice the session TTL)")
	f.BoolVar(&c.AllowOldEtcd, "allow-old-etcd", false, "run on an etcd below 3.6.14, or 3.7.0")
	f.BoolVar(&c.AllowLiteralSecrets, "allow-literal-secrets", false, "take URIs with a password written out")
	f.BoolVar(&c.AllowOpenAPI, "allow-open-api", false, "listen beyond loopback without --http-token-file")
	f.StringVar(&c.TraceEndpoint, "trace-endpoint", "", "URL of an OpenTelemetry collector (OTLP over gRPC) for traces of takeovers (default: the one in\n"+
		"$OTEL_EXPORTER_OTLP_ENDPOINT, else none)")
	f.StringVar(&c.LogLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&c.LogFormat, "log-format", "", "console or json (default: console on a terminal)")
	f.StringVar(&c.TLS.Cert, "tls-cert", "", "PEM file of the certificate, for peers and HTTP")
	f.StringVar(&c.TLS.Key, "tls-key", "", "PEM file of its key")
	f.StringVar(&c.TLS.CA, "tls-ca", "", "PEM file of the authority that signs the nodes' certificates")
	f.StringVar(&c.EtcdTLS.Cert, "etcd-cert", "", "PEM file of the client certificate for etcd")
	f.StringVar(&c.EtcdTLS.Key, "etcd-key", "", "PEM file of its key")
	f.StringVar(&c.EtcdTLS.CA, "etcd-ca", "", "PEM file of the authority that signed etcd's certificate")
	f.StringVar(&c.EtcdUser, "etcd-user", "", "user of etcd")
	f.StringVar(&c.EtcdPasswordFile, "etcd-password-file", "", "file with its password")
	f.StringSliceVar(&c.HTTPHosts, "http-hosts", nil, "names in URLs that this node answers to, beside its addresses and what it advertises")
	f.StringVar(&c.HTTPTokenFile, "http-token-file", "", "bearer tokens, one role:token a line; roles admin and viewer")
}

// readConfig gives each flag that wasn't given the value of the file. Unknown names are refused: they are misspelt.
func readConfig(flags *pflag.FlagSet, path string) error {
	if path == "" {
		return nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return usageError{fmt.Errorf("--config: %w", err)}
	}
	var values map[string]any
	if err := yaml.UnmarshalStrict(bytes.TrimSpace(data), &values); err != nil {
		return usageError{fmt.Errorf("--config %s: %w", path, err)}
	}
	var faults []error
	for name, value := range values {
		flag := flags.Lookup(name)
		if flag == nil || name == "config" {
			faults = append(faults, fmt.Errorf("%s is not a flag of cdc-node server", name))
			continue
		}
		if flag.Changed {
			continue
		}
		if err := flags.Set(name, plain(value)); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return usageError{fmt.Errorf("--config %s: %w", path, errors.Join(faults...))}
	}
	return nil
}

// plain writes a value of YAML as it would be on a command line.
func plain(value any) string {
	list, isList := value.([]any)
	if !isList {
		return fmt.Sprint(value)
	}
	words := make([]string, len(list))
	for i, one := range list {
		words[i] = fmt.Sprint(one)
	}
	return strings.Join(words, ",")
}
