package integration

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// secureAlone starts a node with an embedded etcd, with TLS and tokens on.
func secureAlone(t *testing.T, a *authority) *server {
	t.Helper()
	cert, key := a.issue("alone")
	tokens := filepath.Join(a.dir, "tokens")
	require.NoError(t, os.WriteFile(tokens, []byte("admin:"+tokenSecret+"\n"), 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(a.dir, "token"), []byte(tokenSecret+"\n"), 0o600))
	s := &server{name: "alone", http: freeAddr(t)}
	client, peer := "https://"+freeAddr(t), "https://"+freeAddr(t)
	s.args = []string{
		"server", "--name", s.name, "--http-addr", s.http, "--peer-addr", freeAddr(t), "--data-dir", t.TempDir(), "--log-format", "json",
		"--etcd-listen-client", client, "--etcd-listen-peer", peer, "--etcd-cert", cert, "--etcd-key", key, "--etcd-ca", a.ca,
		"--tls-cert", cert, "--tls-key", key, "--tls-ca", a.ca, "--http-token-file", tokens,
	}
	s.process = start(t, s.name, s.args...)
	eventually(t, "alone is ready", func() error {
		if !s.Alive() {
			t.Fatalf("it ended: %s", s.Output.Last(20))
		}
		if out := cli(t, "health", "--url", "https://"+s.http, "--tls-ca", a.ca); out.code != 0 {
			return fmt.Errorf("%s", out.stderr)
		}
		return nil
	})
	return s
}

// listening returns the ports that a process listens on, as the kernel says.
func listening(t *testing.T, pid int) []int {
	t.Helper()
	mine := map[string]bool{}
	links, err := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", pid))
	require.NoError(t, err)
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil {
			mine[strings.TrimSuffix(strings.TrimPrefix(target, "socket:["), "]")] = true
		}
	}
	var ports []int
	for _, table := range []string{"/proc/net/tcp", "/proc/net/tcp6"} {
		text, err := os.ReadFile(table)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			const local, state, inode, listen = 1, 3, 9, "0A"
			fields := strings.Fields(line)
			if len(fields) <= inode || fields[state] != listen || !mine[fields[inode]] {
				continue
			}
			_, hex, _ := strings.Cut(fields[local], ":")
			port, err := strconv.ParseUint(hex, 16, 16)
			require.NoError(t, err)
			ports = append(ports, int(port))
		}
	}
	return ports
}

// With TLS and tokens on no port of the process answers anything useful to a stranger, who has neither a certificate nor
// a token, but trusts everybody.
func TestNoPortAnswersAStranger(t *testing.T) {
	a := newAuthority(t)
	s := secureAlone(t, a)
	ports := listening(t, s.Cmd.Process.Pid)
	require.GreaterOrEqual(t, len(ports), 4, "HTTP, peers, and two of the embedded etcd")
	stranger := &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{
		TLSClientConfig: &tls.Config{InsecureSkipVerify: true}, DisableKeepAlives: true, //nolint:gosec // a stranger who trusts everybody
	}}
	_, api, err := net.SplitHostPort(s.http)
	require.NoError(t, err)
	for _, port := range ports {
		at := "127.0.0.1:" + strconv.Itoa(port)
		for _, path := range []string{
			"/api/v1/cluster", "/api/v1/changefeeds", "/api/v1/check", "/api/v1/debug/dump", "/api/v1/events", "/api/v1/openapi.json", "/metrics",
			"/debug/pprof/", "/version", "/health", "/members", "/v2/keys", "/v3/kv/range", "/healthz",
		} {
			for _, scheme := range []string{"http", "https"} {
				response, err := stranger.Get(scheme + "://" + at + path)
				if err != nil {
					continue // it does not even speak to us
				}
				body, err := io.ReadAll(response.Body)
				require.NoError(t, err)
				require.NoError(t, response.Body.Close())
				what := fmt.Sprintf("%s://%s%s says %d %s", scheme, at, path, response.StatusCode, body)
				if strconv.Itoa(port) != api {
					require.Equal(t, http.StatusBadRequest, response.StatusCode, what) // that plain text was sent to TLS
					continue
				}
				if scheme == "https" && path == "/healthz" {
					require.JSONEq(t, `{"status":"ok"}`, string(body))
					continue
				}
				require.Contains(t, []int{http.StatusBadRequest, http.StatusUnauthorized, http.StatusNotFound}, response.StatusCode, what)
			}
		}
		client, err := clientv3.New(clientv3.Config{
			Endpoints: []string{"https://" + at}, Logger: zap.NewNop(),
			TLS: &tls.Config{InsecureSkipVerify: true}, //nolint:gosec // a stranger who trusts everybody
		})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		_, err = client.Get(ctx, "/cdc/", clientv3.WithPrefix())
		cancel()
		require.Error(t, err, at)
		_ = client.Close()
	}
}

// A certificate that was renewed in place is shown to who connects next; one that is half written changes nothing.
func TestCertificatesAreReadAgain(t *testing.T) {
	a := newAuthority(t)
	s := secureAlone(t, a)
	shown := func() string {
		connection, err := tls.Dial("tcp", s.http, a.client(""))
		require.NoError(t, err)
		defer func() { _ = connection.Close() }()
		return connection.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	require.Equal(t, "alone", shown())
	cert, key := filepath.Join(a.dir, "alone.pem"), filepath.Join(a.dir, "alone-key.pem")
	require.NoError(t, os.WriteFile(cert, []byte("-----BEGIN CERT"), 0o600))
	require.Equal(t, "alone", shown(), "half written")
	freshCert, freshKey := a.issue("renewed", "alone")
	require.NoError(t, os.Rename(freshKey, key))
	require.NoError(t, os.Rename(freshCert, cert))
	eventually(t, "the renewed certificate is shown", func() error {
		if name := shown(); name != "renewed" {
			return fmt.Errorf("it is %s", name)
		}
		return nil
	})
	must(t, "changefeed", "list", "--server", "https://"+s.http, "--tls-ca", a.ca, "--token-file", filepath.Join(a.dir, "token"))
}

// TLS for the API and an embedded etcd in plain text is a door beside the gate.
func TestAnEmbeddedEtcdInPlainTextIsRefusedUnderTLS(t *testing.T) {
	a := newAuthority(t)
	cert, key := a.issue("alone")
	refused(t, 2, []string{"--etcd-cert", "embedded etcd"}, "server", "--data-dir", t.TempDir(), "--http-addr", freeAddr(t), "--peer-addr", freeAddr(t),
		"--tls-cert", cert, "--tls-key", key, "--tls-ca", a.ca)
}
