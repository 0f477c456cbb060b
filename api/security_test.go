package api

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/api/shape"
	"fencerow/changefeed"
)

// browse makes a request as it is said, and returns what came.
func browse(t *testing.T, handler http.Handler, method, path string, change func(*http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	var body io.Reader = http.NoBody
	if method == http.MethodPost && strings.HasSuffix(path, "/session") {
		body = strings.NewReader(`{"token":"a"}`)
	}
	r := httptest.NewRequestWithContext(t.Context(), method, path, body)
	r.Host = "127.0.0.1:8300"
	if change != nil {
		change(r)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	return w
}

func secured(t *testing.T, change ...func(*Config)) *Server {
	t.Helper()
	tokens, err := ParseTokens("x", []byte("admin:a\nviewer:v\n"))
	require.NoError(t, err)
	config := Config{Kinds: kinds(), Tokens: tokens, Hosts: []string{"n1.example:8300", "cdc.example"}, Cluster: "default"}
	for _, c := range change {
		c(&config)
	}
	return New(config, newFake())
}

// Names that the node doesn't go by, and pages of other origins, are refused: on loopback, with and without tokens.
func TestForeignHostsAndOriginsAreRefused(t *testing.T) {
	open := New(Config{Kinds: kinds(), Hosts: []string{"n1.example:8300"}}, newFake())
	for name, tc := range map[string]struct {
		host, origin string
		status       int
	}{
		"an address":                  {"127.0.0.1:8300", "", 200},
		"an address of IPv6":          {"[::1]:8300", "", 200},
		"localhost":                   {"localhost:8300", "", 200},
		"what it advertises":          {"n1.example:8300", "", 200},
		"what it advertises, by port": {"N1.EXAMPLE", "", 200},
		"a rebound name":              {"evil.example:8300", "", 403},
		"a name that ends alike":      {"xn1.example:8300", "", 403},
		"localhost of somebody":       {"localhost.evil.example", "", 403},
		"its own origin":              {"127.0.0.1:8300", "http://127.0.0.1:8300", 200},
		"another origin":              {"127.0.0.1:8300", "http://evil.example", 403},
		"another port":                {"127.0.0.1:8300", "http://127.0.0.1:3000", 403},
		"no origin":                   {"127.0.0.1:8300", "null", 403},
	} {
		t.Run(name, func(t *testing.T) {
			for _, server := range []*Server{open, secured(t)} {
				for _, path := range []string{"/api/v1/changefeeds", "/metrics", "/debug/pprof/"} {
					w := browse(t, server, http.MethodGet, path, func(r *http.Request) {
						r.Host = tc.host
						r.Header.Set("Authorization", "Bearer a")
						if tc.origin != "" {
							r.Header.Set("Origin", tc.origin)
						}
					})
					require.Equal(t, tc.status, w.Code, "%s: %s", path, w.Body)
				}
			}
		})
	}
	w := browse(t, secured(t), http.MethodGet, "/api/v1/changefeeds", func(r *http.Request) {
		r.Host = "cdc.example"
		r.Header.Set("Authorization", "Bearer v")
	})
	require.Equal(t, 200, w.Code, "a name of --http-hosts")
}

// A change by cookie has to come from a page of this node.
func TestChangesByCookieComeFromItsOwnPages(t *testing.T) {
	s := secured(t)
	w := browse(t, s, http.MethodPost, "/api/v1/session", nil)
	require.Equal(t, 200, w.Code, w.Body)
	cookie := w.Result().Cookies()[0]
	with := func(method, path string, headers ...string) int {
		return browse(t, s, method, path, func(r *http.Request) {
			r.AddCookie(cookie)
			for i := 0; i < len(headers); i += 2 {
				r.Header.Set(headers[i], headers[i+1])
			}
		}).Code
	}
	require.Equal(t, 200, with("GET", "/api/v1/changefeeds"))
	require.Equal(t, 200, with("GET", "/metrics"))
	require.Equal(t, 403, with("POST", "/api/v1/coordinator/resign"), "nobody says where it comes from")
	require.Equal(t, 403, with("POST", "/api/v1/coordinator/resign", "Origin", "http://evil.example"))
	require.Equal(t, 403, with("POST", "/api/v1/coordinator/resign", "Sec-Fetch-Site", "cross-site"))
	require.Equal(t, 202, with("POST", "/api/v1/coordinator/resign", "Origin", "http://127.0.0.1:8300"))
	require.Equal(t, 202, with("POST", "/api/v1/coordinator/resign", "Sec-Fetch-Site", "same-origin"))
}

// A node asks others for a browser with a signature that counts for a moment, and that nobody else can make.
func TestABrowsersAuthorityIsForwarded(t *testing.T) {
	s, far := secured(t), secured(t)
	now := time.Unix(1_700_000_000, 0)
	s.now, far.now = func() time.Time { return now }, func() time.Time { return now }
	w := browse(t, s, http.MethodPost, "/api/v1/session", nil)
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	require.Empty(t, s.authority(r), "a stranger's")
	r.AddCookie(w.Result().Cookies()[0])
	signed := s.authority(r)
	as := func(authorization string) int {
		far.limits = newLimits()
		return browse(t, far, http.MethodGet, "/api/v1/local", func(r *http.Request) { r.Header.Set("Authorization", authorization) }).Code
	}
	require.Equal(t, 200, as(signed))
	value := strings.TrimPrefix(signed, forwardScheme+" ")
	for name, forged := range map[string]string{
		"nothing": "", "text": "admin", "cut": value[:20], "another end": other(value, 9), "another signature": other(value, 30),
	} {
		require.Equal(t, 401, as(forwardScheme+" "+forged), name)
	}
	require.Equal(t, 401, as("Bearer "+value))
	now = now.Add(forwardLife)
	require.Equal(t, 401, as(signed), "its time is over")
	now = now.Add(-3 * forwardLife)
	require.Equal(t, 401, as(signed), "nobody signs for so long")
	now = now.Add(2 * forwardLife)
	tokens, err := ParseTokens("x", []byte("admin:b\n"))
	require.NoError(t, err)
	far.config.Tokens = tokens
	require.Equal(t, 401, as(signed), "the token was taken back")
}

// other returns the text with another letter at a place.
func other(text string, at int) string {
	letter := "A"
	if text[at:at+1] == letter {
		letter = "B"
	}
	return text[:at] + letter + text[at+1:]
}

func TestWhoGuessesTokensIsNotListenedTo(t *testing.T) {
	s := secured(t)
	now := time.Unix(1_700_000_000, 0)
	s.now = func() time.Time { return now }
	as := func(token string) *httptest.ResponseRecorder {
		return browse(t, s, http.MethodGet, "/api/v1/changefeeds", func(r *http.Request) { r.Header.Set("Authorization", "Bearer "+token) })
	}
	refused := 0
	for range 2 * guessesBurst {
		if as("guess").Code == http.StatusTooManyRequests {
			refused++
		}
	}
	require.Equal(t, guessesBurst, refused)
	w := as("a")
	require.Equal(t, http.StatusTooManyRequests, w.Code, "the right one tells nothing either")
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	var problem shape.Problem
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &problem))
	require.Equal(t, changefeed.CodeLimitExceeded, problem.Code)
	other := browse(t, s, http.MethodGet, "/api/v1/changefeeds", func(r *http.Request) {
		r.RemoteAddr = "10.0.0.9:1"
		r.Header.Set("Authorization", "Bearer a")
	})
	require.Equal(t, 200, other.Code, "others are not held up")
	now = now.Add(10 * time.Second)
	require.Equal(t, 200, as("a").Code)
	for range 2 * guessesBurst {
		browse(t, s, http.MethodPost, "/api/v1/session", func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"token":"guess"}`)) })
	}
	require.Equal(t, http.StatusTooManyRequests, browse(t, s, http.MethodPost, "/api/v1/session", nil).Code, "a login is a guess too")
}

func TestRequestsAreLimited(t *testing.T) {
	s := secured(t)
	now := time.Unix(1_700_000_000, 0)
	s.now = func() time.Time { return now }
	refused := 0
	for range requestsBurst + 10 {
		if browse(t, s, http.MethodGet, "/api/v1/session", nil).Code == http.StatusTooManyRequests {
			refused++
		}
	}
	require.Equal(t, 10, refused)
	for range inFlightMax {
		s.limits.inFlight <- struct{}{}
	}
	now = now.Add(time.Minute)
	require.Equal(t, http.StatusTooManyRequests, browse(t, s, http.MethodGet, "/api/v1/session", nil).Code)

	l := newLimits()
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	for i := range 2 * addressesMax {
		r.RemoteAddr = "10." + string(rune('a'+i%26)) + strings.Repeat("x", i/26) + ":1"
		l.of(r, now)
	}
	require.LessOrEqual(t, len(l.known), addressesMax)
	l.of(r, now.Add(2*idleMax))
	require.Len(t, l.known, 1, "what is idle is forgotten")
}

// Without a token nothing but health and the login says anything, whatever path is asked.
func TestAStrangerLearnsNothing(t *testing.T) {
	s := secured(t)
	for pattern := range s.handlers() {
		method, path, _ := strings.Cut(pattern, " ")
		path = "/api/v1" + strings.NewReplacer("{namespace}", "default", "{name}", "orders").Replace(path)
		w := browse(t, s, method, path, func(r *http.Request) { r.Body = io.NopCloser(strings.NewReader(`{"token":"guess"}`)) })
		s.limits = newLimits()
		if path == "/api/v1/session" && method != http.MethodPost {
			continue
		}
		require.Equal(t, 401, w.Code, pattern)
		require.NotContains(t, w.Body.String(), "orders")
	}
	for _, path := range []string{"/metrics", "/debug/pprof/", "/debug/pprof/profile", "/debug/pprof/heap"} {
		require.Equal(t, 401, browse(t, s, http.MethodGet, path, nil).Code, path)
	}
	require.Equal(t, 403, browse(t, s, http.MethodGet, "/debug/pprof/", func(r *http.Request) { r.Header.Set("Authorization", "Bearer v") }).Code)
}
