package node

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"fencerow/certs"
	"fencerow/changefeed"
	"fencerow/trace/otlp"
)

// Defaults of a node.
const (
	DefaultCluster        = "default"
	DefaultDataDir        = "./cdc-data"
	DefaultHTTPAddr       = "127.0.0.1:8300"
	DefaultPeerAddr       = "127.0.0.1:8301"
	DefaultSessionTTL     = 5 * time.Second
	DefaultStatusInterval = time.Second
	DefaultStartTimeout   = 60 * time.Second
	DefaultStopTimeout    = 30 * time.Second
	DefaultEtcdClientURL  = "http://127.0.0.1:2379" // of the embedded member; with --etcd-cert https
	DefaultEtcdPeerURL    = "http://127.0.0.1:2380"

	sessionTTLMin     = 2 * time.Second
	sessionTTLMax     = 10 * time.Minute
	statusIntervalMin = 100 * time.Millisecond
	// A shorter one would bump over owners that are about to answer; a longer one would hold up what was asked for.
	handoffTimeoutMin = 500 * time.Millisecond
	handoffTimeoutMax = 10 * time.Minute
)

// TLSFiles names PEM files. All empty is no TLS.
type TLSFiles struct {
	Cert string
	Key  string
	CA   string
}

// Enabled reports whether any file is named.
func (t TLSFiles) Enabled() bool { return t != TLSFiles{} }

func (t TLSFiles) files() certs.Files { return certs.Files{CA: t.CA, Cert: t.Cert, Key: t.Key} }

// Member configures the embedded etcd member. Empty fields take the defaults.
type Member struct {
	ListenClient        string // URL
	AdvertiseClient     string // URL
	ListenPeer          string // URL
	AdvertisePeer       string // URL
	InitialCluster      string // name=URL, comma-separated; empty: this member alone
	InitialClusterState string // new or existing
}

// Config is what a node is started with, one field for each flag of `cdc-node server`. The zero value of a field
// takes its default.
type Config struct {
	Name    string // stable name; default: the host name
	Cluster string

	Etcd             []string // endpoints; empty: embedded
	Member           Member
	EtcdTLS          TLSFiles
	EtcdUser         string
	EtcdPasswordFile string
	AllowOldEtcd     bool

	DataDir       string
	HTTPAddr      string
	PeerAddr      string
	AdvertiseHTTP string
	AdvertisePeer string
	TLS           TLSFiles // peer and HTTP
	HTTPTokenFile string
	HTTPHosts     []string // names that this node goes by beside its addresses and what it advertises
	AllowOpenAPI  bool

	SessionTTL     time.Duration
	StatusInterval time.Duration
	StartTimeout   time.Duration
	StopTimeout    time.Duration
	HandoffTimeout time.Duration // 0: 2 × SessionTTL

	AllowLiteralSecrets bool

	// TraceEndpoint is the URL of an OTLP collector; empty: $OTEL_EXPORTER_OTLP_TRACES_ENDPOINT, then
	// $OTEL_EXPORTER_OTLP_ENDPOINT, and traces are off if there is none.
	TraceEndpoint string

	LogLevel  string
	LogFormat string // console or json; empty: console on a terminal
	Version   string

	// Stdout takes the lines of stdout: sinks; Stderr takes the log. Defaults: the process's own.
	Stdout io.Writer
	Stderr io.Writer
}

// withDefaults returns the configuration with every empty field filled.
func (c Config) withDefaults() (Config, error) {
	if c.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			return c, fmt.Errorf("find the host name: %w; give --name", err)
		}
		c.Name = host
	}
	c.Cluster = cmp.Or(c.Cluster, DefaultCluster)
	c.DataDir = cmp.Or(c.DataDir, DefaultDataDir)
	c.HTTPAddr = cmp.Or(c.HTTPAddr, DefaultHTTPAddr)
	c.PeerAddr = cmp.Or(c.PeerAddr, DefaultPeerAddr)
	c.SessionTTL = cmp.Or(c.SessionTTL, DefaultSessionTTL)
	c.StatusInterval = cmp.Or(c.StatusInterval, DefaultStatusInterval)
	c.StartTimeout = cmp.Or(c.StartTimeout, DefaultStartTimeout)
	c.StopTimeout = cmp.Or(c.StopTimeout, DefaultStopTimeout)
	c.Member.ListenClient = c.memberURL(c.Member.ListenClient, DefaultEtcdClientURL)
	c.Member.AdvertiseClient = cmp.Or(c.Member.AdvertiseClient, c.Member.ListenClient)
	c.Member.ListenPeer = c.memberURL(c.Member.ListenPeer, DefaultEtcdPeerURL)
	c.Member.AdvertisePeer = cmp.Or(c.Member.AdvertisePeer, c.Member.ListenPeer)
	c.Member.InitialClusterState = cmp.Or(c.Member.InitialClusterState, "new")
	c.LogLevel = cmp.Or(c.LogLevel, "info")
	c.Version = cmp.Or(c.Version, "dev")
	c.TraceEndpoint = cmp.Or(c.TraceEndpoint, os.Getenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"), os.Getenv("OTEL_EXPORTER_OTLP_ENDPOINT"))
	if c.Stdout == nil {
		c.Stdout = os.Stdout
	}
	if c.Stderr == nil {
		c.Stderr = os.Stderr
	}
	absolute, err := filepath.Abs(c.DataDir)
	if err != nil {
		return c, fmt.Errorf("data directory %q: %w", c.DataDir, err)
	}
	c.DataDir = absolute
	return c, nil
}

// memberURL returns a URL of the embedded member; a default one is of the scheme that the member serves.
func (c Config) memberURL(given, preset string) string {
	url := cmp.Or(given, preset)
	if url == preset && c.EtcdTLS.Enabled() {
		return strings.Replace(preset, "http://", "https://", 1)
	}
	return url
}

// validate returns every fault of the configuration at once, each naming the flag, the value and the cure.
func (c Config) validate() error {
	var faults []error
	refuse := func(flag, value, detail, cure string) {
		faults = append(faults, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "--" + flag, Value: value, Detail: detail, Cure: cure,
		})
	}
	for flag, word := range map[string]string{"name": c.Name, "cluster": c.Cluster} {
		if err := (changefeed.ID{Namespace: changefeed.DefaultNamespace, Name: word}).Validate(); err != nil {
			refuse(flag, fmt.Sprintf("%.140q", word), "is not a name", "use letters, digits, - and _, at most 128")
		}
	}
	if c.SessionTTL < sessionTTLMin || c.SessionTTL > sessionTTLMax {
		refuse("session-ttl", c.SessionTTL.String(), "is out of bounds",
			fmt.Sprintf("give at least %v and at most %v", sessionTTLMin, sessionTTLMax))
	}
	if c.StatusInterval < statusIntervalMin {
		refuse("status-interval", c.StatusInterval.String(), "is too short", fmt.Sprintf("give at least %v", statusIntervalMin))
	}
	if c.StopTimeout <= 0 || c.StartTimeout <= 0 {
		refuse("start-timeout, --stop-timeout", "", "must be positive", "give a duration such as 30s")
	}
	if c.HandoffTimeout != 0 && (c.HandoffTimeout < handoffTimeoutMin || c.HandoffTimeout > handoffTimeoutMax) {
		refuse("handoff-timeout", c.HandoffTimeout.String(), "is out of bounds",
			fmt.Sprintf("give at least %v and at most %v, or nothing for twice the session TTL", handoffTimeoutMin, handoffTimeoutMax))
	}
	for flag, addr := range map[string]string{"http-addr": c.HTTPAddr, "peer-addr": c.PeerAddr} {
		if _, _, err := net.SplitHostPort(addr); err != nil {
			refuse(flag, fmt.Sprintf("%.140q", addr), "is not host:port", "give an address such as 127.0.0.1:8300")
		}
	}
	for _, endpoint := range c.Etcd {
		if !validEndpoint(endpoint) {
			refuse("etcd", fmt.Sprintf("%.140q", endpoint), "is not an endpoint", "give endpoints such as 10.0.0.5:2379, separated by commas")
		}
	}
	if !loopback(c.HTTPAddr) && c.HTTPTokenFile == "" && !c.AllowOpenAPI {
		refuse("http-addr", c.HTTPAddr, "listens beyond loopback without authentication",
			"give --http-token-file, or --allow-open-api if the network is closed")
	}
	if !loopback(c.PeerAddr) && !c.TLS.Enabled() && !c.AllowOpenAPI {
		refuse("peer-addr", c.PeerAddr, "listens beyond loopback without TLS, so that anybody could act as a node",
			"give --tls-cert, --tls-key and --tls-ca, or --allow-open-api if the network is closed")
	}
	if c.TLS.Enabled() && (c.TLS.Cert == "" || c.TLS.Key == "" || c.TLS.CA == "") {
		refuse("tls-cert, --tls-key, --tls-ca", "", "must be given together", "give all three files")
	}
	if c.TLS.Enabled() && len(c.Etcd) == 0 && (c.EtcdTLS.Cert == "" || c.EtcdTLS.CA == "") {
		refuse("etcd-cert, --etcd-key, --etcd-ca", "", "are missing: with TLS the embedded etcd must not listen in plain text",
			"give a certificate that names the addresses of the embedded member, or an etcd of your own with --etcd")
	}
	if (c.EtcdTLS.Cert == "") != (c.EtcdTLS.Key == "") {
		refuse("etcd-cert, --etcd-key", "", "must be given together", "give both files")
	}
	if c.TraceEndpoint != "" {
		if err := otlp.Check(c.TraceEndpoint); err != nil {
			refuse("trace-endpoint", fmt.Sprintf("%.140q", c.TraceEndpoint), err.Error(), "give https://host:4317, or http:// on loopback")
		}
	}
	if state := c.Member.InitialClusterState; state != "new" && state != "existing" {
		refuse("etcd-initial-cluster-state", state, "is not a state", "give new or existing")
	}
	return errors.Join(faults...)
}

// validEndpoint takes host:port, and http://host:port or https://host:port.
func validEndpoint(endpoint string) bool {
	scheme, rest, found := strings.Cut(endpoint, "://")
	if !found {
		rest = endpoint
	} else if scheme != "http" && scheme != "https" {
		return false
	}
	host, port, err := net.SplitHostPort(strings.TrimSuffix(rest, "/"))
	number, numberErr := strconv.ParseUint(port, 10, 16)
	return err == nil && numberErr == nil && host != "" && number > 0
}

// loopback reports whether the address is only reachable from this machine.
func loopback(addr string) bool {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return false
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}
