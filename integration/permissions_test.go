package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// permission is one of those that docs/security.md says are enough, and no more.
type permission struct {
	of     string // who: the nodes, an etcd source, an etcd sink
	kind   clientv3.PermissionType
	prefix string
}

var permissionRow = regexp.MustCompile("(?m)^\\|([^|]*)\\| (read|read and write) \\| (?:the prefix `([^`]+)`|the (source|target)'s prefix)")

// documentedPermissions reads the table of the page.
func documentedPermissions(t *testing.T, clusterID string) (nodes, data []permission) {
	t.Helper()
	of := ""
	for _, row := range permissionRow.FindAllStringSubmatch(text(t, "docs/security.md"), -1) {
		if who := strings.TrimSpace(row[1]); who != "" {
			of = who
		}
		one := permission{of: of, kind: clientv3.PermissionType(clientv3.PermRead)}
		if row[2] == "read and write" {
			one.kind = clientv3.PermissionType(clientv3.PermReadWrite)
		}
		one.prefix = strings.NewReplacer("<cluster>", "default", "<cluster id>", clusterID).Replace(row[3])
		switch row[4] {
		case "source":
			one.prefix = sourcePrefix
		case "target":
			one.prefix = targetPrefix
		}
		if strings.HasPrefix(of, "the nodes") {
			nodes = append(nodes, one)
		} else {
			data = append(data, one)
		}
	}
	require.Len(t, nodes, 1)
	require.Len(t, data, 4)
	return nodes, data
}

const (
	limited         = "limited"
	limitedPassword = "limited-s3cret"
)

// guarded has a member ask who its users are, and returns what gives the limited one exactly some permissions.
func guarded(t *testing.T, m *member) (grant func(...permission)) {
	t.Helper()
	ctx, made := t.Context(), m.client
	do := func(_ any, err error) { require.NoError(t, err) }
	do(made.UserAdd(ctx, "root", rootPassword))
	do(made.UserGrantRole(ctx, "root", "root"))
	do(made.UserAdd(ctx, limited, limitedPassword))
	do(made.RoleAdd(ctx, limited))
	do(made.UserGrantRole(ctx, limited, limited))
	do(made.AuthEnable(ctx))
	root, err := clientv3.New(clientv3.Config{Endpoints: []string{m.endpoint}, Username: "root", Password: rootPassword, Logger: zap.NewNop()})
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	m.client = root
	return func(to ...permission) {
		t.Helper()
		role, err := root.RoleGet(ctx, limited)
		require.NoError(t, err)
		for _, had := range role.Perm {
			do(root.RoleRevokePermission(ctx, limited, string(had.Key), string(had.RangeEnd)))
		}
		for _, one := range to {
			do(root.RoleGrantPermission(ctx, limited, one.prefix, clientv3.GetPrefixRangeEnd(one.prefix), one.kind))
		}
	}
}

// weaker lists what is left of permissions when one is taken away, wholly or by half, each in turn.
func weaker(all []permission) map[string][]permission {
	out := map[string][]permission{}
	for i, one := range all {
		rest := append(append([]permission{}, all[:i]...), all[i+1:]...)
		out[one.of+" without "+one.prefix] = rest
		if one.kind == clientv3.PermissionType(clientv3.PermReadWrite) {
			reads, writes := one, one
			reads.kind, writes.kind = clientv3.PermissionType(clientv3.PermRead), clientv3.PermissionType(clientv3.PermWrite)
			out[one.of+" only reads "+one.prefix] = append([]permission{reads}, rest...)
			out[one.of+" only writes "+one.prefix] = append([]permission{writes}, rest...)
		}
	}
	return out
}

// Each permission that the page asks for is needed: without it, or with half of it, a changefeed does not run, says so, and
// runs once it is there.
func TestEachDocumentedPermissionOfDataIsNeeded(t *testing.T) {
	control, data := startEtcd(t, "control"), startEtcd(t, "data")
	_, all := documentedPermissions(t, strconv.FormatUint(clusterOf(t, control), 16))
	t.Setenv("LIMITED", limitedPassword)
	c := startNodes(t, control, 1)
	grant := guarded(t, data)
	_, err := data.client.Put(t.Context(), sourcePrefix+"a", "1")
	require.NoError(t, err)
	_, err = data.client.Put(t.Context(), targetPrefix+"stale", "1")
	require.NoError(t, err)
	at := c.all[0].url()
	from, to := "etcd://"+limited+":${env:LIMITED}@"+data.endpoint+sourcePrefix, "etcd://"+limited+":${env:LIMITED}@"+data.endpoint+targetPrefix
	name := ""
	state := func() feed {
		var f feed
		require.NoError(t, json.Unmarshal([]byte(must(t, "changefeed", "get", name, "--server", at, "-o", "json")), &f))
		return f
	}
	runs := func() {
		eventually(t, "it runs, and has deleted what the source does not have", func() error {
			if f := state(); f.State != "running" {
				return fmt.Errorf("it is %s: %+v", f.State, f.Error)
			}
			copied, err := data.client.Get(t.Context(), targetPrefix, clientv3.WithPrefix(), clientv3.WithKeysOnly())
			if err == nil && (copied.Count != 1 || string(copied.Kvs[0].Key) != targetPrefix+"a") {
				err = fmt.Errorf("the target has %d keys", copied.Count)
			}
			return err
		})
	}
	number := 0
	for what, rest := range weaker(all) {
		t.Run(what, func(t *testing.T) {
			number++
			name = fmt.Sprintf("copy%d", number)
			create := []string{
				"changefeed", "create", name, "--server", at, "--source", from, "--sink", to, "--start", "snapshot", "--option", "retry_limit=1",
			}
			grant(rest...)
			if out := cli(t, create...); out.code != 0 { // refused at the door
				require.Regexp(t, "permission|unreachable", out.stderr)
				grant(all...)
				must(t, create...)
			} else {
				eventually(t, "it does not run", func() error {
					if f := state(); f.Error == nil || !strings.Contains(f.Error.Message, "permission") {
						return fmt.Errorf("it is %s: %+v", f.State, f.Error)
					}
					return nil
				})
				grant(all...)
				must(t, "changefeed", "resume", name, "--server", at)
			}
			runs()
			must(t, "changefeed", "remove", name, "--wait", "--server", at, "--timeout", waitMax.String())
			_, err := data.client.Put(t.Context(), targetPrefix+"stale", "1")
			require.NoError(t, err)
		})
	}
}

// A node joins with what the page says it needs, and with nothing less.
func TestEachDocumentedPermissionOfNodesIsNeeded(t *testing.T) {
	control := startEtcd(t, "control")
	all, _ := documentedPermissions(t, "")
	grant := guarded(t, control)
	password := filepath.Join(t.TempDir(), "password")
	require.NoError(t, os.WriteFile(password, []byte(limitedPassword+"\n"), 0o600))
	t.Setenv("CDC_NODE_ETCD_PASSWORD_FILE", password)
	for name, rest := range weaker(all) {
		t.Run(name, func(t *testing.T) {
			grant(rest...)
			s := &server{name: "n1", http: freeAddr(t)}
			s.process = start(t, s.name, "server", "--name", s.name, "--etcd", control.endpoint, "--http-addr", s.http, "--peer-addr", freeAddr(t),
				"--session-ttl", sessionTTL.String(), "--data-dir", t.TempDir(), "--log-format", "json", "--etcd-user", limited)
			eventually(t, "the node says what it lacks", func() error {
				if signs := s.Signs("permission denied"); len(signs) == 0 {
					return fmt.Errorf("it wrote %s", s.Output.Last(5))
				}
				return nil
			})
			ctx, cancel := context.WithTimeout(t.Context(), time.Second)
			defer cancel()
			require.Error(t, ready(ctx, s))
		})
	}
	grant(all...)
	startNodes(t, control, 1, "--etcd-user", limited)
}
