package integration

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// problem is what the API says of what it refuses.
type problem struct {
	Status int    `json:"status"`
	Code   string `json:"code"`
	Detail string `json:"detail"`
	Field  string `json:"field"`
	Value  string `json:"value"`
	Cure   string `json:"cure"`
}

// post sends JSON to the API and returns the problem that it answered.
func post(t *testing.T, s *server, path, body string) problem {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url()+path, strings.NewReader(body))
	require.NoError(t, err)
	request.Header.Set("Content-Type", "application/json")
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	var out problem
	require.NoError(t, json.NewDecoder(response.Body).Decode(&out))
	require.Equal(t, response.StatusCode, out.Status)
	require.Equal(t, "application/problem+json", response.Header.Get("Content-Type"))
	return out
}

// refused requires a command to end with the code, and one line on stderr that has all the parts.
func refused(t *testing.T, code int, parts []string, args ...string) {
	t.Helper()
	out := cli(t, args...)
	what := fmt.Sprintf("cdc-node %s\n%s%s", strings.Join(args, " "), out.stdout, out.stderr)
	require.Equal(t, code, out.code, what)
	require.Empty(t, out.stdout, what)
	require.Equal(t, 1, strings.Count(out.stderr, "\n"), what)
	require.NotContains(t, out.stderr, "panic", what)
	for _, part := range parts {
		require.Contains(t, out.stderr, part, what)
	}
}

// What can be told to be wrong when it is given is refused then, with the field, its value and what to do.
func TestWhatIsRefusedAtOnce(t *testing.T) {
	source, control := startEtcd(t, "source"), startEtcd(t, "control")
	c := startNodes(t, control, 1)
	node, from := c.all[0], "etcd://"+source.endpoint+"/orders/"
	alias := strings.Replace(source.endpoint, "127.0.0.1", "127.0.0.2", 1)
	for name, tc := range map[string]struct {
		feed, source, sink string
		extra              []string
		code               int
		parts              []string
	}{
		"unknown scheme of a source":    {source: "oracle://h/db", code: 2, parts: []string{"request.invalid", "source", "oracle://h/db", "scheme", "write etcd://"}},
		"unknown scheme of a sink":      {sink: "kafka://h/topic", code: 2, parts: []string{"request.invalid", "sink", "kafka://h/topic", "scheme", "write "}},
		"unknown option":                {extra: []string{"--option", "colour=red"}, code: 2, parts: []string{"request.invalid", "colour"}},
		"option of another kind":        {extra: []string{"--option", "rotate_bytes=1000000"}, sink: "stdout:", code: 2, parts: []string{"rotate_bytes"}},
		"value of an option":            {extra: []string{"--option", "batch_changes=many"}, code: 2, parts: []string{"batch_changes", "many"}},
		"unknown flag":                  {extra: []string{"--colour", "red"}, code: 2, parts: []string{"--colour", "--help"}},
		"name with a slash too many":    {feed: "a/b/c", code: 2, parts: []string{"request.invalid", "name", "b/c", "/ too many", "write name or namespace/name"}},
		"empty name":                    {feed: "empty", code: 2, parts: []string{"request.invalid", "name", "is empty", "give a name"}},
		"empty namespace":               {feed: "/a", code: 2, parts: []string{"namespace", "is empty"}},
		"name that is too long":         {feed: strings.Repeat("n", 129), code: 2, parts: []string{"129 bytes, more than 128", "shorten it"}},
		"name with control characters":  {feed: "a\x07b", code: 2, parts: []string{`a\ab`, "control characters"}},
		"name with a line break":        {feed: "a\nb", code: 2, parts: []string{`a\nb`, "control characters"}},
		"name that is not UTF-8":        {feed: "a\xffb", code: 2, parts: []string{"UTF-8"}},
		"loop":                          {sink: "etcd://" + source.endpoint + "/orders/copy/", code: 2, parts: []string{"sink.loop", "/orders/copy/", "choose prefixes that don't overlap"}},
		"loop the other way round":      {sink: "etcd://" + source.endpoint + "/", code: 2, parts: []string{"sink.loop"}},
		"loop by another name":          {sink: "etcd://" + alias + "/orders/copy/", code: 2, parts: []string{"sink.loop", alias}},
		"loop by the claims":            {source: "etcd://" + source.endpoint + "/", sink: "etcd://" + source.endpoint + "/else/", code: 2, parts: []string{"sink.loop"}},
		"source among the records":      {source: "etcd://" + control.endpoint + "/cdc/default/", code: 2, parts: []string{"sink.loop", "source", "records of this cluster"}},
		"sink among the records":        {sink: "etcd://" + control.endpoint + "/cdc/x/", code: 2, parts: []string{"sink.loop", "sink"}},
		"sink over the records":         {sink: "etcd://" + control.endpoint + "/", code: 2, parts: []string{"sink.loop", "records"}},
		"position in the future":        {extra: []string{"--start", "999999999"}, code: 2, parts: []string{"request.invalid", "start 999999999", "future", "give now, snapshot"}},
		"position that is none":         {extra: []string{"--start", "yesterday"}, code: 2, parts: []string{"request.invalid", "start", "yesterday", "give now, snapshot"}},
		"position zero":                 {extra: []string{"--start", "0"}, code: 2, parts: []string{"start", "above 0"}},
		"literal password":              {source: "etcd://u:s3cretpw@h/x/", code: 2, parts: []string{"source", "literal password", "${env:NAME}", "xxxxx"}},
		"relative directory":            {sink: "file://dir", code: 2, parts: []string{"sink", "file:///absolute"}},
		"host in a sink without one":    {sink: "stdout://host", code: 2, parts: []string{"sink"}},
		"port that is none":             {source: "etcd://h:99999/x/", code: 2, parts: []string{"source", "port"}},
		"kind that can't be a source":   {source: "file:///tmp/x", code: 2, parts: []string{"source"}},
		"tls file that is not absolute": {extra: []string{"--option", "tls_ca=ca.pem"}, code: 2, parts: []string{"tls_ca", "absolute"}},
		"empty split key":               {extra: []string{"--option", "split_keys=/orders/b,,/orders/c"}, code: 2, parts: []string{"split_keys"}},
	} {
		t.Run(name, func(t *testing.T) {
			feed := tc.feed
			switch feed {
			case "":
				feed = "feed"
			case "empty":
				feed = ""
			}
			if tc.source == "" {
				tc.source = from
			}
			if tc.sink == "" {
				tc.sink = "blackhole:"
			}
			args := append([]string{"changefeed", "create", feed, "--server", node.url(), "--source", tc.source, "--sink", tc.sink}, tc.extra...)
			refused(t, tc.code, tc.parts, args...)
		})
	}
	require.JSONEq(t, `{"items":[]}`, must(t, "changefeed", "list", "--server", node.url(), "-o", "json"), "nothing of it was created")
	require.NotContains(t, node.Output.String(), "s3cretpw")

	t.Run("by the API", func(t *testing.T) {
		for body, want := range map[string]problem{
			`{`: {Status: 400, Code: "request.invalid"},
			`{"name":"a","source":"etcd://h/x/","sink":"blackhole:","colour":"red"}`:               {Status: 400, Code: "request.invalid"},
			`{"name":"a/b","source":"etcd://h/x/","sink":"blackhole:"}`:                            {Status: 400, Code: "request.invalid", Field: "name"},
			`{"name":"","source":"etcd://h/x/","sink":"blackhole:"}`:                               {Status: 400, Code: "request.invalid", Field: "name"},
			`{"name":"a","source":"` + from + `","sink":"etcd://` + source.endpoint + `/orders/"}`: {Status: 422, Code: "sink.loop", Field: "sink"},
			`{"name":"a","source":"` + from + `","sink":"blackhole:","start":"99999999999"}`:       {Status: 400, Code: "request.invalid", Field: "start"},
			`{"name":"` + strings.Repeat("x", 3<<20) + `"}`:                                        {Status: 413, Code: "limit.exceeded"},
		} {
			got := post(t, node, "/api/v1/changefeeds", body)
			require.Equal(t, want.Status, got.Status, "%.200s: %+v", body, got)
			require.Equal(t, want.Code, got.Code, "%.200s", body)
			require.NotEmpty(t, got.Cure, "%.200s", body)
			if want.Field != "" {
				require.Equal(t, want.Field, got.Field, "%.200s", body)
			}
		}
	})
	t.Run("names that are not there, or there already", func(t *testing.T) {
		must(t, "changefeed", "create", "there", "--server", node.url(), "--source", from, "--sink", "blackhole:")
		refused(t, 4, []string{"changefeed.exists", "default/there"}, "changefeed", "create", "there", "--server", node.url(), "--source", from, "--sink", "blackhole:")
		for _, command := range []string{"get", "pause", "resume", "remove", "spans", "history", "wait"} {
			refused(t, 4, []string{"changefeed.not_found", "default/nobody"}, "changefeed", command, "nobody", "--server", node.url())
		}
		refused(t, 2, []string{"name", "/ too many"}, "changefeed", "get", "a/b/c", "--server", node.url())
	})
}

// A server that can't start says why in one line, on which flag, and ends with the code for it.
func TestServersThatCannotStart(t *testing.T) {
	etcd := startEtcd(t, "control")
	base := []string{"--http-addr", freeAddr(t), "--peer-addr", freeAddr(t), "--session-ttl", "2s", "--log-level", "error"}
	try := func(code int, parts []string, extra ...string) {
		t.Helper()
		args := append([]string{"server", "--data-dir", t.TempDir()}, base...)
		if !slices.Contains(extra, "--etcd") {
			args = append(args, "--etcd", etcd.endpoint)
		}
		refused(t, code, parts, append(args, extra...)...)
	}
	try(2, []string{"--colour"}, "--colour")
	try(2, []string{"session-ttl", "1s", "at least 2s"}, "--session-ttl", "1s")
	try(2, []string{"name", "a/b"}, "--name", "a/b")
	try(2, []string{"cluster"}, "--cluster", "a/b")
	try(2, []string{"http-addr", "0.0.0.0:0", "--http-token-file"}, "--http-addr", "0.0.0.0:0")
	try(2, []string{"peer-addr", "0.0.0.0:0", "--tls-cert", "--allow-open-api"}, "--peer-addr", "0.0.0.0:0")
	try(2, []string{"tls-cert", "together"}, "--tls-cert", "/x.pem")
	try(2, []string{"--http-token-file", "/does/not/exist"}, "--http-token-file", "/does/not/exist")
	try(2, []string{"log-level", "loud"}, "--log-level", "loud")
	try(3, []string{"--http-addr", etcd.endpoint, "address already in use", "give another address"}, "--http-addr", etcd.endpoint)
	began := time.Now()
	try(3, []string{"etcd.unreachable", "--etcd", "127.0.0.1:1", "see that etcd runs"}, "--etcd", "127.0.0.1:1", "--start-timeout", "2s")
	require.Less(t, time.Since(began), 20*time.Second, "it does not hang")
	try(2, []string{"--etcd"}, "--etcd", "http://[bad")
}

// A name belongs to one living node. A second one of that name is refused, and the first goes on; one that starts after
// the first was killed waits for its lease to end, and takes over.
func TestSecondNodeOfTheSameName(t *testing.T) {
	etcd := startEtcd(t, "control")
	c := startNodes(t, etcd, 1)
	first := c.all[0]
	id := c.nodeID(first)
	refused(t, 4, []string{"node.name_taken", "n1", "--name"}, "server", "--name", "n1", "--etcd", etcd.endpoint, "--http-addr", freeAddr(t),
		"--peer-addr", freeAddr(t), "--session-ttl", sessionTTL.String(), "--data-dir", t.TempDir(), "--log-level", "error")
	require.NoError(t, ready(t.Context(), first))
	require.Equal(t, id, c.nodeID(first), "the first was not disturbed")

	first.Kill()
	c.restart(first) // at once, while the lease of the killed one still lives
	require.NotEqual(t, id, c.nodeID(first))
}

// Sources and sinks that can't be reached make no hang and no failure: a state with the reason and the time of the next
// try, and they heal when the target comes up.
func TestUnreachableSourceAndSink(t *testing.T) {
	t.Parallel() // it waits for the most part
	source := startEtcd(t, "source")
	c := startNodes(t, startEtcd(t, "control"), 2)
	via := c.all[0].url()
	late := freeAddr(t)
	began := time.Now()
	for name, uris := range map[string][2]string{
		"from": {"etcd://" + late + "/orders/", "blackhole:"},
		"to":   {"etcd://" + source.endpoint + "/orders/", "etcd://" + late + "/copy/"},
	} {
		must(t, "changefeed", "create", name, "--server", via, "--source", uris[0], "--sink", uris[1])
	}
	require.Less(t, time.Since(began), 30*time.Second)
	must(t, "changefeed", "create", "bystander", "--server", via, "--source", "etcd://"+source.endpoint+"/orders/", "--sink", "blackhole:")
	for name, code := range map[string]string{"from": "source.unreachable", "to": "sink.unreachable"} {
		f := c.awaitState(name, "retrying")
		require.NotNil(t, f.Error, name)
		require.Equal(t, code, f.Error.Code, "%s: %s", name, f.Error.Message)
		require.NotNil(t, f.Error.NextTry, name)
		require.WithinDuration(t, time.Now(), *f.Error.NextTry, 11*time.Minute)
		require.Contains(t, f.Error.Message, late)
		require.NotContains(t, f.Error.Message, "\n")
	}
	c.awaitState("bystander", "running")
	table := must(t, "changefeed", "list", "--server", via)
	require.Contains(t, table, "retrying")
	up := startEtcdAt(t, "late", late)
	for _, name := range []string{"from", "to"} {
		must(t, "changefeed", "resume", name, "--server", via) // tries again at once
		c.awaitState(name, "running")
	}
	_, err := source.client.Put(t.Context(), "/orders/a", "1")
	require.NoError(t, err)
	eventually(t, "the late target has the change", func() error {
		if got := up.stored("/copy/"); got["a"].Value != "1" {
			return fmt.Errorf("it has %v", got)
		}
		return nil
	})
}

// Another name of the same etcd is seen when it is reached, although nothing answered when the changefeed was created.
func TestLoopThatShowsOnlyLater(t *testing.T) {
	t.Parallel() // it waits for the most part
	late := freeAddr(t)
	alias := aliasOf(t, late)
	c := startNodes(t, startEtcd(t, "control"), 1)
	via := c.all[0].url()
	must(t, "changefeed", "create", "loop", "--server", via, "--source", "etcd://"+late+"/orders/",
		"--sink", "etcd://"+alias+"/orders/copy/", "--start", "snapshot")
	c.awaitState("loop", "retrying")
	up := startEtcdAt(t, "late", late, alias)
	_, err := up.client.Put(t.Context(), "/orders/a", "1")
	require.NoError(t, err)
	must(t, "changefeed", "resume", "loop", "--server", via)
	f := c.awaitState("loop", "failed")
	require.Equal(t, "sink.loop", f.Error.Code)
	require.Contains(t, f.Error.Message, "choose prefixes that don't overlap")
	require.Len(t, up.stored("/orders/"), 1, "no change was written")
}

// The cluster's own etcd by another name is seen as well.
func TestRecordsByAnotherNameOfTheirEtcd(t *testing.T) {
	addr := freeAddr(t)
	alias := aliasOf(t, addr)
	c := startNodes(t, startEtcdAt(t, "control", addr, alias), 1)
	via := c.all[0].url()
	refused(t, 2, []string{"sink.loop", "source", "records of this cluster"},
		"changefeed", "create", "a", "--server", via, "--source", "etcd://"+alias+"/cdc/default/", "--sink", "blackhole:")
	refused(t, 2, []string{"sink.loop", "sink", "records of this cluster"},
		"changefeed", "create", "a", "--server", via, "--source", "etcd://"+freeAddr(t)+"/orders/", "--sink", "etcd://"+alias+"/")
}

// aliasOf is another address at which a listener on all of them is reached.
func aliasOf(t *testing.T, addr string) string {
	t.Helper()
	_, port, err := net.SplitHostPort(addr)
	require.NoError(t, err)
	addrs, err := net.InterfaceAddrs()
	require.NoError(t, err)
	for _, one := range addrs {
		if ip, ok := one.(*net.IPNet); ok && ip.IP.To4() != nil && !ip.IP.IsLoopback() {
			return net.JoinHostPort(ip.IP.String(), port)
		}
	}
	t.Skip("this machine has no address but loopback, so no second name for an etcd")
	return ""
}
