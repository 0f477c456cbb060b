package api

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/record"
)

// FuzzBodies sends any body to each path that takes one. Nothing panics, and what is wrong with a body is the caller's
// fault, not the server's.
func FuzzBodies(f *testing.F) {
	for _, body := range []string{
		`{"name":"orders","source":"etcd://h:1/a/","sink":"file:///d","options":{"split_keys":"a,b"}}`, `{"name":"orders","start":"7"}`,
		`{"above":7}`, `{"to":"n1"}`, `{"level":"debug"}`, `{"at":[{"base64":"AP8="}]}`, `{"at":"k"}`, `{"position":"1","index":0}`, `{}`, `[]`, `{"to":1}`, "",
	} {
		for route := range byte(8) {
			f.Add(route, []byte(body))
		}
	}
	f.Fuzz(func(t *testing.T, route byte, body []byte) {
		backend := newFake()
		id := changefeed.ID{Namespace: changefeed.DefaultNamespace, Name: "orders"}
		require.NoError(t, backend.CreateSpec(t.Context(), record.Spec{
			UID: "u", Namespace: id.Namespace, Name: id.Name, Source: source, Sink: sink, Start: record.StartNow, Desired: changefeed.DesiredRunning,
		}))
		server := New(Config{
			Cluster: "default", Version: "test", Kinds: kinds(), Gatherer: prometheus.NewRegistry(), Level: zap.NewAtomicLevel(), Log: zap.NewNop(),
		}, backend)
		var paths []string
		for pattern := range server.handlers() {
			if !strings.HasPrefix(pattern, http.MethodGet) {
				paths = append(paths, pattern)
			}
		}
		slices.Sort(paths)
		method, path, _ := strings.Cut(paths[int(route)%len(paths)], " ")
		path = strings.NewReplacer("{namespace}", id.Namespace, "/changefeeds/{namespace}/{name}", "/changefeeds/default/orders", "{name}", id.Name).Replace(path)
		request := httptest.NewRequestWithContext(t.Context(), method, "http://127.0.0.1:8300/api/v1"+path, bytes.NewReader(body))
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("If-Match", "*")
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		require.Less(t, answer.Code, http.StatusInternalServerError, "%s %s: %s", method, path, answer.Body)
	})
}

// FuzzHeaders asks any path with any query and any headers that say who asks: nothing panics, and nobody gets in whose token
// is not among those that are accepted.
func FuzzHeaders(f *testing.F) {
	sum := sha256.Sum256([]byte("a"))
	ends := binary.BigEndian.AppendUint64(nil, uint64(fuzzNow.Add(forwardLife).Unix()))
	signed := forwardScheme + " " + base64.RawURLEncoding.EncodeToString(append(ends, forwardMAC(sum, ends)...))
	for _, path := range []string{
		"/api/v1/changefeeds?limit=2&continue=x", "/api/v1/changefeeds/default/orders/history?limit=-1", "/api/v1/changefeeds/default/orders/spans?start=%00",
		"/api/v1/nodes?limit=99999999999999999999", "/api/v1/check", "/metrics", "/api/v1/session", "/healthz", "//", "/api/v1/dump",
	} {
		f.Add(path, "Bearer a", "")
		f.Add(path, signed, "")
		f.Add(path, forwardScheme+" AAAA", cookieName+"=x")
		f.Add(path, "", cookieName+"=AAAA.AAAA")
	}
	tokens, err := ParseTokens("x", []byte("admin:a\n"))
	require.NoError(f, err)
	f.Fuzz(func(t *testing.T, path, authorization, cookie string) {
		target, err := url.ParseRequestURI("http://127.0.0.1:8300" + path)
		if err != nil || !strings.HasPrefix(path, "/") || strings.Contains(path, "events") || strings.Contains(path, "pprof") {
			return // no request, or one that lasts
		}
		server := New(Config{
			Cluster: "default", Version: "test", Kinds: kinds(), Gatherer: prometheus.NewRegistry(), Level: zap.NewAtomicLevel(), Log: zap.NewNop(), Tokens: tokens,
		}, newFake())
		server.now = func() time.Time { return fuzzNow }
		request := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:8300/", http.NoBody)
		request.URL, request.RequestURI = target, target.RequestURI()
		request.Header.Set("Authorization", authorization)
		request.Header.Set("Cookie", cookie)
		answer := httptest.NewRecorder()
		server.ServeHTTP(answer, request)
		require.Less(t, answer.Code, http.StatusInternalServerError, "%s: %s", path, answer.Body)
		local := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://127.0.0.1:8300/api/v1/local", http.NoBody)
		local.Header.Set("Authorization", authorization)
		local.Header.Set("Cookie", cookie)
		answer = httptest.NewRecorder()
		server.ServeHTTP(answer, local)
		_, bearer, _ := strings.Cut(strings.TrimSpace(authorization), " ")
		if answer.Code == http.StatusOK {
			require.True(t, strings.TrimSpace(bearer) == "a" || authorization == signed, "%q %q", authorization, cookie)
		}
	})
}

// fuzzNow is a moment at which a signature may count.
var fuzzNow = time.Unix(1_700_000_000, 0)
