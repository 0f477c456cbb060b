package postgres

import (
	"bytes"
	"io"
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

func TestOnlyWhatComesWithoutABreakIsGathered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		read := func(of *drip, reads int) time.Duration {
			began := time.Now()
			g := newGatherer(of)
			for range reads {
				n, err := g.Read(make([]byte, 10))
				require.NoError(t, err)
				require.Equal(t, 1, n)
			}
			return time.Since(began)
		}
		require.Zero(t, read(&drip{}, gatherFrom), "a transaction of some rows")
		require.Equal(t, 10*gatherFor, read(&drip{}, gatherFrom+10))
		require.Equal(t, 500*2*gatherGap, read(&drip{after: 2 * gatherGap}, 500), "what comes now and then does not wait")
	})
}

func TestWhatIsGatheredIsWhatCame(t *testing.T) {
	content := bytes.Repeat([]byte("0123456789"), gatherBytes/4)
	require.NoError(t, iotest.TestReader(newGatherer(bytes.NewReader(content)), content))
	got, err := io.ReadAll(newGatherer(iotest.DataErrReader(bytes.NewReader(content))))
	require.NoError(t, err)
	require.Equal(t, content, got)
}
