package peer

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
)

// echo sends back what comes.
func echo(c *Config) {
	patient(c)
	c.Data = func(_ context.Context, _ changefeed.NodeID, stream *Data) error {
		for {
			frame, err := stream.Receive()
			if err != nil {
				return err
			}
			if err := stream.Send(frame); err != nil {
				return err
			}
		}
	}
}

// Either of two nodes opens a stream of data to the other, whichever of them keeps the link.
func TestDataTravelsBothWays(t *testing.T) {
	a, b := startNode(t, "a", echo), startNode(t, "b", echo)
	introduce(a, b)
	for from, to := range map[*node]*node{a: b, b: a} {
		stream, err := from.OpenData(t.Context(), to.config.NodeID)
		require.NoError(t, err)
		for _, frame := range [][]byte{[]byte("x"), {}, bytes.Repeat([]byte("y"), DataBytesMax)} {
			sent := make(chan error, 1)
			go func() { sent <- stream.Send(frame) }()
			got, err := stream.Receive()
			require.NoError(t, err)
			require.NoError(t, <-sent)
			require.Equal(t, len(frame), len(got))
		}
		require.ErrorIs(t, stream.Send(make([]byte, DataBytesMax+1)), errDataFrame)
		stream.Close()
		stream.Close()
		_, err = stream.Receive()
		require.ErrorIs(t, err, errDataClosed)
	}
}

// A stream ends when its other end is no peer any more, or stops, and whoever waits in it hears so.
func TestDataEndsWithThePeer(t *testing.T) {
	a, b, c := startNode(t, "a", echo), startNode(t, "b", echo), startNode(t, "c", echo)
	introduce(a, b, c)
	wait := func(stream *Data) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := stream.Receive()
			done <- err
		}()
		return done
	}
	unwanted, err := a.OpenData(t.Context(), "b")
	require.NoError(t, err)
	stopping, err := a.OpenData(t.Context(), "c")
	require.NoError(t, err)
	defer stopping.Close()
	ended, stopped := wait(unwanted), wait(stopping)
	a.SetPeers(map[changefeed.NodeID]string{"a": a.address, "c": c.address})
	require.Error(t, <-ended)
	c.stop()
	require.Error(t, <-stopped)
	_, err = a.OpenData(t.Context(), "b")
	require.ErrorContains(t, err, "not known")
}

// What is said to a node that serves none, or that is of a version without, is an error of its own.
func TestNodeWithoutData(t *testing.T) {
	a, b := startNode(t, "a", patient), startNode(t, "b", patient)
	introduce(a, b)
	_, err := a.OpenData(t.Context(), "b")
	require.ErrorIs(t, err, ErrNoData)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = a.OpenData(ctx, "b")
	require.Error(t, err)
	require.False(t, errors.Is(err, ErrNoData))
}

// Data is for nodes of the cluster alone, which show who they are, and for who was meant.
func TestDataIsForNodesOfTheCluster(t *testing.T) {
	var refused, none atomic.Int64
	s := newSigner(t)
	with := func(name string, count *atomic.Int64) func(*Config) {
		return func(c *Config) {
			s.of(name, count)(c)
			data := c.PingInterval
			echo(c)
			c.PingInterval = data
		}
	}
	judge := startNode(t, "n", with("n", &refused))
	honest, impostor := startNode(t, "a", with("a", &none)), startNode(t, "b", with("a", &none))
	introduce(judge, honest, impostor)
	stream, err := honest.OpenData(t.Context(), "n")
	require.NoError(t, err)
	stream.Close()
	_, err = impostor.OpenData(t.Context(), "n")
	require.Error(t, err)
	require.Positive(t, refused.Load())

	stranger := startNode(t, "x", func(c *Config) { echo(c); c.ClusterID = 8 })
	other := startNode(t, "y", echo)
	introduce(stranger, other)
	_, err = stranger.OpenData(t.Context(), "y")
	require.ErrorContains(t, err, "etcd cluster")
}
