package api

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

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
