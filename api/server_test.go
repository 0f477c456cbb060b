package api

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/api/client"
	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/fence"
	"fencerow/record"
)

const (
	source = "etcd://10.0.0.1:2379/orders/"
	sink   = "file:///var/lib/orders"
)

var orders = changefeed.ID{Namespace: "default", Name: "orders"}

func request() shape.Create { return shape.Create{Name: "orders", Source: source, Sink: sink} }

// problemIn returns the problem of an error that the client got.
func problemIn(t *testing.T, err error) shape.Problem {
	t.Helper()
	var answered *client.Error
	require.ErrorAs(t, err, &answered)
	return answered.Problem
}

func TestCreateShowsAndPersists(t *testing.T) {
	f := newFake()
	f.heads[source] = Look{Head: 42, Store: endpoint.Store{ClusterID: "other"}}
	c, _ := serve(t, f)
	answer, err := c.Create(t.Context(), request())
	require.NoError(t, err)
	got := answer.Value
	require.Equal(t, "now", got.Start)
	require.Equal(t, change.Position(42), *got.StartPosition, "now becomes a position once, at creation")
	require.Equal(t, changefeed.StateStarting, got.State)
	require.NotEmpty(t, got.UID)
	require.Equal(t, "101", got.Revision)
	require.Contains(t, string(answer.Raw), `"start_position":"42"`)

	_, err = c.Create(t.Context(), request())
	require.Equal(t, http.StatusConflict, problemIn(t, err).Status)
	require.Equal(t, changefeed.CodeExists, problemIn(t, err).Code)
}

func TestCreateWithAnUnreachableSource(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	answer, err := c.Create(t.Context(), request())
	require.NoError(t, err)
	require.Nil(t, answer.Value.StartPosition, "its maintainer resolves it")
}

func TestCreateRefuses(t *testing.T) {
	f := newFake()
	f.heads[source] = Look{Head: 42, Store: endpoint.Store{ClusterID: "other"}}
	f.heads["etcd://10.0.0.9:2379/orders/copy/"] = Look{Store: endpoint.Store{ClusterID: "other"}}
	c, _ := serve(t, f)
	for name, tc := range map[string]struct {
		change func(*shape.Create)
		field  string
		code   changefeed.Code
		status int
	}{
		"an empty name":                 {func(r *shape.Create) { r.Name = "" }, "name", changefeed.CodeRequestInvalid, 400},
		"a name with a slash":           {func(r *shape.Create) { r.Name = "a/b" }, "name", changefeed.CodeRequestInvalid, 400},
		"a name that is long":           {func(r *shape.Create) { r.Name = strings.Repeat("x", 129) }, "name", changefeed.CodeRequestInvalid, 400},
		"a name with control letters":   {func(r *shape.Create) { r.Name = "a\x01" }, "name", changefeed.CodeRequestInvalid, 400},
		"an unknown scheme":             {func(r *shape.Create) { r.Source = "gopher://x/" }, "source", changefeed.CodeRequestInvalid, 400},
		"a scheme that is no source":    {func(r *shape.Create) { r.Source = sink }, "source", changefeed.CodeRequestInvalid, 400},
		"a literal password":            {func(r *shape.Create) { r.Source = "etcd://u:secret@10.0.0.1:2379/x/" }, "source", changefeed.CodeRequestInvalid, 400},
		"an unknown option":             {func(r *shape.Create) { r.Options = changefeed.Options{"colour": "red"} }, "options.colour", changefeed.CodeRequestInvalid, 400},
		"an option of another kind":     {func(r *shape.Create) { r.Sink = "blackhole:"; r.Options = changefeed.Options{"compress": "zstd"} }, "options.compress", changefeed.CodeRequestInvalid, 400},
		"a bad option":                  {func(r *shape.Create) { r.Options = changefeed.Options{"compress": "brotli"} }, "options.compress", changefeed.CodeRequestInvalid, 400},
		"a start that is none":          {func(r *shape.Create) { r.Start = "yesterday" }, "start", changefeed.CodeRequestInvalid, 400},
		"position 0":                    {func(r *shape.Create) { r.Start = "0" }, "start", changefeed.CodeRequestInvalid, 400},
		"a position in the future":      {func(r *shape.Create) { r.Start = "43" }, "start", changefeed.CodeRequestInvalid, 400},
		"a sink in the source by id":    {func(r *shape.Create) { r.Sink = "etcd://10.0.0.9:2379/orders/copy/" }, "sink", changefeed.CodeSinkLoop, 422},
		"a sink in the source by host":  {func(r *shape.Create) { r.Source = "etcd://h:1/a/"; r.Sink = "etcd://h:1/a/b/" }, "sink", changefeed.CodeSinkLoop, 422},
		"a source among our records":    {func(r *shape.Create) { r.Source = "etcd://localhost:2379/cdc/default/" }, "source", changefeed.CodeSinkLoop, 422},
		"a sink among anybody's claims": {func(r *shape.Create) { r.Sink = "etcd://far:2379/cdc-claims/x/" }, "sink", changefeed.CodeSinkLoop, 422},
	} {
		t.Run(name, func(t *testing.T) {
			r := request()
			tc.change(&r)
			_, err := c.Create(t.Context(), r)
			problem := problemIn(t, err)
			require.Equal(t, tc.code, problem.Code, problem)
			require.Equal(t, tc.status, problem.Status)
			require.Equal(t, tc.field, problem.Field)
			require.NotEmpty(t, problem.Cure)
			require.NotContains(t, err.Error(), "secret")
			require.NotContains(t, err.Error(), "\n")
		})
	}
	require.Empty(t, f.views)
}

func TestAnOptionOfOtherSinksNamesTheSinksThatTakeIt(t *testing.T) {
	c, _ := serve(t, newFake())
	r := request()
	r.Sink, r.Options = "blackhole:", changefeed.Options{"compress": "zstd"}
	_, err := c.Create(t.Context(), r)
	problem := problemIn(t, err)
	require.Equal(t, "is not an option of a blackhole sink", problem.Detail)
	require.Equal(t, "leave it out, or use a sink that takes it: file", problem.Cure)
}

func TestBodies(t *testing.T) {
	_, server := serve(t, newFake())
	for name, tc := range map[string]struct {
		body   string
		status int
	}{
		"not JSON":         {"{", 400},
		"a misspelt field": {`{"nmae":"x"}`, 400},
		"two objects":      {`{"name":"x"} {}`, 400},
		"too large":        {`{"name":"` + strings.Repeat("x", bodyBytesMax) + `"}`, 413},
	} {
		t.Run(name, func(t *testing.T) {
			response, err := http.Post(server.URL+"/api/v1/changefeeds", "application/json", strings.NewReader(tc.body))
			require.NoError(t, err)
			defer func() { _ = response.Body.Close() }()
			require.Equal(t, tc.status, response.StatusCode)
			require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
		})
	}
}

func TestListPages(t *testing.T) {
	f := newFake()
	c, server := serve(t, f)
	for _, name := range []string{"c", "a", "b"} {
		require.NoError(t, f.CreateSpec(t.Context(), record.Spec{UID: "u", Namespace: "default", Name: name, Desired: "running"}))
	}
	require.NoError(t, f.CreateSpec(t.Context(), record.Spec{UID: "u", Namespace: "other", Name: "z", Desired: "running"}))
	read := func(query string) (shape.List[shape.Changefeed], int) {
		response, err := http.Get(server.URL + "/api/v1/changefeeds" + query)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		var out shape.List[shape.Changefeed]
		require.NoError(t, json.NewDecoder(response.Body).Decode(&out))
		return out, response.StatusCode
	}
	first, _ := read("?limit=2")
	require.Len(t, first.Items, 2)
	require.Equal(t, "default/b", first.Next)
	second, _ := read("?limit=2&after=" + first.Next)
	require.Equal(t, "z", second.Items[1].Name)
	require.Empty(t, second.Next)
	only, _ := read("?namespace=other")
	require.Len(t, only.Items, 1)
	for _, bad := range []string{"?limit=0", "?limit=1001", "?limit=x", "?after=nope"} {
		_, status := read(bad)
		require.Equal(t, 400, status, bad)
	}
	all, err := c.All(t.Context(), "")
	require.NoError(t, err)
	require.Len(t, all.Value.Items, 4)
}

// F25: an update compares the revision that the caller read.
func TestUpdateComparesTheRevision(t *testing.T) {
	f := newFake()
	c, server := serve(t, f)
	created, err := c.Create(t.Context(), request())
	require.NoError(t, err)
	changed := request()
	changed.Options = changefeed.Options{"compress": "zstd"}

	put := func(match string) int {
		body, err := json.Marshal(changed)
		require.NoError(t, err)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL+"/api/v1/changefeeds/default/orders", strings.NewReader(string(body)))
		require.NoError(t, err)
		if match != "" {
			r.Header.Set("If-Match", match)
		}
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode
	}
	require.Equal(t, http.StatusPreconditionRequired, put(""))
	require.Equal(t, http.StatusPreconditionFailed, put(`"1"`))
	require.Equal(t, "zstd", must(c.Update(t.Context(), orders, created.Value.Revision, changed)).Value.Options["compress"])
	_, err = c.Update(t.Context(), orders, created.Value.Revision, changed)
	require.Equal(t, http.StatusPreconditionFailed, problemIn(t, err).Status)

	// Unchanged stays unchanged.
	now := must(c.Changefeed(t.Context(), orders)).Value.Revision
	require.Equal(t, now, must(c.Update(t.Context(), orders, now, changed)).Value.Revision)

	// Somebody is faster between our read and our write.
	f.before = func() {
		f.before = nil
		view, err := f.Changefeed(t.Context(), orders)
		require.NoError(t, err)
		require.NoError(t, f.UpdateSpec(t.Context(), view.Spec, *view.Spec.Value))
	}
	changed.Options = nil
	_, err = c.Update(t.Context(), orders, now, changed)
	require.Equal(t, http.StatusPreconditionFailed, problemIn(t, err).Status)
}

func must[T any](value T, err error) T {
	if err != nil {
		panic(err)
	}
	return value
}

func TestUpdateKeepsWhatIsFixed(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	created := must(c.Create(t.Context(), request())).Value
	for field, change := range map[string]func(*shape.Create){
		"source": func(r *shape.Create) { r.Source = "etcd://10.0.0.1:2379/other/" },
		"sink":   func(r *shape.Create) { r.Sink = "file:///elsewhere" },
		"start":  func(r *shape.Create) { r.Start = "snapshot" },
		"name":   func(r *shape.Create) { r.Name = "other" },
	} {
		r := request()
		change(&r)
		_, err := c.Update(t.Context(), orders, created.Revision, r)
		require.Equal(t, field, problemIn(t, err).Field)
	}
	moved := request()
	moved.Source = "etcd://10.0.0.2:2379/orders/"
	_, err := c.Update(t.Context(), orders, created.Revision, moved)
	require.Equal(t, changefeed.CodeSpecConflict, problemIn(t, err).Code, "hosts only while paused")
	paused := must(c.Pause(t.Context(), orders)).Value
	require.Equal(t, changefeed.StatePaused, paused.State)
	require.Equal(t, moved.Source, must(c.Update(t.Context(), orders, paused.Revision, moved)).Value.Source)
}

// A password that was shown as xxxxx and sent back means the one that is stored.
func TestHiddenPasswordsComeBack(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f, func(config *Config) { config.Literals = endpoint.AllowLiterals })
	r := request()
	r.Source = "etcd://u:secret@10.0.0.1:2379/orders/"
	created := must(c.Create(t.Context(), r))
	require.NotContains(t, string(created.Raw), "secret")
	r.Source, r.Options = created.Value.Source, changefeed.Options{"compress": "zstd"}
	require.Contains(t, r.Source, "xxxxx")
	must(c.Update(t.Context(), orders, created.Value.Revision, r))
	require.Contains(t, f.views[orders].Spec.Value.Source, "secret")
}

func TestPauseResumeRemoveBump(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	must(c.Create(t.Context(), request()))
	f.own(orders, "node-1", changefeed.StateRunning, 5)
	first := must(c.Pause(t.Context(), orders)).Value
	require.Equal(t, changefeed.DesiredPaused, first.Desired)
	require.Equal(t, first.Revision, must(c.Pause(t.Context(), orders)).Value.Revision, "pausing what is paused changes nothing")
	require.Equal(t, changefeed.DesiredRunning, must(c.Resume(t.Context(), orders)).Value.Desired)

	// Asked for once, and dropped by the next change.
	must(c.Bump(t.Context(), orders, nil))
	bump := f.views[orders].Spec.Value.Bump
	require.NotEmpty(t, bump)
	must(c.Bump(t.Context(), orders, new(fence.Epoch(5000))))
	require.NotEqual(t, bump, f.views[orders].Spec.Value.Bump)
	require.Equal(t, fence.Epoch(5000), f.floor)
	must(c.Pause(t.Context(), orders))
	require.Empty(t, f.views[orders].Spec.Value.Bump)

	// A resume of what failed is tried at once, also if it was never paused.
	must(c.Resume(t.Context(), orders))
	f.own(orders, "node-1", changefeed.StateFailed, 5)
	before := f.views[orders].Spec.Revision
	must(c.Resume(t.Context(), orders))
	require.Greater(t, f.views[orders].Spec.Revision, before)

	removed := must(c.Remove(t.Context(), orders)).Value
	require.Equal(t, changefeed.StateRemoving, removed.State)
	for _, ask := range []func() error{
		func() error { _, err := c.Pause(t.Context(), orders); return err },
		func() error { _, err := c.Resume(t.Context(), orders); return err },
		func() error { _, err := c.Bump(t.Context(), orders, nil); return err },
	} {
		require.Equal(t, changefeed.CodeSpecConflict, problemIn(t, ask()).Code)
	}
	must(c.ForceRemove(t.Context(), orders))
	require.Equal(t, changefeed.CodeNotFound, problemIn(t, second(c.Changefeed(t.Context(), orders))).Code)
}

func second[T any](_ T, err error) error { return err }

func TestHistoryIsNewestFirst(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	must(c.Create(t.Context(), request()))
	f.own(orders, "node-1", changefeed.StateRunning, 5)
	f.ended[orders] = []record.History{{Epoch: record.Epoch{Epoch: 50, Reason: changefeed.ReasonCreated}, Until: time.Unix(1, 0), FinalCheckpoint: 4, Ended: "owner_lost"}}
	items := must(c.History(t.Context(), orders)).Value.Items
	require.Len(t, items, 2)
	require.Nil(t, items[0].Until)
	require.Equal(t, fence.Epoch(50), items[1].Epoch)
	require.Equal(t, "owner_lost", items[1].Ended)
	_, err := c.History(t.Context(), changefeed.ID{Namespace: "default", Name: "nope"})
	require.Equal(t, http.StatusNotFound, problemIn(t, err).Status)
}

// The owner knows the cover; another node asks it, once.
func TestSpansAreAskedOfTheOwner(t *testing.T) {
	owner, other := newFake(), newFake()
	ownerClient, ownerServer := serve(t, owner)
	must(ownerClient.Create(t.Context(), request()))
	owner.own(orders, "node-1", changefeed.StateRunning, 5)
	owner.spans[orders] = []Span{{Span: changefeed.Whole(), Node: "node-1", Token: fence.Mint(101, 2), State: "running", Mark: change.At(5), Known: true, LagSeconds: -1}}
	other.views, other.self = owner.views, "node-2"
	other.nodes = []record.Node{{ID: "node-1", Name: "n1", HTTP: strings.TrimPrefix(ownerServer.URL, "http://")}, {ID: "node-2", Name: "n2"}}
	owner.nodes = other.nodes
	c, _ := serve(t, other)
	items := must(c.Spans(t.Context(), orders)).Value.Items
	require.Len(t, items, 1)
	require.Equal(t, "n1", items[0].NodeName)
	require.Equal(t, change.Position(5), *items[0].Checkpoint)
	require.Nil(t, items[0].LagSeconds)

	nodes := must(c.Nodes(t.Context())).Value.Items
	require.True(t, nodes[0].Coordinator)
	require.Equal(t, 5, *nodes[0].Dispatchers)
	cluster := must(c.Cluster(t.Context())).Value
	require.Equal(t, "n1", cluster.Coordinator.Name)
	require.Equal(t, int64(7), cluster.Coordinator.Term)

	ownerServer.Close()
	_, err := c.Spans(t.Context(), orders)
	require.Equal(t, http.StatusServiceUnavailable, problemIn(t, err).Status)
	require.Nil(t, must(c.Nodes(t.Context())).Value.Items[0].Dispatchers, "a node that doesn't answer is shown without")
}

func TestStates(t *testing.T) {
	running := &record.Spec{UID: "u", Desired: changefeed.DesiredRunning}
	paused := &record.Spec{UID: "u", Desired: changefeed.DesiredPaused}
	removed := &record.Spec{UID: "u", Desired: changefeed.DesiredRemoved}
	owned := &record.Epoch{UID: "u", Epoch: 9, Owner: "n"}
	nobody := &record.Epoch{UID: "u", Epoch: 9}
	status := func(epoch fence.Epoch, state changefeed.State) *record.Status {
		return &record.Status{UID: "u", Epoch: epoch, State: state}
	}
	for name, tc := range map[string]struct {
		spec   *record.Spec
		epoch  *record.Epoch
		status *record.Status
		want   changefeed.State
	}{
		"created":                   {running, nil, nil, changefeed.StateStarting},
		"a status of older epoch":   {running, owned, status(8, changefeed.StateRunning), changefeed.StateStarting},
		"running":                   {running, owned, status(9, changefeed.StateRunning), changefeed.StateRunning},
		"retrying":                  {running, owned, status(9, changefeed.StateRetrying), changefeed.StateRetrying},
		"released, to be taken on":  {running, owned, status(9, changefeed.StateReleased), changefeed.StateStarting},
		"being paused":              {paused, owned, status(9, changefeed.StateRunning), changefeed.StateRunning},
		"released for the pause":    {paused, owned, status(9, changefeed.StateReleased), changefeed.StateRunning},
		"paused":                    {paused, nobody, status(8, changefeed.StateReleased), changefeed.StatePaused},
		"paused before it ever ran": {paused, nil, nil, changefeed.StatePaused},
		"resumed":                   {running, nobody, status(8, changefeed.StateReleased), changefeed.StateStarting},
		"being removed":             {removed, owned, status(9, changefeed.StateRunning), changefeed.StateRemoving},
	} {
		require.Equal(t, tc.want, stateOf(tc.spec, tc.epoch, tc.status), name)
	}
}

// Records that don't parse are a state with the key's name, not an error of the list.
func TestRecordsThatDoNotParse(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	f.views[orders] = View{ID: orders, Spec: Stored[record.Spec]{Revision: 3, Fault: "/cdc/default/specs/default/orders is not a JSON object"}}
	shown := must(c.All(t.Context(), "")).Value.Items[0]
	require.Equal(t, changefeed.StateFailed, shown.State)
	require.Equal(t, changefeed.CodeRecordInvalid, shown.Error.Code)
	require.Contains(t, shown.Error.Message, "specs/default/orders")
	_, err := c.Pause(t.Context(), orders)
	require.Equal(t, changefeed.CodeRecordInvalid, problemIn(t, err).Code)
}

func TestTokensAndRoles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "tokens")
	require.NoError(t, os.WriteFile(path, []byte("# ours\nadmin:boss\n\nviewer:guest\n"), 0o600))
	tokens, err := ReadTokens(path)
	require.NoError(t, err)
	_, server := serve(t, newFake(), func(config *Config) { config.Tokens = tokens })
	ask := func(method, path, authorization string) int {
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		require.NoError(t, err)
		r.Header.Set("Authorization", authorization)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer func() { _ = response.Body.Close() }()
		return response.StatusCode
	}
	const resign = "/api/v1/coordinator/resign"
	require.Equal(t, 200, ask("GET", "/healthz", ""))
	require.Equal(t, 200, ask("GET", "/readyz", ""))
	for _, path := range []string{"/metrics", "/api/v1/nodes", "/api/v1/openapi.json"} {
		require.Equal(t, 401, ask("GET", path, ""), path)
		require.Equal(t, 401, ask("GET", path, "Bearer wrong"), path)
		require.Equal(t, 401, ask("GET", path, "Basic guest"), path)
		require.Equal(t, 200, ask("GET", path, "Bearer guest"), path)
	}
	require.Equal(t, 403, ask("POST", resign, "Bearer guest"))
	require.Equal(t, 202, ask("POST", resign, "bearer boss"))
	for _, bad := range []string{"", "root:x", "admin:", "secret"} {
		_, err := ParseTokens("f", []byte(bad))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestHostsAndOrigins(t *testing.T) {
	s := New(Config{Kinds: kinds(), Hosts: []string{"node.example:8300"}}, newFake())
	for name, tc := range map[string]struct {
		host, origin string
		status       int
	}{
		"loopback":         {"127.0.0.1:8300", "", 200},
		"localhost":        {"localhost:8300", "", 200},
		"IPv6":             {"[::1]:8300", "", 200},
		"advertised":       {"node.example:8300", "", 200},
		"rebinding":        {"evil.example:8300", "", 403},
		"own console":      {"127.0.0.1:8300", "http://127.0.0.1:8300", 200},
		"another's script": {"127.0.0.1:8300", "http://evil.example", 403},
	} {
		r := httptest.NewRequest(http.MethodGet, "/api/v1/nodes", nil)
		r.Host = tc.host
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
		}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		require.Equal(t, tc.status, w.Code, name)
	}
}

func TestHealthAndLevel(t *testing.T) {
	f := newFake()
	c, server := serve(t, f)
	require.Equal(t, "ok", must(c.Ready(t.Context())).Value.Status)
	f.notReady = errors.New("no session")
	_, err := c.Ready(t.Context())
	require.ErrorContains(t, err, "no session")
	require.Equal(t, 503, problemIn(t, err).Status)
	for body, status := range map[string]int{`{"level":"debug"}`: 200, `{"level":"loud"}`: 400, `{"level":"fatal"}`: 400} {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPut, server.URL+"/api/v1/log-level", strings.NewReader(body))
		require.NoError(t, err)
		response, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		_ = response.Body.Close()
		require.Equal(t, status, response.StatusCode, body)
	}
}

func TestUnknownPathsAndMethods(t *testing.T) {
	_, server := serve(t, newFake())
	for path, status := range map[string]int{"/nope": 404, "/api/v1/nope": 404} {
		response, err := http.Get(server.URL + path)
		require.NoError(t, err)
		_ = response.Body.Close()
		require.Equal(t, status, response.StatusCode, path)
	}
	response, err := http.Post(server.URL+"/api/v1/nodes", "", nil)
	require.NoError(t, err)
	_ = response.Body.Close()
	require.Equal(t, http.StatusMethodNotAllowed, response.StatusCode)
}

// Every route is documented, and what is documented is routed.
func TestDocumentCoversEveryRoute(t *testing.T) {
	_, server := serve(t, newFake())
	response, err := http.Get(server.URL + "/api/v1/openapi.json")
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	data, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	var document struct {
		Paths      map[string]map[string]any
		Components struct{ Schemas map[string]any }
	}
	require.NoError(t, json.Unmarshal(data, &document))
	s := New(Config{Kinds: kinds()}, newFake())
	documented := 0
	for path, methods := range document.Paths {
		for method := range methods {
			documented++
			prefix := "/api/v1"
			if slices.Contains(atRoot, path) {
				prefix = ""
			}
			target := strings.NewReplacer("{namespace}", "default", "{name}", "orders").Replace(prefix + path)
			_, pattern := s.mux.Handler(httptest.NewRequest(strings.ToUpper(method), target, nil))
			require.Equal(t, strings.ToUpper(method)+" "+prefix+path, pattern)
		}
	}
	require.Equal(t, len(s.handlers())+2+len(atRoot), documented, "and the events and comparisons, which are no one answer")
	require.Contains(t, document.Components.Schemas, "Changefeed")
	require.Contains(t, document.Components.Schemas, "ListOfSpan")
}
