package api

import (
	"archive/zip"
	"bytes"
	"io"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/endpoint"
)

func TestADumpHasNoSecret(t *testing.T) {
	f := newFake()
	s := sound()
	s.spec.Source = "etcd://u:s3cret@h:1/a/"
	f.raw = append(s.raw(t), RawRecord{Key: "/cdc/default/specs/default/broken", Value: []byte(`{"source":"etcd://u:s3cret@h:1/a/`)})
	c, _ := serve(t, f, func(config *Config) { config.Literals = endpoint.AllowLiterals })
	var out bytes.Buffer
	require.NoError(t, c.Dump(t.Context(), &out))
	archive, err := zip.NewReader(bytes.NewReader(out.Bytes()), int64(out.Len()))
	require.NoError(t, err)
	all := map[string]string{}
	for _, file := range archive.File {
		opened, err := file.Open()
		require.NoError(t, err)
		text, err := io.ReadAll(opened)
		require.NoError(t, err)
		require.NotContains(t, string(text), "s3cret", file.Name)
		all[file.Name] = string(text)
	}
	require.Contains(t, all["records.json"], "etcd://u:xxxxx@h:1/a/")
	require.Contains(t, all["records.json"], "does not parse")
	require.Contains(t, all["goroutines.txt"], "goroutine ")
	require.Contains(t, all["cluster.json"], `"n1"`)
	require.Contains(t, all, "metrics.txt")
}

func TestADumpIsForAdmins(t *testing.T) {
	tokens, err := ParseTokens("x", []byte("admin:a\nviewer:v\n"))
	require.NoError(t, err)
	_, server := serve(t, newFake(), func(config *Config) { config.Tokens = tokens })
	for token, status := range map[string]int{"": 401, "v": 403, "a": 200} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/v1/debug/dump", nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.NoError(t, response.Body.Close())
		require.Equal(t, status, response.StatusCode, token)
	}
}
