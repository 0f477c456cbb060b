package faults

import (
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"testing"
	"time"
)

var (
	faultsWanted   = flag.Int("faults.n", 60, "how many faults to inject")
	seedWanted     = flag.Uint64("faults.seed", 0, "where the rotation over fault × phase begins; 0: the day")
	clustersWanted = flag.Int("faults.clusters", 4, "clusters side by side")
	onlyWanted     = flag.String("faults.only", "", "a regular expression: of the rotation take only these")
	keepWanted     = flag.String("faults.keep", "", "a folder to leave the histories in")
)

// insideEnv says that this process is in namespaces of its own, and names the folder of the binaries.
const insideEnv = "FENCEROW_FAULTS_INSIDE"

// The binaries under test: with failpoints, and with failpoints and without the fence of the etcd sink's writes.
var binary, unfenced string

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() {
		fmt.Println("faults: left out by -short; make faults runs them")
		os.Exit(0)
	}
	if *seedWanted == 0 {
		*seedWanted = uint64(time.Now().Unix() / int64(24*time.Hour/time.Second)) //nolint:gosec // after 1970
	}
	if dir := os.Getenv(insideEnv); dir != "" {
		binary, unfenced = filepath.Join(dir, "cdc-node"), filepath.Join(dir, "cdc-node-unfenced")
		if err := enter(); err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
			os.Exit(1)
		}
		if err := flag.Set("test.parallel", "16"); err != nil { // clusters wait more than they work
			fmt.Fprintln(os.Stderr, "faults:", err)
			os.Exit(1)
		}
		os.Exit(m.Run())
	}
	os.Exit(outside())
}

// outside builds the binaries, and runs the tests again in namespaces of their own: of networks, so that nothing of the
// machine's is touched, of mounts, so that the names of namespaces are nobody else's, and of processes, so that none is
// left when the tests end, however they do.
func outside() int {
	dir, err := os.MkdirTemp("", "fencerow-faults-")
	if err != nil {
		return failed(err)
	}
	defer func() { _ = os.RemoveAll(dir) }()
	if err := permitted(); err != nil {
		return failed(err)
	}
	if err := build(dir); err != nil {
		return failed(err)
	}
	self, err := os.Executable()
	if err != nil {
		return failed(err)
	}
	runtime.LockOSThread() // the death signal is that of the thread's
	inside := exec.Command(self, os.Args[1:]...)
	inside.Env = append(os.Environ(), insideEnv+"="+dir)
	inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
	inside.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID, Pdeathsig: syscall.SIGKILL,
	}
	if err := inside.Run(); err != nil {
		return failed(err)
	}
	return 0
}

func failed(err error) int {
	fmt.Fprintln(os.Stderr, "faults:", err)
	return 1
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
	probe := exec.Command("ip", "link", "add", "probe", "type", "veth", "peer", "name", "eborp")
	probe.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID}
	if out, err := probe.CombinedOutput(); err != nil {
		return fmt.Errorf("the suite may not make network namespaces and veth links here (a container without CAP_SYS_ADMIN and "+
			"CAP_NET_ADMIN?): %w: %s", err, out)
	}
	return nil
}
