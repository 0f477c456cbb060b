package integration

import (
	"archive/zip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
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

// authority signs certificates for this machine.
type authority struct {
	t    *testing.T
	dir  string
	ca   string // PEM file
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	a := &authority{t: t, dir: t.TempDir()}
	var err error
	a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test authority"}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &a.key.PublicKey, a.key)
	require.NoError(t, err)
	a.cert, err = x509.ParseCertificate(der)
	require.NoError(t, err)
	a.ca = a.write("ca.pem", "CERTIFICATE", der)
	return a
}

func (a *authority) write(name, kind string, der []byte) string {
	a.t.Helper()
	path := filepath.Join(a.dir, name)
	require.NoError(a.t, os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600))
	return path
}

// issue returns the PEM files of a certificate for loopback and the node of a name, good for both ends of a connection.
func (a *authority) issue(name string, also ...string) (cert, key string) {
	a.t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(a.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature, DNSNames: append(also, name, "localhost"),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &private.PublicKey, a.key)
	require.NoError(a.t, err)
	keyDER, err := x509.MarshalECPrivateKey(private)
	require.NoError(a.t, err)
	return a.write(name+".pem", "CERTIFICATE", der), a.write(name+"-key.pem", "EC PRIVATE KEY", keyDER)
}

// client is the TLS configuration of somebody who trusts the authority; with a certificate unless name is empty.
func (a *authority) client(name string) *tls.Config {
	a.t.Helper()
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	config := &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
	if name != "" {
		cert, key := a.issue(name)
		pair, err := tls.LoadX509KeyPair(cert, key)
		require.NoError(a.t, err)
		config.Certificates = []tls.Certificate{pair}
	}
	return config
}

const (
	rootPassword = "root-s3cret-0"
	dataPassword = "p@ss/w:rd-s3cret-1?#"
	tokenSecret  = "t0ken-s3cret-2"
)

// startSecureEtcd starts an etcd with TLS that asks for certificates, and with users: root, and one that may only use its
// prefixes. Its tokens live for seconds only.
func startSecureEtcd(t *testing.T, a *authority, name, user string, prefixes ...string) *member {
	t.Helper()
	client, peer := freeAddr(t), freeAddr(t)
	cert, key := a.issue("etcd-" + name)
	m := &member{endpoint: client}
	m.process = start(t, "etcd "+name, "etcd", "--name", name, "--data-dir", filepath.Join(t.TempDir(), "etcd"),
		"--listen-client-urls", "https://"+client, "--advertise-client-urls", "https://"+client,
		"--listen-peer-urls", "http://"+peer, "--initial-advertise-peer-urls", "http://"+peer,
		"--initial-cluster", name+"=http://"+peer, "--log-level", "error", "--unsafe-no-fsync", "--auth-token-ttl", "3",
		"--cert-file", cert, "--key-file", key, "--trusted-ca-file", a.ca, "--client-cert-auth")
	dial := func(user, password string) *clientv3.Client {
		made, err := clientv3.New(clientv3.Config{
			Endpoints: []string{"https://" + client}, Logger: zap.NewNop(), TLS: a.client("test"), Username: user, Password: password,
		})
		require.NoError(t, err)
		t.Cleanup(func() { _ = made.Close() })
		return made
	}
	open := dial("", "")
	eventually(t, "etcd "+name+" answers", func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := open.Get(ctx, "ready")
		return err
	})
	ctx := t.Context()
	var err error
	do := func(_ any, failed error) { require.NoError(t, failed) }
	do(open.UserAdd(ctx, "root", rootPassword))
	do(open.UserGrantRole(ctx, "root", "root"))
	do(open.UserAdd(ctx, user, dataPassword))
	do(open.RoleAdd(ctx, "data"))
	for _, prefix := range prefixes {
		kind := clientv3.PermReadWrite
		if rest, found := strings.CutPrefix(prefix, "read "); found {
			prefix, kind = rest, clientv3.PermRead
		}
		do(open.RoleGrantPermission(ctx, "data", prefix, clientv3.GetPrefixRangeEnd(prefix), clientv3.PermissionType(kind)))
	}
	do(open.UserGrantRole(ctx, user, "data"))
	_, err = open.AuthEnable(ctx)
	require.NoError(t, err)
	m.client = dial("root", rootPassword)
	return m
}

// Everything with TLS and with passwords: the etcd of the records, source and target with users that may only use their
// prefixes and tokens that expire, peers and HTTP with certificates of one authority, and bearer tokens. No secret shows.
func TestSecuredCluster(t *testing.T) {
	a := newAuthority(t)
	// The permissions that docs/security.md names, and no others.
	control := startSecureEtcd(t, a, "control", "records", "/cdc/default/")
	clusterID := strconv.FormatUint(clusterOf(t, control), 16)
	data := startSecureEtcd(t, a, "data", "copier", "read /orders/", "/copy/", "/cdc-claims/"+clusterID+"/", "/cdc-claims/targets")
	password := filepath.Join(a.dir, "password")
	require.NoError(t, os.WriteFile(password, []byte(dataPassword+"\n"), 0o600))
	tokens := filepath.Join(a.dir, "tokens")
	require.NoError(t, os.WriteFile(tokens, []byte("# who may do what\nadmin:"+tokenSecret+"-admin\nviewer:"+tokenSecret+"-viewer\n"), 0o600))
	for _, role := range []string{"admin", "viewer"} {
		require.NoError(t, os.WriteFile(filepath.Join(a.dir, role), []byte(tokenSecret+"-"+role+"\n"), 0o600))
	}
	t.Setenv("COPIER_PASSWORD", dataPassword)
	clientCert, clientKey := a.issue("node-etcd")
	c := &nodes{t: t, etcd: control}
	for i := range 3 {
		s := &server{name: fmt.Sprintf("n%d", i+1), http: freeAddr(t)}
		cert, key := a.issue(s.name)
		s.args = []string{
			"server", "--name", s.name, "--etcd", control.endpoint, "--http-addr", s.http, "--peer-addr", freeAddr(t),
			"--session-ttl", sessionTTL.String(), "--data-dir", t.TempDir(), "--log-format", "json", "--log-level", "debug",
			"--etcd-ca", a.ca, "--etcd-cert", clientCert, "--etcd-key", clientKey, "--etcd-user", "records", "--etcd-password-file", password,
			"--tls-ca", a.ca, "--tls-cert", cert, "--tls-key", key, "--http-token-file", tokens,
		}
		c.all = append(c.all, s)
		s.process = start(t, s.name, s.args...)
	}
	web := &http.Client{Transport: &http.Transport{TLSClientConfig: a.client("")}, Timeout: 5 * time.Second}
	fetch := func(s *server, method, path, token string) (int, string) {
		request, err := http.NewRequestWithContext(t.Context(), method, "https://"+s.http+path, nil)
		require.NoError(t, err)
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		response, err := web.Do(request)
		if err != nil {
			return 0, err.Error()
		}
		defer func() { _ = response.Body.Close() }()
		body, err := io.ReadAll(response.Body)
		require.NoError(t, err)
		return response.StatusCode, string(body)
	}
	for _, s := range c.all {
		eventually(t, s.name+" is ready", func() error {
			if status, body := fetch(s, http.MethodGet, "/readyz", ""); status != http.StatusOK {
				return fmt.Errorf("it says %d %s", status, body)
			}
			return nil
		})
	}
	as := func(role string, i int, args ...string) []string {
		return append(args, "--server", "https://"+c.all[i].http, "--tls-ca", a.ca, "--token-file", filepath.Join(a.dir, role))
	}
	state := func(i int, name string) (feed, string, error) {
		out := cli(t, as("viewer", i, "changefeed", "get", name, "-o", "json")...)
		var f feed
		if out.code != 0 {
			return f, out.stderr, fmt.Errorf("exit %d: %s", out.code, out.stderr)
		}
		return f, out.stdout, json.Unmarshal([]byte(out.stdout), &f)
	}
	var seen strings.Builder // all that was shown
	create := []string{
		"changefeed", "create", "copy", "--start", "snapshot",
		"--source", "etcd://copier:${env:COPIER_PASSWORD}@" + data.endpoint + "/orders/",
		"--sink", "etcd://copier:${file:" + password + "}@" + data.endpoint + "/copy/",
		"--option", "tls_ca=" + a.ca, "--option", "tls_cert=" + clientCert, "--option", "tls_key=" + clientKey,
		"--option", "split_keys=/orders/g,/orders/q",
	}

	t.Run("roles", func(t *testing.T) {
		for _, tc := range []struct {
			method, path, token string
			status              int
			code                string
		}{
			{http.MethodGet, "/api/v1/changefeeds", "", http.StatusUnauthorized, "auth.required"},
			{http.MethodGet, "/api/v1/changefeeds", "guess", http.StatusUnauthorized, "auth.required"},
			{http.MethodGet, "/api/v1/changefeeds", tokenSecret + "-viewer", http.StatusOK, ""},
			{http.MethodPost, "/api/v1/changefeeds", tokenSecret + "-viewer", http.StatusForbidden, "auth.forbidden"},
			{http.MethodDelete, "/api/v1/changefeeds/default/copy", tokenSecret + "-viewer", http.StatusForbidden, "auth.forbidden"},
			{http.MethodGet, "/healthz", "", http.StatusOK, ""},
			{http.MethodGet, "/metrics", "", http.StatusUnauthorized, "auth.required"},
			{http.MethodGet, "/metrics", tokenSecret + "-viewer", http.StatusOK, ""},
		} {
			status, body := fetch(c.all[0], tc.method, tc.path, tc.token)
			require.Equal(t, tc.status, status, "%s %s: %s", tc.method, tc.path, body)
			require.Contains(t, body, tc.code)
		}
		refused(t, 1, []string{"auth.forbidden", "admin"}, as("viewer", 0, create...)...)
		refused(t, 1, []string{"auth.required", "--token-file"}, "changefeed", "list", "--server", "https://"+c.all[0].http, "--tls-ca", a.ca)
		refused(t, 3, []string{"certificate"}, "changefeed", "list", "--server", "https://"+c.all[0].http)
	})
	seen.WriteString(must(t, as("admin", 0, create...)...))
	running := func(i int) {
		eventually(t, "copy runs", func() error {
			f, text, err := state(i, "copy")
			seen.WriteString(text)
			if err == nil && f.State != "running" {
				err = fmt.Errorf("it is %s: %+v", f.State, f.Error)
			}
			return err
		})
	}
	arrives := func(key string) {
		_, err := data.client.Put(t.Context(), "/orders/"+key, key)
		require.NoError(t, err)
		eventually(t, key+" arrives", func() error {
			got, err := data.client.Get(t.Context(), "/copy/"+key)
			if err == nil && (got.Count != 1 || string(got.Kvs[0].Value) != key) {
				err = fmt.Errorf("it has not")
			}
			return err
		})
	}
	running(1)
	for _, key := range []string{"a", "h", "z"} { // one for each span, which are on three nodes
		arrives(key)
	}
	t.Run("tokens of etcd that expired", func(t *testing.T) {
		<-time.After(4 * time.Second) // above the life of a token; the pause is what is tested
		running(2)
		for _, key := range []string{"a2", "h2", "z2"} {
			arrives(key)
		}
	})
	t.Run("a takeover", func(t *testing.T) {
		f, _, err := state(0, "copy")
		require.NoError(t, err)
		left := 0
		for i, s := range c.all {
			if s.name == f.OwnerName {
				s.Kill()
			} else {
				left = i
			}
		}
		for _, key := range []string{"a3", "h3", "z3"} {
			arrives(key)
		}
		running(left)
		spans := must(t, as("viewer", left, "changefeed", "spans", "copy", "-o", "json")...)
		seen.WriteString(spans)
	})
	t.Run("a peer without a certificate is refused", func(t *testing.T) {
		for _, s := range c.all {
			addr := s.args[8]
			connection, err := tls.Dial("tcp", addr, a.client(""))
			if err != nil {
				continue // killed, or refused at once
			}
			require.NoError(t, connection.SetDeadline(time.Now().Add(10*time.Second)))
			_, err = connection.Read(make([]byte, 1)) // TLS 1.3 tells the client at its first read
			require.ErrorContains(t, err, "certificate required", addr)
			_ = connection.Close()
		}
	})
	t.Run("a wrong password", func(t *testing.T) {
		wrong := append([]string{}, create...)
		wrong[2] = "wrong"
		require.NoError(t, os.WriteFile(filepath.Join(a.dir, "wrong"), []byte("not-"+dataPassword), 0o600))
		wrong[6] = "etcd://copier:${file:" + filepath.Join(a.dir, "wrong") + "}@" + data.endpoint + "/orders/"
		wrong[8] = "blackhole:"
		i := 0
		for j, s := range c.all {
			if s.Alive() {
				i = j
			}
		}
		wrong[len(wrong)-1] = "retry_limit=1"
		must(t, as("admin", i, wrong...)...)
		eventually(t, "wrong retries", func() error {
			f, text, err := state(i, "wrong")
			seen.WriteString(text)
			if err == nil && (f.State != "retrying" || f.Error == nil || f.Error.Code != "source.unreachable" || !strings.Contains(f.Error.Message, "password")) {
				err = fmt.Errorf("it is %s: %+v", f.State, f.Error)
			}
			return err
		})
		_, metrics := fetch(c.all[i], http.MethodGet, "/metrics", tokenSecret+"-viewer")
		seen.WriteString(metrics)
	})
	for i, s := range c.all {
		if s.Alive() {
			seen.WriteString(everyAnswer(t, func(path string) (int, string) { return fetch(c.all[i], http.MethodGet, path, tokenSecret+"-admin") }))
		}
	}
	// Nothing that anybody can read has a secret.
	got, err := control.client.Get(t.Context(), "/cdc/", clientv3.WithPrefix())
	require.NoError(t, err)
	for _, kv := range got.Kvs {
		seen.Write(kv.Value)
	}
	claims, err := data.client.Get(t.Context(), "/cdc-claims/", clientv3.WithPrefix())
	require.NoError(t, err)
	for _, kv := range claims.Kvs {
		seen.Write(kv.Value)
	}
	for _, s := range c.all {
		seen.WriteString(s.Output.String())
	}
	for _, secret := range []string{"s3cret", rootPassword, dataPassword, tokenSecret} {
		require.NotContains(t, seen.String(), secret)
	}
	require.Contains(t, seen.String(), "${env:COPIER_PASSWORD}", "references are shown as they were written")
}

// everyAnswer is all that a node tells an admin, by the routes that its own document names: also the dump, unpacked, and the
// metrics.
func everyAnswer(t *testing.T, get func(path string) (int, string)) string {
	t.Helper()
	var all strings.Builder
	_, text := get("/api/v1/openapi.json")
	var document struct {
		Paths map[string]map[string]any `json:"paths"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &document))
	require.Greater(t, len(document.Paths), 10)
	paths := []string{"/metrics", "/", "/debug/pprof/goroutine?debug=1"}
	for path, methods := range document.Paths {
		if methods["get"] != nil && !strings.HasSuffix(path, "/events") { // which has no end
			path = strings.NewReplacer("{namespace}", "default", "{ns}", "default", "{name}", "copy").Replace(path)
			if !strings.HasPrefix(path, "/healthz") && !strings.HasPrefix(path, "/readyz") && !strings.HasPrefix(path, "/metrics") &&
				!strings.HasPrefix(path, "/api/") {
				path = "/api/v1" + path
			}
			paths = append(paths, path)
		}
	}
	dumped := false
	for _, path := range paths {
		status, body := get(path)
		require.Equal(t, http.StatusOK, status, "%s: %s", path, body)
		all.WriteString(body)
		archive, err := zip.NewReader(strings.NewReader(body), int64(len(body)))
		if err != nil {
			continue
		}
		for _, packed := range archive.File {
			file, err := packed.Open()
			require.NoError(t, err)
			_, err = io.Copy(&all, file)
			require.NoError(t, err)
			dumped = true
		}
	}
	require.True(t, dumped, "the dump was among %v", paths)
	return all.String()
}

func clusterOf(t *testing.T, m *member) uint64 {
	t.Helper()
	got, err := m.client.Get(t.Context(), "/cdc/default/meta")
	require.NoError(t, err)
	return got.Header.ClusterId
}
