package postgres

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"testing"
	"testing/iotest"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// drip gives a byte each time it is read, after a while.
type drip struct {
	after time.Duration
	reads int
}

func (d *drip) Read(p []byte) (int, error) {
	d.reads++
	if d.after > 0 {
		<-time.NewTimer(d.after).C
	}
	p[0] = 'x'
	return 1, nil
}

// waits is how much there is to be read, each time it is asked.
func waits(bytes ...int) func() int {
	asked := -1
	return func() int {
		asked++
		return bytes[min(asked, len(bytes)-1)]
	}
}

func TestOnlyWhatComesWithoutABreakIsCoalesced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func(of *drip, reads int) time.Duration {
			began := time.Now()
			g := newCoalescer(of, waits(0))
			for range reads {
				n, err := g.Read(make([]byte, 10))
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
			return time.Since(began)
		}
		require.Zero(t, read(&drip{}, coalesceFrom), "a transaction of some rows")
		require.Equal(t, 10*coalesceFor, read(&drip{}, coalesceFrom+10))
		require.Equal(t, 500*2*coalesceGap, read(&drip{after: 2 * coalesceGap}, 500), "what comes now and then does not wait")
	})
}

func TestMuchIsCoalescedWhileMoreComes(t *testing.T) {
	for name, c := range map[string]struct {
		waiting []int
		steps   int
	}{
		"changes as they are made":  {[]int{coalesceMany - 1}, 0},
		"enough at once":            {[]int{coalesceEnough}, 0},
		"enough after a while":      {[]int{coalesceMany, 2 * coalesceMany, coalesceEnough}, 2},
		"no more comes, or fits":    {[]int{coalesceMany, 2 * coalesceMany, 2 * coalesceMany, coalesceEnough}, 2},
		"a little more, and longer": {[]int{coalesceMany, coalesceMany + 1, coalesceMany + 2, coalesceMany + 3, coalesceMany + 4, coalesceMany + 5}, coalesceSteps},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newCoalescer(&drip{}, waits(c.waiting...))
				g.quick = coalesceFrom
				began := time.Now()
				_, err := g.Read(make([]byte, 1))
				require.NoError(t, err)
				require.Equal(t, coalesceFor+time.Duration(c.steps)*coalesceStep, time.Since(began))
			})
		})
	}
}

func TestWhatWaitsInAConnectionIsKnown(t *testing.T) {
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, listener.Close()) })
	near, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", listener.Addr().String())
	require.NoError(t, err)
	far, err := listener.Accept()
	require.NoError(t, err)
	waiting := waitingIn(near)
	require.Zero(t, waiting())
	_, err = far.Write(make([]byte, 123))
	require.NoError(t, err)
	require.Eventually(t, func() bool { return waiting() == 123 }, 10*time.Second, time.Millisecond)
	require.Equal(t, 123, waitingIn(tls.Client(near, &tls.Config{MinVersion: tls.VersionTLS13}))())
	require.NoError(t, errors.Join(near.Close(), far.Close()))
	require.Zero(t, waiting(), "it is closed")
	piped, other := net.Pipe()
	require.Zero(t, waitingIn(piped)(), "it has no socket")
	require.NoError(t, errors.Join(piped.Close(), other.Close()))
}

func TestWhatIsCoalescedIsWhatCame(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), coalesceBytes/4)
	require.NoError(t, iotest.TestReader(newCoalescer(bytes.NewReader(content), waits(0)), content))
	got, err := io.ReadAll(newCoalescer(iotest.DataErrReader(bytes.NewReader(content)), waits(0)))
	require.NoError(t, err)
	require.Equal(t, content, got)
}
