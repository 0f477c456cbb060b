package lab

import (
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/integration/proc"
)

// hosts counts them. Each has a name and an address of its own for the whole run.
var hosts atomic.Int64 //nolint:gochecknoglobals // names are the machine's

// Host is a machine of the lab: a network namespace with one link.
type Host struct {
	Space string // the namespace's name
	IP    string

	t testing.TB
}

// NewHost makes a machine that is there until the test ends.
func NewHost(t testing.TB) *Host {
	t.Helper()
	const perNet = 200
	n := int(hosts.Add(1))
	h := &Host{t: t, Space: fmt.Sprintf("h%d", n), IP: fmt.Sprintf("10.77.%d.%d", 1+n/perNet, 1+n%perNet)}
	link := "v" + h.Space
	ip(t, "netns add "+h.Space)
	ip(t, "link add "+link+" type veth peer name eth0 netns "+h.Space)
	ip(t, "link set "+link+" master "+bridge+" up")
	for _, command := range []string{"link set lo up", "addr add " + h.IP + prefix + " dev eth0", "link set eth0 up"} {
		ip(t, "-n "+h.Space+" "+command)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", h.Space).Run() }) //nolint:errcheck,gosec,noctx // it goes with the lab
	return h
}

func ip(t testing.TB, command string) {
	t.Helper()
	out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput() //nolint:gosec,noctx // at once
	require.NoError(t, err, "ip %s: %s", command, out)
}

// Start runs the arguments, a binary first, on the host until the test ends or it is killed.
func (h *Host) Start(name string, env []string, args ...string) *proc.Process {
	h.t.Helper()
	cmd := exec.Command("ip", append([]string{"netns", "exec", h.Space}, args...)...) //nolint:gosec,noctx // it is killed at the end
	cmd.Dir, cmd.Env = h.t.TempDir(), append(cmd.Environ(), env...)
	p, err := proc.Start(name, cmd)
	require.NoError(h.t, err)
	h.t.Cleanup(func() {
		p.Kill()
		for _, sign := range p.Signs("panic:", "fatal error:", "failpoint:") {
			h.t.Errorf("%s wrote %q", name, sign)
		}
		if h.t.Failed() {
			h.t.Logf("--- output of %s ---\n%s", name, p.Output.Last(60))
		}
	})
	return p
}

// Filter adds a rule to the host's packet filter.
func (h *Host) Filter(rule ...string) {
	h.t.Helper()
	ip(h.t, "netns exec "+h.Space+" iptables -w "+strings.Join(rule, " "))
}

// Direction of packets, as a host sees them.
type Direction string

// The directions.
const (
	Hear Direction = "INPUT"
	Say  Direction = "OUTPUT"
)

// CutFrom drops what the host would hear from addresses, or say to them, without a sign to either end.
func (h *Host) CutFrom(way Direction, ips ...string) {
	h.t.Helper()
	end := "-d"
	if way == Hear {
		end = "-s"
	}
	for _, ip := range ips {
		h.Filter("-A", string(way), end, ip, "-j", "DROP")
	}
}

// CutAll drops all that the host would hear or say, other than to the tests.
func (h *Host) CutAll(way Direction) {
	h.t.Helper()
	end, device := "-d", "-o"
	if way == Hear {
		end, device = "-s", "-i"
	}
	h.Filter("-A", string(way), device, "lo", "-j", "ACCEPT")
	h.Filter("-A", string(way), end, Addr, "-j", "ACCEPT")
	h.Filter("-A", string(way), "-j", "DROP")
}

// Heal takes all filters away.
func (h *Host) Heal() {
	h.t.Helper()
	h.Filter("-F")
}
