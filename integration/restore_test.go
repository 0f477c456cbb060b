package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/integration/proc"
)

// restorable is an etcd whose folder can be replaced by a restored one.
type restorable struct {
	*member
	t          *testing.T
	name, peer string
}

func startRestorable(t *testing.T, name string) *restorable {
	t.Helper()
	r := &restorable{t: t, name: name, peer: freeAddr(t), member: &member{endpoint: freeAddr(t)}}
	r.run(filepath.Join(t.TempDir(), "etcd"))
	var err error
	r.client, err = proc.Dial(r.endpoint)
	require.NoError(t, err)
	t.Cleanup(func() { _ = r.client.Close() })
	r.answers()
	return r
}

func (r *restorable) run(dir string) {
	r.t.Helper()
	spec := proc.Member{Name: r.name, Dir: dir, Clients: []string{r.endpoint}, Peer: r.peer}
	r.process = start(r.t, "etcd "+r.name, spec.Args("--initial-cluster-token", "records", "--unsafe-no-fsync")...)
}

func (r *restorable) answers() {
	r.t.Helper()
	eventually(r.t, "etcd answers", func() error {
		ctx, cancel := context.WithTimeout(r.t.Context(), time.Second)
		defer cancel()
		_, err := r.client.Get(ctx, "ready")
		return err
	})
}

// The disaster drill of docs/operations.md: the etcd of the records is lost and restored from a backup that is older
// than the sinks. The fence holds, the check names it and the cure, and the cure works.
func TestRecordsRestoredFromAnOldBackup(t *testing.T) {
	t.Parallel() // it waits for the most part
	control, data := startRestorable(t, "records"), startEtcd(t, "data")
	c := startNodes(t, control.member, 1)
	node := c.all[0]
	on := func(args ...string) []string { return append(args, "--server", node.url()) }
	create := func(name string) {
		must(t, on("changefeed", "create", name, "--start", "snapshot", "--source", "etcd://"+data.endpoint+"/orders/",
			"--sink", "etcd://"+data.endpoint+"/"+name+"/")...)
		c.awaitState(name, "running")
	}
	put := func(key string) {
		_, err := data.client.Put(t.Context(), "/orders/"+key, key)
		require.NoError(t, err)
	}
	arrives := func(name, key string) {
		eventually(t, key+" arrives at "+name, func() error {
			got, err := data.client.Get(t.Context(), "/"+name+"/"+key)
			if err == nil && got.Count != 1 {
				err = fmt.Errorf("it has not")
			}
			return err
		})
	}
	put("a")
	create("copy")
	arrives("copy", "a")
	must(t, on("check")...)

	backup := filepath.Join(t.TempDir(), "backup.db")
	must(t, "etcdctl", "--endpoints", control.endpoint, "snapshot", "save", backup)

	// Life goes on: epochs rise with the revisions of etcd, and another changefeed comes that the backup doesn't have.
	for i := range 200 {
		_, err := control.client.Put(t.Context(), "elsewhere", fmt.Sprint(i))
		require.NoError(t, err)
	}
	must(t, on("epoch", "bump", "copy")...)
	create("late")
	put("b")
	arrives("copy", "b")
	arrives("late", "b")
	before := c.awaitState("copy", "running")

	node.terminate()
	control.Kill()
	put("c")
	restored := filepath.Join(t.TempDir(), "restored")
	must(t, "etcdutl", "snapshot", "restore", backup, "--data-dir", restored, "--name", "records",
		"--initial-cluster", "records=http://"+control.peer, "--initial-advertise-peer-urls", "http://"+control.peer,
		"--initial-cluster-token", "records")
	control.run(restored)
	control.answers()
	c.restart(node)

	failed := c.awaitState("copy", "failed")
	require.Equal(t, "epoch.behind_sink", failed.Error.Code)
	require.Less(t, failed.Epoch, before.Epoch)
	found := cli(t, on("check", "-o", "json")...)
	require.Equal(t, 1, found.code, found.stderr)
	var list struct {
		Items []struct{ Code, Subject, Cure string }
	}
	require.NoError(t, json.Unmarshal([]byte(found.stdout), &list))
	cures := map[string]string{}
	for _, one := range list.Items {
		cures[one.Code+" "+strings.Fields(one.Subject)[0]] = one.Cure
	}
	cure := cures["epoch.behind_sink default/copy"]
	require.Contains(t, cure, "cdc-node epoch bump default/copy --above ", found.stdout)
	require.Contains(t, cures, "sink.orphan_claim default/late,", found.stdout)

	// What the check says to do.
	_, command, _ := strings.Cut(cure, "cdc-node ")
	must(t, on(strings.Fields(command)...)...)
	after := c.awaitState("copy", "running")
	require.Greater(t, after.Epoch, before.Epoch)
	arrives("copy", "c")
	create("late")
	arrives("late", "c")
	must(t, on("changefeed", "remove", "late", "--wait")...)
	must(t, on("check")...)
}
