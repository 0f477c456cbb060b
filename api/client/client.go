// Package client speaks the HTTP API of a node: a typed method for each thing that can be asked. It knows the JSON of
// package shape and how answers become errors, and nothing of records or etcd.
package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"strings"
	"time"

	"fencerow/api/shape"
	"fencerow/certs"
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
)

// Bounds of the client.
const (
	// RequestMax is how long a request may take, by default.
	RequestMax     = 30 * time.Second
	answerBytesMax = 256 << 20 // a page of 1000 changefeeds is far below it
	tokenBytesMax  = 64 << 10
	pageLimit      = "1000"
)

// ErrUnreachable says that no answer came: the server isn't there, or was cut off.
var ErrUnreachable = errors.New("no answer from the server")

// Config says where the server is and who asks.
type Config struct {
	Server    string // URL
	Timeout   time.Duration
	TokenFile string // the token alone, or a line `role:token`
	TLSCA     string
	TLSCert   string
	TLSKey    string
}

// Client asks one server. It is safe for concurrent use.
type Client struct {
	base    *url.URL
	http    *http.Client
	token   string
	timeout time.Duration
}

// Error is an answer that is a problem.
type Error struct{ shape.Problem }

// Error says what failed, on what, and what to do, in one line.
func (e *Error) Error() string {
	subject := strings.TrimSpace(e.Field + " " + e.Value)
	text := strings.TrimSpace(subject + " " + e.Detail)
	if e.Cure != "" {
		text += "; " + e.Cure
	}
	if e.Code != "" {
		text += " (" + string(e.Code) + ")"
	}
	return text
}

// New returns a client.
func New(config Config) (*Client, error) {
	base, err := url.Parse(config.Server)
	if err != nil || base.Host == "" || base.Scheme != "http" && base.Scheme != "https" {
		return nil, invalid("--server", config.Server, "is not a URL", "give one such as http://127.0.0.1:8300")
	}
	token, err := readToken(config.TokenFile)
	if err != nil {
		return nil, err
	}
	tlsConfig, err := readTLS(config)
	if err != nil {
		return nil, err
	}
	if config.Timeout <= 0 {
		config.Timeout = RequestMax
	}
	transport := &http.Transport{Proxy: http.ProxyFromEnvironment, TLSClientConfig: tlsConfig, IdleConnTimeout: time.Minute}
	return &Client{
		base: base, token: token, timeout: config.Timeout,
		http: &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
	}, nil
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

func invalid(field, value, detail, cure string) error {
	return &changefeed.Fault{Code: changefeed.CodeRequestInvalid, Field: field, Value: fmt.Sprintf("%.200q", value), Detail: detail, Cure: cure}
}

func readToken(path string) (string, error) {
	if path == "" {
		return "", nil
	}
	data, err := os.ReadFile(path)
	if err != nil || len(data) > tokenBytesMax {
		return "", invalid("--token-file", path, "can't be read", "give a file that holds the token")
	}
	for line := range strings.Lines(string(data)) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if role, secret, found := strings.Cut(line, ":"); found && (role == "admin" || role == "viewer") {
			return strings.TrimSpace(secret), nil
		}
		return line, nil
	}
	return "", invalid("--token-file", path, "holds no token", "give a file that holds the token")
}

func readTLS(config Config) (*tls.Config, error) {
	files := certs.Files{CA: config.TLSCA, Cert: config.TLSCert, Key: config.TLSKey}
	if files.IsZero() {
		return nil, nil
	}
	out, err := files.Client()
	if fault, ok := errors.AsType[*certs.Error](err); ok {
		if fault.File == certs.FileCA {
			return nil, invalid("--tls-ca", fault.Path, "can't be read: "+fault.Err.Error(), "give a PEM file with certificates")
		}
		return nil, invalid("--tls-cert, --tls-key", fault.Path, "can't be read: "+fault.Err.Error(), "give both as PEM files")
	}
	return out, err
}

// call is one request.
type call struct {
	method string
	path   []string // escaped here
	query  url.Values
	body   any
	header http.Header
}

// raw does a call, and returns the body of an answer that is no problem.
func (c *Client) raw(ctx context.Context, call call) (json.RawMessage, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	request, err := c.request(ctx, call)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, c.failure(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
	if err != nil {
		return nil, c.failure(ctx, err)
	}
	if response.StatusCode >= http.StatusMultipleChoices {
		return nil, problem(response.StatusCode, data)
	}
	return data, nil
}

func (c *Client) failure(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer from %s within %v: %w", c.base, c.timeout, context.DeadlineExceeded)
	}
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return fmt.Errorf("%w at %s: %w; start a node there, or name another with --server", ErrUnreachable, c.base, err)
}

func (c *Client) request(ctx context.Context, call call) (*http.Request, error) {
	var body io.Reader
	if call.body != nil {
		data, err := json.Marshal(call.body)
		if err != nil {
			return nil, fmt.Errorf("client: encode the request: %w", err)
		}
		body = bytes.NewReader(data)
	}
	escaped := make([]string, len(call.path))
	for i, part := range call.path {
		escaped[i] = url.PathEscape(part)
	}
	target := strings.TrimSuffix(c.base.String(), "/") + "/" + strings.Join(escaped, "/")
	if len(call.query) > 0 {
		target += "?" + call.query.Encode()
	}
	request, err := http.NewRequestWithContext(ctx, call.method, target, body)
	if err != nil {
		return nil, fmt.Errorf("client: %w", err)
	}
	maps.Copy(request.Header, call.header)
	request.Header.Set("Accept", "application/json")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	if c.token != "" {
		request.Header.Set("Authorization", "Bearer "+c.token)
	}
	return request, nil
}

func problem(status int, data []byte) error {
	out := &Error{}
	var health shape.Health
	if err := json.Unmarshal(data, &health); err == nil && health.Status == "unavailable" {
		out.Detail, out.Cure = "the node is not ready: "+health.Reason, "look at its log"
	} else if err := json.Unmarshal(data, &out.Problem); err != nil || out.Code == "" {
		out.Detail = fmt.Sprintf("the server answered %d, which is no answer of this API", status)
		out.Cure = "check --server"
	}
	out.Status = status
	return out
}

func api(path ...string) []string { return append([]string{"api", "v1"}, path...) }

func feed(id changefeed.ID, more ...string) []string {
	return append(api("changefeeds", id.Namespace, id.Name), more...)
}

// Answer is a decoded answer and the JSON that it came as.
type Answer[T any] struct {
	Value T
	Raw   json.RawMessage
}

func do[T any](ctx context.Context, c *Client, call call) (Answer[T], error) {
	var out Answer[T]
	data, err := c.raw(ctx, call)
	if err != nil {
		return out, err
	}
	if err := json.Unmarshal(data, &out.Value); err != nil {
		return out, &Error{shape.Problem{Status: http.StatusBadGateway, Detail: "the answer is not the JSON of this API: " + err.Error(), Cure: "check --server"}}
	}
	out.Raw = data
	return out, nil
}

// Cluster shows the cluster.
func (c *Client) Cluster(ctx context.Context) (Answer[shape.Cluster], error) {
	return do[shape.Cluster](ctx, c, call{method: http.MethodGet, path: api("cluster")})
}

// Nodes lists the live nodes.
func (c *Client) Nodes(ctx context.Context) (Answer[shape.List[shape.Node]], error) {
	return every(pages[shape.Node](ctx, c, api("nodes")))
}

// Resign ends the coordinator's term.
func (c *Client) Resign(ctx context.Context) (Answer[shape.Cluster], error) {
	return do[shape.Cluster](ctx, c, call{method: http.MethodPost, path: api("coordinator", "resign")})
}

// Page lists a page of changefeeds; an empty namespace is all of them.
func (c *Client) Page(ctx context.Context, namespace, after string) (Answer[shape.List[shape.Changefeed]], error) {
	query := url.Values{"limit": {pageLimit}}
	if namespace != "" {
		query.Set("namespace", namespace)
	}
	if after != "" {
		query.Set("after", after)
	}
	return do[shape.List[shape.Changefeed]](ctx, c, call{method: http.MethodGet, path: api("changefeeds"), query: query})
}

// Changefeed shows one changefeed.
func (c *Client) Changefeed(ctx context.Context, id changefeed.ID) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{method: http.MethodGet, path: feed(id)})
}

// Pause pauses a changefeed.
func (c *Client) Pause(ctx context.Context, id changefeed.ID) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{method: http.MethodPost, path: feed(id, "pause")})
}

// Resume resumes a changefeed.
func (c *Client) Resume(ctx context.Context, id changefeed.ID) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{method: http.MethodPost, path: feed(id, "resume")})
}

// Remove asks for the removal of a changefeed.
func (c *Client) Remove(ctx context.Context, id changefeed.ID) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{method: http.MethodDelete, path: feed(id)})
}

// ForceRemove deletes the records of a changefeed whoever owns it.
func (c *Client) ForceRemove(ctx context.Context, id changefeed.ID) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{method: http.MethodDelete, path: feed(id), query: url.Values{"force": {"true"}}})
}

// Bump asks for a new epoch; above may be nil.
func (c *Client) Bump(ctx context.Context, id changefeed.ID, above *fence.Epoch) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{method: http.MethodPost, path: feed(id, "bump"), body: shape.Bump{Above: above}})
}

// Reset gives a paused changefeed another start, and with it another uid.
func (c *Client) Reset(ctx context.Context, id changefeed.ID, start string) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{method: http.MethodPost, path: feed(id, "reset"), body: shape.Reset{Start: start}})
}

// Skip leaves out one change that the sink refuses.
func (c *Client) Skip(ctx context.Context, id changefeed.ID, position change.Position, index uint32) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{
		method: http.MethodPost, path: feed(id, "skip"), body: shape.Skip{Position: position, Index: index},
	})
}

// Spans shows the cover of a changefeed.
func (c *Client) Spans(ctx context.Context, id changefeed.ID) (Answer[shape.List[shape.Span]], error) {
	return every(pages[shape.Span](ctx, c, feed(id, "spans")))
}

// History lists the ownerships of a changefeed.
func (c *Client) History(ctx context.Context, id changefeed.ID) (Answer[shape.List[shape.Ownership]], error) {
	return every(pages[shape.Ownership](ctx, c, feed(id, "history")))
}

// Head says where the source of a changefeed is now.
func (c *Client) Head(ctx context.Context, id changefeed.ID) (change.Position, error) {
	out, err := do[shape.Head](ctx, c, call{method: http.MethodGet, path: feed(id, "head")})
	return out.Value.Head, err
}

// Ready answers if the node is ready, else the error is an *Error with the reason, or ErrUnreachable.
func (c *Client) Ready(ctx context.Context) (Answer[shape.Health], error) {
	return do[shape.Health](ctx, c, call{method: http.MethodGet, path: []string{"readyz"}})
}

// All lists all changefeeds, page after page; an empty namespace is all of them. Raw is one list.
func (c *Client) All(ctx context.Context, namespace string) (Answer[shape.List[shape.Changefeed]], error) {
	return every(func(after string) (Answer[shape.List[shape.Changefeed]], error) { return c.Page(ctx, namespace, after) })
}

// pages returns what asks for a page of the list at a path.
func pages[T any](ctx context.Context, c *Client, path []string) func(after string) (Answer[shape.List[T]], error) {
	return func(after string) (Answer[shape.List[T]], error) {
		query := url.Values{"limit": {pageLimit}}
		if after != "" {
			query.Set("after", after)
		}
		return do[shape.List[T]](ctx, c, call{method: http.MethodGet, path: path, query: query})
	}
}

// every joins the pages of a list into one.
func every[T any](page func(after string) (Answer[shape.List[T]], error)) (Answer[shape.List[T]], error) {
	now, err := page("")
	if err != nil || now.Value.Next == "" {
		return now, err
	}
	var items []json.RawMessage
	out := Answer[shape.List[T]]{}
	for {
		var raw shape.List[json.RawMessage]
		if err := json.Unmarshal(now.Raw, &raw); err != nil {
			return out, fmt.Errorf("client: list: %w", err)
		}
		items = append(items, raw.Items...)
		out.Value.Items = append(out.Value.Items, now.Value.Items...)
		if now.Value.Next == "" {
			break
		}
		if now, err = page(now.Value.Next); err != nil {
			return out, err
		}
	}
	out.Raw, err = json.Marshal(shape.List[json.RawMessage]{Items: items})
	return out, err
}
