package integration

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// documentMax bounds the commands of one page.
const documentMax = 4 * time.Minute

// What readers are told to type is typed: every block of sh of a page, in order, in one shell. Each page has a network of
// its own, so that the ports it names are free, and folders of its own under /tmp.
func TestEveryCommandOfThePagesRuns(t *testing.T) {
	for _, page := range []string{"README.md", "docs/getting-started.md", "docs/operations.md"} {
		t.Run(page, func(t *testing.T) {
			dir := t.TempDir()
			require.NoError(t, os.Symlink(binary, filepath.Join(dir, "cdc-node")))
			script := filepath.Join(dir, "script.sh")
			require.NoError(t, os.WriteFile(script, []byte(scriptOf(t, page, dir)), 0o600))
			ctx, cancel := context.WithTimeout(t.Context(), documentMax)
			defer cancel()
			cmd := exec.CommandContext(ctx, os.Args[0], script)
			cmd.Dir = dir
			cmd.Env = append(os.Environ(), isolated+"=1", "PATH="+dir+":"+os.Getenv("PATH"))
			cmd.SysProcAttr = &syscall.SysProcAttr{
				Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNET, Setpgid: true, Pdeathsig: syscall.SIGKILL,
				UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}}, GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
			}
			group := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) } // it, and all that it started
			cmd.Cancel = group
			log, err := os.Create(filepath.Join(dir, "log")) // no pipe, which what runs in the background would hold open
			require.NoError(t, err)
			defer func() { _ = log.Close() }()
			cmd.Stdout, cmd.Stderr = log, log
			err = cmd.Run()
			_ = group()
			out, readErr := os.ReadFile(log.Name())
			require.NoError(t, readErr)
			if err != nil {
				t.Fatalf("%s: %v\n%s", page, err, lastLines(string(out), 80))
			}
		})
	}
}

// isolated is set in the process that becomes the shell, in a network of its own.
const isolated = "FENCEROW_TEST_SHELL"

// becomeShell runs a script in place of the tests. When it ends, all that it started ends with it.
func becomeShell(script string) error {
	if err := raiseLoopback(); err != nil {
		return err
	}
	bash, err := exec.LookPath("bash")
	if err != nil {
		return err
	}
	return syscall.Exec(bash, []string{"bash", "-euo", "pipefail", script}, os.Environ())
}

// raiseLoopback has 127.0.0.1 answer in a new network.
func raiseLoopback() error {
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	defer func() { _ = unix.Close(socket) }()
	request, err := unix.NewIfreq("lo")
	if err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	request.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(socket), unix.SIOCSIFFLAGS, uintptr(unsafe.Pointer(request))); errno != 0 {
		return fmt.Errorf("bring lo up: %w", errno)
	}
	return nil
}

var (
	block = regexp.MustCompile("(?ms)^```sh\n(.*?)^```$|^<!-- test: (.*?) -->$")
	// typed are commands of a reader with a terminal each, and a browser.
	typed = strings.NewReplacer("go run ./cmd/cdc-node dev", "start_dev", "go build -o cdc-node ./cmd/cdc-node", ":", "./cdc-node", "cdc-node", "pkill -KILL -f ", "end_process ")
)

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
`

// scriptOf is the script of a page. Its folders under /tmp are the test's.
func scriptOf(t *testing.T, page, dir string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", page))
	require.NoError(t, err)
	var b strings.Builder
	b.WriteString(prelude)
	blocks := block.FindAllStringSubmatch(string(data), -1)
	require.NotEmpty(t, blocks)
	for _, found := range blocks {
		b.WriteString(strings.ReplaceAll(typed.Replace(found[1]+found[2]), "/tmp/", dir+"/") + "\n")
	}
	return b.String()
}
