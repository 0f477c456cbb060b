package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/pprof"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"go.uber.org/zap"

	"fencerow/api/console"
	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/endpoint"
)

// Bounds of the server.
const (
	bodyBytesMax   = 1 << 20 // a request is a spec, and a spec is a small record
	headerBytesMax = 64 << 10
	listDefault    = 100
	listMax        = 1000
	// requestMax is how long the records may take to answer; below a client's default of 30 s, so that it hears why.
	requestMax = 20 * time.Second
	// attemptsMax bounds how often a change is decided again that others overtook.
	attemptsMax = 8
)

// Config is what a server is made with.
type Config struct {
	Cluster  string // name
	Version  string
	Kinds    Kinds
	Literals endpoint.Literals
	Tokens   Tokens
	// Hosts are the names that this node goes by, beside its addresses.
	Hosts []string
	Level zap.AtomicLevel
	// Gatherer is what /metrics shows.
	Gatherer prometheus.Gatherer
	// Client asks other nodes what only they know. Scheme is http or https.
	Client *http.Client
	Scheme string
	// Settle is how long a check waits before it looks again at what it found: longer than a checkpoint lags its sink.
	Settle time.Duration
	Log    *zap.Logger
}

// Server answers the HTTP API. It is an http.Handler.
type Server struct {
	config   Config
	backend  Backend
	mux      *http.ServeMux
	checks   checking
	sessions sessions
	limits   *limits
	streams  chan struct{} // of events
	verifies chan struct{} // comparisons that run
	now      func() time.Time
}

// New returns a server that works on the backend.
func New(config Config, backend Backend) *Server {
	s := &Server{config: config, backend: backend, mux: http.NewServeMux(), limits: newLimits(), streams: make(chan struct{}, eventStreamsMax), verifies: make(chan struct{}, verifiesMax), now: time.Now}
	if s.config.Client == nil {
		s.config.Client = &http.Client{}
	}
	if s.config.Settle <= 0 {
		s.config.Settle = settleDefault
	}
	if s.config.Scheme == "" {
		s.config.Scheme = "http"
	}
	s.routes()
	return s
}

// NewHTTPServer returns a net/http server around the handler with bounds on headers and idle connections. The caller
// serves and shuts it down.
func NewHTTPServer(handler http.Handler) *http.Server {
	return &http.Server{
		Handler: handler, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: headerBytesMax,
	}
}

// handler answers a request with a status and a value, or with an error.
type handler func(r *http.Request) (reply, error)

// reply is an answer: Body as JSON, with an ETag and a cookie if there is one.
type reply struct {
	status int
	etag   string
	cookie *http.Cookie
	body   any

	contentType string // of stream
	stream      func(io.Writer) error
}

// handlers are the routes under /api/v1.
func (s *Server) handlers() map[string]handler {
	return map[string]handler{
		"GET /cluster":                        s.cluster,
		"GET /nodes":                          s.nodes,
		"GET /local":                          s.local,
		"GET /local/progress":                 s.localProgress,
		"GET /check":                          s.check,
		"GET /changefeeds":                    s.list,
		"GET /changefeeds/{namespace}/{name}": s.get,
		"GET /changefeeds/{namespace}/{name}/spans":   s.spans,
		"GET /changefeeds/{namespace}/{name}/history": s.history,
		"GET /changefeeds/{namespace}/{name}/head":    s.head,
		"POST /changefeeds":                           s.create,
		"PUT /changefeeds/{namespace}/{name}":         s.put,
		"DELETE /changefeeds/{namespace}/{name}":      s.remove,
		"POST /changefeeds/{namespace}/{name}/pause":  s.pause,
		"POST /changefeeds/{namespace}/{name}/resume": s.resume,
		"POST /changefeeds/{namespace}/{name}/bump":   s.bump,
		"POST /changefeeds/{namespace}/{name}/move":   s.move,
		"POST /changefeeds/{namespace}/{name}/reset":  s.reset,
		"POST /changefeeds/{namespace}/{name}/skip":   s.skip,
		"POST /changefeeds/{namespace}/{name}/split":  s.split,
		"POST /changefeeds/{namespace}/{name}/merge":  s.merge,
		"PUT /nodes/{name}/drain":                     s.drain,
		"DELETE /nodes/{name}/drain":                  s.undrain,
		"POST /coordinator/resign":                    s.resign,
		"PUT /log-level":                              s.logLevel,
		dumpRoute:                                     s.dump,
		"GET /openapi.json":                           s.openapi,
		"GET /session":                                s.session,
		"POST /session":                               s.logIn,
		"DELETE /session":                             s.logOut,
	}
}

func (s *Server) routes() {
	const prefix = "/api/v1"
	for pattern, h := range s.handlers() {
		method, path, _ := strings.Cut(pattern, " ")
		role := RoleAdmin
		switch {
		case path == "/session":
			role = 0 // who logs in has no role yet
		case method == http.MethodGet && pattern != dumpRoute:
			role = RoleViewer
		}
		s.mux.Handle(method+" "+prefix+path, s.answer(role, h))
	}
	s.mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { writeHealth(w, s.backend.Healthy()) })
	s.mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { writeHealth(w, s.backend.Ready()) })
	if s.config.Gatherer == nil {
		s.config.Gatherer = prometheus.NewRegistry()
	}
	metrics := promhttp.HandlerFor(s.config.Gatherer, promhttp.HandlerOpts{MaxRequestsInFlight: 4})
	s.mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		leave, err := s.admit(r, RoleViewer)
		if err != nil {
			writeProblem(w, err)
			return
		}
		defer leave()
		metrics.ServeHTTP(w, r)
	})
	s.mux.HandleFunc("GET "+prefix+"/events", s.events)
	s.mux.HandleFunc("GET "+prefix+"/changefeeds/{namespace}/{name}/verify", s.verify)
	s.console()
	s.profiles()
	s.mux.HandleFunc("/", s.unknown)
}

// console serves its pages to everybody: they hold nothing of the cluster.
func (s *Server) console() {
	pages := console.Handler()
	for _, path := range console.Paths() {
		s.mux.HandleFunc(path, func(w http.ResponseWriter, r *http.Request) {
			if err := s.checkHost(r); err != nil {
				writeProblem(w, err)
				return
			}
			pages.ServeHTTP(w, r)
		})
	}
}

// profiles are for admins: they show more than a viewer is meant to see, and cost something.
func (s *Server) profiles() {
	for path, serve := range map[string]http.HandlerFunc{
		"": pprof.Index, "profile": pprof.Profile, "trace": pprof.Trace, "symbol": pprof.Symbol,
	} {
		s.mux.HandleFunc("GET /debug/pprof/"+path, func(w http.ResponseWriter, r *http.Request) {
			leave, err := s.admit(r, RoleAdmin)
			if err != nil {
				writeProblem(w, err)
				return
			}
			defer leave()
			serve(w, r)
		})
	}
}

// ServeHTTP answers a request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
	s.mux.ServeHTTP(w, r)
}

// admit lets a request in that its caller may make, and returns what ends it.
func (s *Server) admit(r *http.Request, role Role) (leave func(), err error) {
	if err := s.checkHost(r); err != nil {
		return nil, err
	}
	leave, err = s.limits.enter(r, s.now())
	if err != nil {
		return nil, err
	}
	if err := s.authorize(r, role); err != nil {
		leave()
		return nil, err
	}
	return leave, nil
}

func (s *Server) answer(role Role, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		leave, err := s.admit(r, role)
		if err != nil {
			writeProblem(w, err)
			return
		}
		defer leave()
		if r.Method != http.MethodGet { // a deadline would end a long answer too
			_ = http.NewResponseController(w).SetReadDeadline(s.now().Add(requestMax)) //nolint:errcheck // a writer without deadlines is a test's
		}
		ctx, cancel := context.WithTimeout(r.Context(), longest(r))
		defer cancel()
		r.Body = http.MaxBytesReader(w, r.Body, bodyBytesMax)
		out, err := h(r.WithContext(ctx))
		if err != nil {
			s.logFailure(r, err)
			if fault := changefeed.AsFault(err, ""); fault.Code == changefeed.CodeAuthRequired {
				s.limits.guessed(r, s.now())
			}
			writeProblem(w, err)
			return
		}
		if out.etag != "" {
			w.Header().Set("ETag", `"`+out.etag+`"`)
		}
		if out.cookie != nil {
			http.SetCookie(w, out.cookie)
		}
		if out.stream != nil {
			s.stream(w, r, out)
			return
		}
		if out.body == nil {
			w.WriteHeader(out.status)
			return
		}
		writeJSON(w, out.status, out.body)
	})
}

// stream writes an answer that is no JSON. When it fails half-way the connection is cut, so that nobody takes a part for
// the whole.
func (s *Server) stream(w http.ResponseWriter, r *http.Request, out reply) {
	w.Header().Set("Content-Type", out.contentType)
	w.WriteHeader(out.status)
	if err := out.stream(w); err != nil {
		s.logFailure(r, err)
		panic(http.ErrAbortHandler) //nolint:forbidigo // how net/http is told to cut the connection
	}
}

// longest is how long an answer may take.
func longest(r *http.Request) time.Duration {
	if strings.HasSuffix(r.URL.Path, "/check") && r.Method == http.MethodGet {
		return checkMax
	}
	return requestMax
}

// logFailure logs what is our own failure, not the caller's.
func (s *Server) logFailure(r *http.Request, err error) {
	if problem := problemOf(err); problem.Status >= http.StatusInternalServerError && s.config.Log != nil {
		s.config.Log.Warn("request failed", zap.String("method", r.Method), zap.String("path", r.URL.Path),
			zap.String("code", string(problem.Code)), zap.Error(err))
	}
}

func (s *Server) unknown(w http.ResponseWriter, r *http.Request) {
	status := http.StatusNotFound
	detail := "is no path of this API"
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		probe := &http.Request{Method: method, URL: r.URL, Host: r.Host}
		if _, pattern := s.mux.Handler(probe); pattern != "/" && pattern != "" {
			status, detail = http.StatusMethodNotAllowed, "does not take "+r.Method
		}
	}
	writeProblem(w, refuse(status, &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "path", Value: fmt.Sprintf("%.200q", r.URL.Path), Detail: detail,
		Cure: "see /api/v1/openapi.json",
	}))
}

func writeHealth(w http.ResponseWriter, err error) {
	if err != nil {
		writeJSON(w, http.StatusServiceUnavailable, shape.Health{Status: "unavailable", Reason: err.Error()})
		return
	}
	writeJSON(w, http.StatusOK, shape.Health{Status: "ok"})
}

// decode reads a JSON body. Unknown fields are refused: in a request they are misspelt.
func decode(r *http.Request, into any) error {
	decoder := json.NewDecoder(r.Body)
	decoder.DisallowUnknownFields()
	err := decoder.Decode(into)
	var large *http.MaxBytesError
	switch {
	case errors.As(err, &large):
		return &changefeed.Fault{
			Code: changefeed.CodeLimitExceeded, Field: "body", Detail: fmt.Sprintf("has more than %d bytes", bodyBytesMax),
			Cure: "send less",
		}
	case err != nil:
		return &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "body", Detail: "is not the JSON that is taken here", Err: err,
			Cure: "see /api/v1/openapi.json",
		}
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "body", Detail: "has something after its JSON",
			Cure: "send one JSON object",
		}
	}
	return nil
}

// decodeOptional is decode for requests whose body may be left out.
func decodeOptional(r *http.Request, into any) error {
	if r.ContentLength == 0 {
		return nil
	}
	return decode(r, into)
}
