package faults

import (
	"net"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/integration/lab"
)

// Hosts that come and go leave the others' way to the tests, and to what runs beside them, as it was.
func TestTheLabIsWhereItWasWhenHostsComeAndGo(t *testing.T) {
	before := hardware(t)
	t.Run("hosts", func(t *testing.T) {
		for range 6 {
			lab.NewHost(t)
			require.Equal(t, before, hardware(t), "a host has come")
		}
	})
	require.Equal(t, before, hardware(t), "the hosts have gone")
}

// hardware is the address that hosts know the tests by.
func hardware(t *testing.T) string {
	t.Helper()
	all, err := net.Interfaces()
	require.NoError(t, err)
	for _, one := range all {
		addresses, err := one.Addrs()
		require.NoError(t, err)
		if slices.ContainsFunc(addresses, func(a net.Addr) bool { return strings.HasPrefix(a.String(), lab.Addr+"/") }) {
			return one.HardwareAddr.String()
		}
	}
	t.Fatalf("nothing has the address %s", lab.Addr)
	return ""
}
