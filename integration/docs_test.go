package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"fencerow/integration/proc"
)

// documentMax bounds the commands of one page.
const documentMax = 4 * time.Minute

// What readers are told to type is typed: every block of sh of a page, in order, in one shell. Each page has a network of
// its own, so that the addresses it names are free, and folders of its own under those that it names.
func TestEveryCommandOfThePagesRuns(t *testing.T) {
	for _, page := range pages(t) {
		parts := partsOf(t, page)
		if inDatabases[page] || runElsewhere(page) || !anyShown(parts) {
			continue
		}
		t.Run(page, func(t *testing.T) {
			t.Parallel() // they wait for the most part
			dir := t.TempDir()
			cmd := shell(t, dir, inFolder(prelude, dir)+scriptOf(parts, dir))
			cmd.Args, cmd.Path = []string{os.Args[0], cmd.Args[len(cmd.Args)-1]}, os.Args[0]
			cmd.Env = append(cmd.Env, isolated+"=1")
			cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWUSER | unix.CLONE_NEWNET
			cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}
			cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}}
			runPage(t, page, cmd)
		})
	}
}

// shell is a command that runs a script in a folder, which has the cdc-node under test and what the pages' comments use.
func shell(t *testing.T, dir, script string) *exec.Cmd {
	t.Helper()
	require.NoError(t, os.Symlink(binary, filepath.Join(dir, "cdc-node")))
	for _, name := range foldersOfPages {
		require.NoError(t, os.MkdirAll(filepath.Join(dir, name), 0o755))
	}
	testdata, err := filepath.Abs("testdata/pages")
	require.NoError(t, err)
	path := filepath.Join(dir, "script.sh")
	require.NoError(t, os.WriteFile(path, []byte(script), 0o600))
	ctx, cancel := context.WithTimeout(t.Context(), documentMax)
	t.Cleanup(cancel)
	cmd := exec.CommandContext(ctx, "bash", append(strict, path)...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "PAGES="+testdata)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	return cmd
}

var strict = []string{"-euo", "pipefail"}

// runPage runs a shell. When it ends, all that it started ends with it.
func runPage(t *testing.T, page string, cmd *exec.Cmd) {
	t.Helper()
	group := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	cmd.Cancel = group
	log, err := os.Create(filepath.Join(cmd.Dir, "log")) // no pipe, which what runs in the background would hold open
	require.NoError(t, err)
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	err = cmd.Run()
	if cmd.Process != nil {
		_ = group()
	}
	out, readErr := os.ReadFile(log.Name())
	require.NoError(t, readErr)
	if err != nil {
		t.Fatalf("%s: %v\n%s", page, err, proc.LastLines(string(out), 80))
	}
}

// isolated is set in the process that becomes the shell, in a network of its own.
const isolated = "FENCEROW_TEST_SHELL"

// becomeShell runs a script in place of the tests.
func becomeShell(script string) error {
	if err := raiseLoopback(); err != nil {
		return err
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		return err
	}
	return syscall.Exec(bash, append(append([]string{"bash"}, strict...), script), os.Environ())
}

// raiseLoopback has 127.0.0.1 answer in a new network, and every address that begins with 10, which pages give machines.
func raiseLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer func() { _ = unix.Close(socket) }()
	set := func(name string, what uintptr, fill func(*unix.Ifreq) error) error {
		request, err := unix.NewIfreq(name)
		if err == nil {
			err = fill(request)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), what, uintptr(unsafe.Pointer(request))); errno != 0 {
			return fmt.Errorf("%s: %w", name, errno)
		}
		return nil
	}
	if err := set("lo", unix.SIOCSIFFLAGS, func(r *unix.Ifreq) error { r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING); return nil }); err != nil {
		return err
	}
	return set("lo:10", unix.SIOCSIFADDR, func(r *unix.Ifreq) error { return r.SetInet4Addr([]byte{10, 0, 0, 1}) }) // its whole class
}

// foldersOfPages are those that pages name; a test has them in a folder of its own.
var foldersOfPages = []string{"tmp", "var/lib", "var/redo", "etc/cdc-node"}

// typed are commands of a reader with a terminal each, and a browser.
var typed = strings.NewReplacer("go run ./cmd/cdc-node dev", "start_dev", "go build -o cdc-node ./cmd/cdc-node", ":", "./cdc-node", "cdc-node", "pkill -KILL -f ", "end_process ")

const prelude = `
set -x
start_dev() {
	cdc-node dev > dev.out 2> dev.err &
	dev=$!
	until cdc-node health > /dev/null 2>&1; do kill -0 $dev || { cat dev.err; exit 1; }; sleep 0.2; done
	until cdc-node changefeed get demo > /dev/null 2>&1; do sleep 0.2; done
	grep -q 'The console is at http://127.0.0.1:8300/' dev.err
}
stop_dev() { kill -INT $dev; wait $dev; }
end_process() {
	for child in $(jobs -p); do
		if tr '\0' ' ' < /proc/$child/cmdline 2> /dev/null | grep -q -- "--$1 "; then kill -KILL "$child"; fi
	done
}
start_etcd() { # name, address, and more flags
	local name=$1 at=$2
	shift 2
	cdc-node etcd --name "$name" --data-dir "/tmp/etcd-$name" --listen-client-urls "http://$at:2379" --advertise-client-urls "http://$at:2379" \
		--listen-peer-urls "http://$at:2380" --initial-advertise-peer-urls "http://$at:2380" --initial-cluster "$name=http://$at:2380" \
		--log-level error --unsafe-no-fsync "$@" &
	until cdc-node etcdctl --endpoints "$at:2379" get ready > /dev/null 2>&1; do kill -0 $!; sleep 0.2; done
}
`

// scriptOf is what a page has a reader do.
func scriptOf(parts []part, dir string) string {
	var b strings.Builder
	for _, p := range parts {
		text := p.text
		if p.kind == "sql" {
			text = "sql <<'SQL'\n" + text + "SQL"
		}
		b.WriteString(inFolder(typed.Replace(text), dir) + "\n")
	}
	return b.String()
}

// inFolder has the folders that pages name be those of a test.
func inFolder(text, dir string) string {
	var pairs []string
	for _, name := range foldersOfPages {
		pairs = append(pairs, "/"+name+"/", filepath.Join(dir, name)+"/")
	}
	return strings.NewReplacer(pairs...).Replace(text)
}
