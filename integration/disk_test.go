package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// smallDisk mounts a file system of a few megabytes; it needs root.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "disk")
	require.NoError(t, os.Mkdir(dir, 0o755))
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size); err != nil {
		t.Skipf("NOT TESTED: a full disk needs a small file system, and mounting one was refused: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmount %s: %v", dir, err)
		}
	})
	return dir
}

// A full disk under the file sink: the changefeed retries and says why, others go on, and once there is space again it
// heals by itself, with every change exactly once.
func TestFullDiskUnderTheFileSink(t *testing.T) {
	disk := smallDisk(t, "4m")
	w := &world{source: startEtcd(t, "source"), target: startEtcd(t, "target"), directory: filepath.Join(disk, "files")}
	w.nodes = startNodes(t, startEtcd(t, "control"), 2)
	via, from := w.all[0].url(), "etcd://"+w.source.endpoint+sourcePrefix
	must(t, "changefeed", "create", "files", "--server", via, "--source", from, "--sink", "file://"+w.directory,
		"--option", "retry_limit=1")
	must(t, "changefeed", "create", "copy", "--server", via, "--source", from, "--sink", "etcd://"+w.target.endpoint+targetPrefix)
	w.awaitState("files", "running")
	w.awaitState("copy", "running")
	w.writers = startWriters(t, w.source, sourcePrefix, 4, 200, 400)
	w.writers.probe(w.target, targetPrefix, time.Now(), waitMax)

	// Somebody else fills the disk to the last byte.
	ballast, err := os.Create(filepath.Join(disk, "ballast"))
	require.NoError(t, err)
	block := make([]byte, 4096)
	for err == nil {
		_, err = ballast.Write(block)
	}
	require.ErrorIs(t, err, syscall.ENOSPC)
	require.NoError(t, ballast.Close())
	f := w.awaitState("files", "retrying")
	require.Equal(t, "sink.full", f.Error.Code, f.Error.Message)
	require.NotNil(t, f.Error.NextTry)
	require.NotContains(t, f.Error.Message, "\n")
	require.Contains(t, f.Error.Message, w.directory)
	held := f.Checkpoint
	w.writers.probe(w.target, targetPrefix, time.Now(), waitMax) // the other goes on
	copied, err := w.feed(w.all[0], "copy")
	require.NoError(t, err)
	require.Equal(t, "running", copied.State)

	require.NoError(t, os.Remove(ballast.Name()))
	eventually(t, "it heals by itself", func() error {
		f, err := w.feed(w.all[1], "files")
		if err == nil && (f.State != "running" || position(t, f.Checkpoint) <= position(t, held)) {
			err = fmt.Errorf("it is %s at %s (%+v)", f.State, f.Checkpoint, f.Error)
		}
		return err
	})
	w.settle()
}
