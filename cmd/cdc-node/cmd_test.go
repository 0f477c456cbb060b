package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/node"
)

// run runs a command in this process.
func run(t *testing.T, args ...string) (stdout string, err error) {
	t.Helper()
	root := newRoot()
	var out bytes.Buffer
	root.SetOut(&out)
	root.SetErr(&out)
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return out.String(), err
}

// answering is a server that answers everything alike.
func answering(t *testing.T, status int, body any) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func TestExitCodesOfAnswers(t *testing.T) {
	for status, code := range map[int]int{
		400: 2, 413: 2, 422: 2, 428: 2, 503: 3, 404: 4, 409: 4, 412: 4, 408: 5, 504: 5, 500: 1, 401: 1, 403: 1,
	} {
		url := answering(t, status, shape.Problem{Code: "x.y", Detail: "says no", Field: "name", Value: "a", Cure: "do else"})
		_, err := run(t, "changefeed", "get", "a", "--server", url)
		require.Equal(t, code, exitCode(err), "status %d", status)
		line := oneLine(err)
		require.NotContains(t, line, "\n")
		for _, part := range []string{"get default/a", "says no", "do else"} {
			require.Contains(t, line, part)
		}
	}
}

func TestExitCodesOfCommandLines(t *testing.T) {
	for _, line := range []string{
		"bogus", "changefeed bogus", "changefeed get", "changefeed get a b", "changefeed get a --nope", "changefeed get a -o xml",
		"changefeed get a/b/c", "changefeed get a --server nowhere", "changefeed get a --timeout 0s", "changefeed create a",
		"changefeed create a --source x: --sink y: --option nothing", "changefeed create a --source x: --sink y: --option a=1 --option a=2",
		"changefeed wait a --checkpoint x", "changefeed wait a --checkpoint 1 --caught-up", "epoch bump a --above x",
		"sink cat etcd://h:1/x/", "sink cat nonsense", "server --config /does/not/exist", "node", "changefeed get a --token-file /does/not/exist",
	} {
		_, err := run(t, strings.Fields(line)...)
		want := exitUsage
		if line == "node" {
			want = exitDone // shows its help
		}
		require.Equal(t, want, exitCode(err), "%s: %v", line, err)
	}
}

func TestExitCodesOfOthers(t *testing.T) {
	_, err := run(t, "changefeed", "list", "--server", "http://127.0.0.1:1")
	require.Equal(t, exitUnreachable, exitCode(err))
	require.Equal(t, exitUnreachable, exitCode(&changefeed.Fault{Code: changefeed.CodeRequestInvalid, Err: syscall.EADDRINUSE}), "a port is taken")
	require.Equal(t, exitConflict, exitCode(&changefeed.Fault{Code: changefeed.CodeNameTaken}))
	require.Equal(t, exitFailed, exitCode(errors.New("anything")))
	require.Equal(t, "one; two", oneLine(errors.New("one\n two\n"))) //nolint:revive // what the test is about

	release := make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	defer slow.Close()
	defer close(release)
	_, err = run(t, "changefeed", "get", "a", "--server", slow.URL, "--timeout", "50ms")
	require.Equal(t, exitTimeout, exitCode(err), "%v", err)
}

func feed(state changefeed.State, checkpoint change.Position) shape.Changefeed {
	return shape.Changefeed{Namespace: "default", Name: "a", UID: "u", State: state, Desired: changefeed.DesiredRunning, Checkpoint: &checkpoint, Revision: "5"}
}

func TestWait(t *testing.T) {
	for name, tc := range map[string]struct {
		feed shape.Changefeed
		code int
	}{
		"there":     {feed(changefeed.StateRunning, 10), exitDone},
		"not there": {feed(changefeed.StateRunning, 9), exitTimeout},
		"failed":    {feed(changefeed.StateFailed, 9), exitFailed},
	} {
		_, err := run(t, "changefeed", "wait", "a", "--checkpoint", "10", "--timeout", "300ms", "--server", answering(t, 200, tc.feed))
		require.Equal(t, tc.code, exitCode(err), "%s: %v", name, err)
	}
}

func TestOutputs(t *testing.T) {
	f := feed(changefeed.StateRunning, 10)
	url := answering(t, 200, shape.List[shape.Changefeed]{Items: []shape.Changefeed{f}})
	table, err := run(t, "changefeed", "list", "--server", url)
	require.NoError(t, err)
	require.Regexp(t, `NAMESPACE +NAME +STATE`, table)
	require.Regexp(t, `default +a +running`, table)
	text, err := run(t, "changefeed", "list", "--server", url, "-o", "json")
	require.NoError(t, err)
	var list shape.List[shape.Changefeed]
	require.NoError(t, json.Unmarshal([]byte(text), &list))
	require.Equal(t, "a", list.Items[0].Name)
}

func TestCreateSendsWhatWasGiven(t *testing.T) {
	var got shape.Create
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewDecoder(r.Body).Decode(&got)
		_ = json.NewEncoder(w).Encode(feed(changefeed.StateStarting, 0))
	}))
	defer server.Close()
	t.Setenv("CDC_NODE_SERVER", server.URL)
	_, err := run(t, "changefeed", "create", "shop/orders", "--source", "etcd://h:1/a/", "--sink", "stdout:", "--option", "split_keys=a,b", "--start", "7")
	require.NoError(t, err)
	require.Equal(t, shape.Create{
		Namespace: "shop", Name: "orders", Source: "etcd://h:1/a/", Sink: "stdout:", Start: "7", Options: changefeed.Options{"split_keys": "a,b"},
	}, got)
	help, err := run(t, "changefeed", "create", "--help")
	require.NoError(t, err)
	for _, part := range []string{"Options of sink file", "rotate_bytes", "Options of source etcd", "on_gap", "split_keys"} {
		require.Contains(t, help, part)
	}
}

func TestServerFlags(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "node.yaml")
	parse := func(yaml string, env map[string]string, args ...string) (node.Config, error) {
		require.NoError(t, os.WriteFile(path, []byte(yaml), 0o600))
		var config node.Config
		flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
		serverFlags(flags, &config)
		require.NoError(t, flags.Parse(args))
		if err := readEnv(flags, func(name string) (string, bool) { value, found := env[name]; return value, found }); err != nil {
			return config, err
		}
		return config, readConfig(flags, path)
	}
	config, err := parse("name: file\ncluster: file\nsession-ttl: 7s\nhandoff-timeout: 3s\nallow-old-etcd: true\netcd: [a:1, b:2]\nhttp-addr: file:1\n",
		map[string]string{"CDC_NODE_CLUSTER": "env", "CDC_NODE_HTTP_ADDR": "env:1"}, "--http-addr", "line:1")
	require.NoError(t, err)
	require.Equal(t, "file", config.Name)
	require.Equal(t, "env", config.Cluster, "the environment goes before the file")
	require.Equal(t, "line:1", config.HTTPAddr, "the command line goes before both")
	require.Equal(t, 7*time.Second, config.SessionTTL)
	require.Equal(t, 3*time.Second, config.HandoffTimeout)
	require.True(t, config.AllowOldEtcd)
	require.Equal(t, []string{"a:1", "b:2"}, config.Etcd)
	for _, bad := range []string{"nmae: x", "session-ttl: soon", "- a", "config: x", "name: a\nname: b"} {
		_, err := parse(bad, nil)
		require.Equal(t, exitUsage, exitCode(err), bad)
	}
	_, err = parse("", map[string]string{"CDC_NODE_SESSION_TTL": "soon"})
	require.ErrorContains(t, err, "CDC_NODE_SESSION_TTL")
	require.Equal(t, exitUsage, exitCode(err))
}

// Every flag of the contract is there.
func TestServerHasTheFlagsOfTheContract(t *testing.T) {
	var config node.Config
	flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
	serverFlags(flags, &config)
	for name := range strings.FieldsSeq(`name cluster etcd etcd-listen-client etcd-advertise-client etcd-listen-peer etcd-advertise-peer
		etcd-initial-cluster etcd-initial-cluster-state data-dir http-addr peer-addr advertise-http advertise-peer session-ttl status-interval
		start-timeout stop-timeout handoff-timeout allow-old-etcd allow-literal-secrets allow-open-api log-level log-format tls-cert tls-key tls-ca etcd-cert
		etcd-key etcd-ca etcd-user etcd-password-file http-token-file trace-endpoint`) {
		require.NotNil(t, flags.Lookup(name), fmt.Sprintf("--%s", name))
	}
}

func TestVersionAndHealth(t *testing.T) {
	out, err := run(t, "version")
	require.NoError(t, err)
	require.Contains(t, out, "cdc-node")
	_, err = run(t, "health", "--url", answering(t, 200, shape.Health{Status: "ok"}))
	require.NoError(t, err)
	_, err = run(t, "health", "--url", answering(t, 503, shape.Health{Status: "unavailable", Reason: "no session"}))
	require.Equal(t, exitUnreachable, exitCode(err))
	require.ErrorContains(t, err, "no session")

	t.Setenv("CDC_NODE_SERVER", answering(t, 200, shape.Health{Status: "ok"}))
	_, err = run(t, "health")
	require.NoError(t, err)
	_, err = run(t, "health", "--url", "http://127.0.0.1:1")
	require.Equal(t, exitUnreachable, exitCode(err), "what is given goes before the environment")
}

// Every command shows how in its help.
func TestEveryCommandShowsAnExample(t *testing.T) {
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			check(sub)
		}
		if cmd.Name() == "help" {
			return
		}
		require.Contains(t, cmd.Example, cmd.CommandPath(), cmd.CommandPath())
		require.NotEmpty(t, cmd.Short, cmd.CommandPath())
	}
	check(newRoot())
}

// What has an answer of the API can be read by a program.
func TestEveryAnswerComesAsJSONToo(t *testing.T) {
	without := []string{"dev", "server", "etcd", "etcdctl", "etcdutl", "cat", "bash", "fish", "powershell", "zsh"}
	var check func(cmd *cobra.Command)
	check = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			check(sub)
		}
		if cmd.HasSubCommands() || slices.Contains(without, cmd.Name()) {
			return
		}
		require.NotNil(t, cmd.Flags().Lookup("output"), cmd.CommandPath())
	}
	check(newRoot())
}
