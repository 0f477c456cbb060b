package lab

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// The network of the lab: one bridge, and a namespace with one address on it for each host.
const (
	bridge = "lab0"
	prefix = "/16"
	// bridgeMAC is the bridge's for good. One of its own choice changes as hosts come and go, and then those that know the tests by the
	// old one don't reach them for up to a minute.
	bridgeMAC = "02:00:00:4d:00:01"
	// Addr is that of the tests, which no cut concerns.
	Addr = "10.77.0.1"
)

// Apart returns another address of the tests, of three, which a host that is cut off does not reach.
func Apart(n int) string { return fmt.Sprintf("10.77.0.%d", 1+n) }

// insideEnv says that this process is in namespaces of its own, and names the folder of what was made before.
const insideEnv = "FENCEROW_LAB_INSIDE"

// Main runs tests in namespaces of their own: of networks, of mounts, so that the names of namespaces are nobody else's,
// and of processes, so that none is left when the tests end, however they do. Before it enters them it makes a folder and
// has build fill it; the tests are given that folder. It returns what the process ends with.
func Main(build func(dir string) error, tests func(dir string) int) int {
	if dir := os.Getenv(insideEnv); dir != "" {
		if err := enter(); err != nil {
			return failed(err)
		}
		return tests(dir)
	}
	if err := outside(build); err != nil {
		return failed(err)
	}
	return 0
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "lab:", err)
	return 1
}

func outside(build func(dir string) error) error {
	dir, err := os.MkdirTemp("", "fencerow-lab-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := os.Chmod(dir, 0o755); err != nil { //nolint:gosec // a database server runs as another user below it
		return err
	}
	if err := permitted(); err != nil {
		return err
	}
	if err := build(dir); err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	runtime.LockOSThread()                       // the death signal is that of the thread's
	inside := exec.Command(self, os.Args[1:]...) //nolint:gosec,noctx // ourselves, for as long as we are
	inside.Env = append(os.Environ(), insideEnv+"="+dir)
	inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	return inside.Run()
}

// permitted says why the suite can't run here: it does not pass where it did nothing.
func permitted() error {
	if os.Geteuid() != 0 {
		return fmt.Errorf("the suite makes network namespaces and needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN); it runs as uid %d: "+
			"run it as root, or leave it out by naming other packages", os.Geteuid())
	}
	for _, tool := range []string{"ip", "iptables", "mount"} {
		if _, err := exec.LookPath(tool); err != nil {
			return fmt.Errorf("the suite needs %s: install iproute2, iptables and mount (tools/install does): %w", tool, err)
		}
	}
	probe := exec.Command("ip", "link", "add", "probe", "type", "veth", "peer", "name", "eborp") //nolint:noctx // at once
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if out, err := probe.CombinedOutput(); err != nil {
		return fmt.Errorf("the suite may not make network namespaces and veth links here (a container without CAP_SYS_ADMIN and "+
			"CAP_NET_ADMIN?): %w: %s", err, out)
	}
	return nil
}

// enter makes the namespaces that this process was started in usable.
func enter() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	if err := unix.Mount("run", "/run", "tmpfs", 0, "mode=755"); err != nil {
		return fmt.Errorf("mount /run: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", 0, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, command := range []string{
		"link set lo up", "link add " + bridge + " address " + bridgeMAC + " type bridge", "addr add " + Addr + prefix + " dev " + bridge,
		"addr add " + Apart(1) + prefix + " dev " + bridge, "addr add " + Apart(2) + prefix + " dev " + bridge,
		"addr add " + Apart(3) + prefix + " dev " + bridge, "link set " + bridge + " up",
	} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil { //nolint:gosec,noctx // at once
			return fmt.Errorf("ip %s: %w: %s", command, err, out)
		}
	}
	return nil
}
