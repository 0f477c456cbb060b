package kvtest_test

import (
	"fmt"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/kv/kvmem"
	"fencerow/kv/kvtest"
)

var etcd *kvtest.Etcd // one member for the package's tests

func TestMain(m *testing.M) {
	var err error
	if etcd, err = kvtest.StartEtcd(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	etcd.Close()
	os.Exit(code)
}

func realSubject() kvtest.Subject {
	return kvtest.Subject{Open: func() (kvtest.Store, error) { return etcd.Open() }}
}

func TestRealEtcd(t *testing.T) { kvtest.Run(t, realSubject()) }

func memorySubject(eventsMax int) (kvtest.Subject, *kvmem.Server) {
	var now time.Duration
	server := kvmem.NewServer(kvmem.Config{ClusterID: 7, Clock: func() time.Duration { return now }})
	return kvtest.Subject{
		Open: func() (kvtest.Store, error) {
			store := server.Open()
			store.FragmentWatches(eventsMax)
			return store, nil
		},
		Pass: func(d time.Duration) {
			now += d
			server.Tick()
		},
	}, server
}

func TestMemory(t *testing.T) {
	subject, _ := memorySubject(77)
	kvtest.Run(t, subject)
}

// hazard 74: a fake that is more polite than the real one.
func TestMemoryAndRealEtcdAgree(t *testing.T) {
	commands := 10_000
	if testing.Short() {
		commands = 1_000
	}
	seed := uint64(time.Now().UnixNano())
	if text := os.Getenv("KVTEST_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	memory, _ := memorySubject(0)
	kvtest.Compare(t, commands, seed, realSubject(), memory)
}
