package api

import (
	"crypto/sha256"
	"encoding/json"
	"net/http"
	"net/http/cookiejar"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/api/shape"
)

// A browser gives its token once. From then on it is what the token is, until it leaves.
func TestBrowserLogsInAndOut(t *testing.T) {
	tokens, err := ParseTokens("f", []byte("admin:boss\nviewer:guest"))
	require.NoError(t, err)
	_, server := serve(t, newFake(), func(config *Config) { config.Tokens = tokens })
	jar, err := cookiejar.New(nil)
	require.NoError(t, err)
	browser := &http.Client{Jar: jar}
	type answer struct {
		status  int
		cookies []*http.Cookie
		session shape.Session
	}
	ask := func(method, path, body string) (out answer) {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Origin", server.URL)
		response, err := browser.Do(r)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		out.status, out.cookies = response.StatusCode, response.Cookies()
		if path == "/api/v1/session" && out.status == http.StatusOK {
			require.NoError(t, json.NewDecoder(response.Body).Decode(&out.session))
		}
		return out
	}
	who := func() shape.Session { return ask("GET", "/api/v1/session", "").session }
	require.Equal(t, shape.Session{}, who(), "a stranger")
	refused := ask("POST", "/api/v1/session", `{"token":"wrong"}`)
	require.Equal(t, http.StatusUnauthorized, refused.status)
	require.Empty(t, refused.cookies)

	begun := ask("POST", "/api/v1/session", `{"token":"guest"}`)
	require.Equal(t, http.StatusOK, begun.status)
	require.Len(t, begun.cookies, 1)
	cookie := begun.cookies[0]
	require.True(t, cookie.HttpOnly)
	require.Equal(t, http.SameSiteStrictMode, cookie.SameSite)
	require.NotContains(t, cookie.Value, "guest")
	require.Equal(t, shape.Session{Role: "viewer"}, who())
	require.Equal(t, http.StatusOK, ask("GET", "/api/v1/nodes", "").status)
	require.Equal(t, http.StatusForbidden, ask("POST", "/api/v1/coordinator/resign", "").status)

	require.Equal(t, http.StatusOK, ask("POST", "/api/v1/session", `{"token":"boss"}`).status)
	require.Equal(t, http.StatusAccepted, ask("POST", "/api/v1/coordinator/resign", "").status)

	require.Equal(t, http.StatusNoContent, ask("DELETE", "/api/v1/session", "").status)
	require.Equal(t, http.StatusUnauthorized, ask("GET", "/api/v1/nodes", "").status)
	// The cookie that was is worth nothing now.
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/v1/nodes", nil)
	require.NoError(t, err)
	r.AddCookie(cookie)
	late, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	_ = late.Body.Close()
	require.Equal(t, http.StatusUnauthorized, late.StatusCode)
}

func TestWithoutTokensEverybodyIsAdmin(t *testing.T) {
	_, server := serve(t, newFake())
	response, err := http.Get(server.URL + "/api/v1/session")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	var out shape.Session
	require.NoError(t, json.NewDecoder(response.Body).Decode(&out))
	require.Equal(t, shape.Session{Role: "admin", Open: true}, out)
}

func TestSessionsEndAndAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var s sessions
		request := func(cookie *http.Cookie) *http.Request {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "/", nil)
			require.NoError(t, err)
			r.AddCookie(cookie)
			return r
		}
		first := s.begin("first", time.Now())
		sum, ok := s.token(request(first), time.Now())
		require.True(t, ok)
		require.Equal(t, sha256.Sum256([]byte("first")), sum)
		time.Sleep(time.Minute)
		second := s.begin("second", time.Now())
		for i := range sessionsMax - 1 {
			s.begin(strconv.Itoa(i), time.Now())
		}
		require.Len(t, s.open, sessionsMax)
		_, ok = s.token(request(first), time.Now())
		require.False(t, ok, "the oldest made room")
		_, ok = s.token(request(second), time.Now())
		require.True(t, ok)
		time.Sleep(sessionLife)
		_, ok = s.token(request(second), time.Now())
		require.False(t, ok, "it has ended")
		s.begin("third", time.Now())
		require.Len(t, s.open, 1, "what has ended is forgotten")
	})
}
