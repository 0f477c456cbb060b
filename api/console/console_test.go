package console

import (
	"net/http"
	"net/http/httptest"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

func ask(t *testing.T, path string, change ...func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	mux := http.NewServeMux()
	for _, pattern := range Paths() {
		mux.Handle(pattern, Handler())
	}
	r := httptest.NewRequest(http.MethodGet, path, nil)
	for _, c := range change {
		c(r)
	}
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	return w
}

func TestPagesComeFromTheBinaryAlone(t *testing.T) {
	index := ask(t, "/")
	require.Equal(t, http.StatusOK, index.Code)
	require.Equal(t, "text/html; charset=utf-8", index.Header().Get("Content-Type"))
	require.Contains(t, index.Header().Get("Content-Security-Policy"), "default-src 'none'")
	linked := regexp.MustCompile(`(?:src|href)="([^"#]+)"`).FindAllStringSubmatch(index.Body.String(), -1)
	require.NotEmpty(t, linked)
	for _, link := range linked {
		require.Equal(t, http.StatusOK, ask(t, "/"+link[1]).Code, link[1])
	}
	entries, err := assets.ReadDir("assets")
	require.NoError(t, err)
	imported := regexp.MustCompile(`from "\./([^"]+)"`)
	foreign := regexp.MustCompile(`(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}`)
	for _, entry := range entries {
		got := ask(t, "/console/"+entry.Name())
		require.Equal(t, http.StatusOK, got.Code, entry.Name())
		require.NotEmpty(t, got.Header().Get("Content-Type"), entry.Name())
		for _, module := range imported.FindAllStringSubmatch(got.Body.String(), -1) {
			require.Equal(t, http.StatusOK, ask(t, "/console/"+module[1]).Code, "%s imports %s", entry.Name(), module[1])
		}
		for _, address := range foreign.FindAllString(got.Body.String(), -1) {
			require.Equal(t, "http://www.w3.org", address, "%s names another host", entry.Name())
		}
	}
}

func TestPagesAreNotLoadedTwice(t *testing.T) {
	first := ask(t, "/console/main.js")
	again := ask(t, "/console/main.js", func(r *http.Request) { r.Header.Set("If-None-Match", first.Header().Get("ETag")) })
	require.Equal(t, http.StatusNotModified, again.Code)
}

func TestWhatIsNotThere(t *testing.T) {
	for _, path := range []string{"/console/nope.js", "/console/", "/console/..%2fconsole.go"} {
		require.Equal(t, http.StatusNotFound, ask(t, path).Code, path)
	}
}
