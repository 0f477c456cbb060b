package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/stretchr/testify/require"

	"fencerow/api/client"
	"fencerow/changefeed"
	"fencerow/node"
)

func TestMain(m *testing.M) { testscript.Main(m, map[string]func(){"cdc-node": main}) }

// Commands that need no server: testdata/script.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{Dir: "testdata/script", RequireExplicitExec: true})
}

// Commands against the server of `cdc-node dev`: testdata/server.
func TestScriptsWithAServer(t *testing.T) { runWithServer(t, "testdata/server") }

// Likewise on a server of their own, since they change which nodes there are: testdata/motion.
func TestScriptsOfMotion(t *testing.T) { runWithServer(t, "testdata/motion") }

func runWithServer(t *testing.T, scripts string) {
	t.Helper()
	addr := freeAddr(t)
	var out, log syncBuffer
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan error, 1)
	dir := t.TempDir() // before the clean-up that stops the node, so that it goes after it
	go func() {
		ended <- node.RunDev(ctx, node.DevConfig{DataDir: dir, HTTPAddr: addr, Stdout: &out, Stderr: &log})
	}()
	t.Cleanup(func() {
		stop()
		require.NoError(t, <-ended)
		require.Contains(t, out.String(), `"changefeed":"default/demo"`)
		require.Contains(t, log.String(), "The console is at http://"+addr+"/")
	})
	api, err := client.New(client.Config{Server: "http://" + addr})
	require.NoError(t, err)
	var etcd string
	require.Eventually(t, func() bool {
		answer, err := api.Changefeed(t.Context(), changefeed.ID{Namespace: "default", Name: "demo"})
		if err != nil {
			return false
		}
		etcd = strings.TrimSuffix(strings.TrimPrefix(answer.Value.Source, "etcd://"), "/demo/")
		return true
	}, 30*time.Second, 20*time.Millisecond, log.String)
	testscript.Run(t, testscript.Params{
		Dir: scripts, RequireExplicitExec: true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("CDC_NODE_SERVER", "http://"+addr)
			env.Setenv("ETCD", etcd)
			return nil
		},
		Cmds: scriptCommands(api),
	})
	api.Close()
	http.DefaultClient.CloseIdleConnections()
}

// scriptCommands are what scripts need beside the binary: `expand FILE` puts variables in, `until STATE NAME` waits for a
// state, and `refused CODE ARGS…` runs cdc-node and wants that exit code, and nothing changed of orders; in ARGS `@N` stands for
// N keys.
func scriptCommands(api *client.Client) map[string]func(ts *testscript.TestScript, neg bool, args []string) {
	return map[string]func(ts *testscript.TestScript, neg bool, args []string){
		"expand": func(ts *testscript.TestScript, _ bool, args []string) {
			for _, file := range args {
				text := os.Expand(ts.ReadFile(file), ts.Getenv)
				ts.Check(os.WriteFile(ts.MkAbs(file), []byte(text), 0o600))
			}
		},
		"refused": func(ts *testscript.TestScript, _ bool, args []string) { refused(ts, api, args) },
		"until": func(ts *testscript.TestScript, _ bool, args []string) {
			ticker := time.NewTicker(20 * time.Millisecond)
			defer ticker.Stop()
			for began := time.Now(); time.Since(began) < time.Minute; <-ticker.C {
				answer, err := api.Changefeed(context.Background(), changefeed.ID{Namespace: "default", Name: args[1]})
				if err == nil && string(answer.Value.State) == args[0] {
					return
				}
			}
			ts.Fatalf("%s was never %s", args[1], args[0])
		},
	}
}

// refused runs a command that must be refused, with nothing half done.
func refused(ts *testscript.TestScript, api *client.Client, args []string) {
	look := func() string {
		answer, err := api.Changefeed(context.Background(), changefeed.ID{Namespace: "default", Name: "orders"})
		ts.Check(err)
		return fmt.Sprint(answer.Value.Revision, answer.Value.Options, answer.Value.OwnerName, answer.Value.Epoch)
	}
	var command []string
	for _, arg := range args[1:] {
		many, found := strings.CutPrefix(arg, "@")
		if !found {
			command = append(command, arg)
			continue
		}
		n, err := strconv.Atoi(many)
		ts.Check(err)
		for i := range n {
			command = append(command, "--at", fmt.Sprintf("/orders/k%04d", i))
		}
	}
	before := look()
	var code *exec.ExitError
	err := ts.Exec("cdc-node", command...)
	if !errors.As(err, &code) || strconv.Itoa(code.ExitCode()) != args[0] {
		ts.Fatalf("cdc-node %s ended with %v, not %s", strings.Join(args[1:], " "), err, args[0])
	}
	if after := look(); after != before {
		ts.Fatalf("cdc-node %s changed orders from %s to %s", strings.Join(args[1:], " "), before, after)
	}
}

func freeAddr(t *testing.T) string {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, listener.Close())
	return listener.Addr().String()
}

// syncBuffer is a buffer that a server writes while a test reads it.
type syncBuffer struct {
	mu     sync.Mutex // guards buffer
	buffer bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buffer.String()
}
