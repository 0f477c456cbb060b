package faults

import (
	"fmt"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// The network of the lab: one bridge, and a namespace with one address on it for each host.
const (
	bridge    = "lab0"
	labAddr   = "10.77.0.1" // of the tests, which no cut concerns
	labPrefix = "/16"
)

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
		"link set lo up", "link add " + bridge + " type bridge", "addr add " + labAddr + labPrefix + " dev " + bridge, "link set " + bridge + " up",
	} {
		if out, err := exec.Command("ip", strings.Fields(command)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", command, err, out)
		}
	}
	return nil
}

// hosts counts them. Each has a name and an address of its own for the whole run.
var hosts atomic.Int64

// host is a machine of the lab: a network namespace with one link.
type host struct {
	t     *testing.T
	space string // the namespace's name
	ip    string
}

func newHost(t *testing.T) *host {
	t.Helper()
	const perNet = 200
	n := int(hosts.Add(1))
	h := &host{t: t, space: fmt.Sprintf("h%d", n), ip: fmt.Sprintf("10.77.%d.%d", 1+n/perNet, 1+n%perNet)}
	link := "v" + h.space
	run(t, "ip", "netns", "add", h.space)
	run(t, "ip", "link", "add", link, "type", "veth", "peer", "name", "eth0", "netns", h.space)
	run(t, "ip", "link", "set", link, "master", bridge, "up")
	for _, command := range []string{"link set lo up", "addr add " + h.ip + labPrefix + " dev eth0", "link set eth0 up"} {
		run(t, "ip", append([]string{"-n", h.space}, strings.Fields(command)...)...)
	}
	t.Cleanup(func() { _ = exec.Command("ip", "netns", "del", h.space).Run() })
	return h
}

func run(t *testing.T, command string, args ...string) {
	t.Helper()
	out, err := exec.Command(command, args...).CombinedOutput()
	require.NoError(t, err, "%s %s: %s", command, strings.Join(args, " "), out)
}

// filter adds a rule to the host's packet filter.
func (h *host) filter(rule ...string) {
	h.t.Helper()
	run(h.t, "ip", append([]string{"netns", "exec", h.space, "iptables", "-w"}, rule...)...)
}

// hear and say are the directions of packets, as the host sees them.
const (
	hear = "INPUT"
	say  = "OUTPUT"
)

// cutFrom drops what the host would hear from addresses, or say to them, without a sign to either end.
func (h *host) cutFrom(direction string, ips ...string) {
	h.t.Helper()
	end := "-d"
	if direction == hear {
		end = "-s"
	}
	for _, ip := range ips {
		h.filter("-A", direction, end, ip, "-j", "DROP")
	}
}

// cutAll drops all that the host would hear or say, other than to the tests.
func (h *host) cutAll(direction string) {
	h.t.Helper()
	end, device := "-d", "-o"
	if direction == hear {
		end, device = "-s", "-i"
	}
	h.filter("-A", direction, device, "lo", "-j", "ACCEPT")
	h.filter("-A", direction, end, labAddr, "-j", "ACCEPT")
	h.filter("-A", direction, "-j", "DROP")
}

// heal takes all filters away.
func (h *host) heal() {
	h.t.Helper()
	h.filter("-F")
}
