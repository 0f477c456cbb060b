package verifyetcd_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/kv"
	"fencerow/kv/kvmem"
	"fencerow/kv/kvtest"
	"fencerow/verify"
	"fencerow/verify/verifyetcd"
)

var member *kvtest.Etcd

func TestMain(m *testing.M) {
	var err error
	if member, err = kvtest.StartEtcd(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := m.Run()
	member.Close()
	os.Exit(code)
}

const (
	from = "/from/"
	to   = "/to/"
)

// copying is a writer, and a feed that copies what it writes from one prefix to another.
type copying struct {
	store   kv.Store
	reached atomic.Int64
	written atomic.Int64
	group   sync.WaitGroup
}

func put(t testing.TB, store kv.Store, key, value string) int64 {
	t.Helper()
	result, err := store.Txn(context.Background(), kv.Txn{Then: []kv.Op{kv.Put(key, []byte(value))}})
	require.NoError(t, err)
	return result.Revision
}

// start fills both sides with keys that stand still, and begins to write others and to copy.
func start(t *testing.T, store kv.Store) *copying {
	t.Helper()
	c := &copying{store: store}
	var head int64
	for i := range 2500 {
		key := fmt.Sprintf("still/%04d", i)
		put(t, store, from+key, key)
		head = put(t, store, to+key, key)
	}
	c.reached.Store(head)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(func() { cancel(); c.group.Wait() })
	watch := store.Watch(ctx, kv.WatchRequest{Key: from, End: kv.PrefixEnd(from), From: head + 1})
	c.group.Go(func() { c.copy(ctx, watch) })
	c.group.Go(func() { c.write(ctx) })
	return c
}

func (c *copying) write(ctx context.Context) {
	random := rand.New(rand.NewPCG(1, 2))
	for ctx.Err() == nil {
		op := kv.Put(fmt.Sprintf("%sbusy/%02d", from, random.IntN(40)), []byte(fmt.Sprint(random.IntN(1000))))
		if random.IntN(3) == 0 {
			op = kv.Delete(op.Key)
		}
		if _, err := c.store.Txn(ctx, kv.Txn{Then: []kv.Op{op}}); err == nil {
			c.written.Add(1)
		}
	}
}

func (c *copying) copy(ctx context.Context, watch kv.Watch) {
	ask := time.NewTicker(10 * time.Millisecond)
	defer ask.Stop()
	for {
		select {
		case response, open := <-watch.Responses():
			if !open {
				return
			}
			for _, event := range response.Events {
				key := to + event.Pair.Key[len(from):]
				op := kv.Put(key, event.Pair.Value)
				if event.Deleted {
					op = kv.Delete(key)
				}
				if _, err := c.store.Txn(ctx, kv.Txn{Then: []kv.Op{op}}); err != nil {
					return
				}
			}
			if !response.Fragment {
				c.reached.Store(max(c.reached.Load(), response.Revision))
			}
		case <-ask.C:
			_ = watch.RequestProgress(ctx)
		}
	}
}

func (c *copying) compare(t *testing.T) verify.Report {
	t.Helper()
	report, err := verify.Run(t.Context(), verify.Config{
		Source:  verifyetcd.New(verifyetcd.Config{Store: c.store, Prefix: from, Fault: func(err error) error { return err }}),
		Target:  verifyetcd.New(verifyetcd.Config{Store: c.store, Prefix: to, Fault: func(err error) error { return err }}),
		Reached: func(context.Context) (change.Position, error) { return change.Position(c.reached.Load()), nil },
		Pace:    func(context.Context, int) error { return nil },
		Poll:    5 * time.Millisecond,
	})
	require.NoError(t, err)
	return report
}

// TestComparingWhileKeysAreWritten: nothing is named that is not damaged, whatever is written, and all that is damaged is.
func TestComparingWhileKeysAreWritten(t *testing.T) {
	store, err := member.Open()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	c := start(t, store)
	for round := range 6 {
		report := c.compare(t)
		require.Empty(t, report.Differences, "round %d", round)
		require.Zero(t, report.UnsettledCount, "%+v", report.Unsettled)
		require.GreaterOrEqual(t, report.Rows, int64(2500))
	}
	require.Positive(t, c.written.Load())
	put(t, store, to+"still/0007", "other")
	put(t, store, to+"zzz", "stray")
	put(t, store, to+"\x00", "stray")
	_, err = store.Txn(t.Context(), kv.Txn{Then: []kv.Op{kv.Delete(to + "still/1234")}})
	require.NoError(t, err)
	report := c.compare(t)
	require.ElementsMatch(t, []verify.Difference{
		{Kind: verify.Different, Key: "still/0007", Columns: []string{"value"}},
		{Kind: verify.Missing, Key: "still/1234"},
		{Kind: verify.Extra, Key: "zzz"},
		{Kind: verify.Extra, Key: "\x00"},
	}, report.Differences)
	require.Zero(t, report.UnsettledCount)
	require.GreaterOrEqual(t, report.To, report.From)
}

func TestACompactedPastIsForgotten(t *testing.T) {
	server := kvmem.NewServer(kvmem.Config{})
	store := server.Open()
	t.Cleanup(func() { require.NoError(t, store.Close()) })
	first := put(t, store, from+"a", "1")
	put(t, store, from+"a", "2")
	last := put(t, store, from+"a", "3")
	side := verifyetcd.New(verifyetcd.Config{Store: store, Prefix: from, Fault: func(err error) error { return err }})
	var states []string
	tell := func(row verify.Row, there bool) { states = append(states, fmt.Sprintf("%s %t", row.Version, there)) }
	require.NoError(t, side.Was(t.Context(), verify.RowKey{Key: "a"}, change.Position(first), change.Position(last), tell))
	require.Equal(t, []string{fmt.Sprintf("%d true", first), fmt.Sprintf("%d true", first+1), fmt.Sprintf("%d true", last)}, states)
	require.NoError(t, server.Compact(last))
	require.ErrorIs(t, side.Was(t.Context(), verify.RowKey{Key: "a"}, change.Position(first), change.Position(last), tell), verify.ErrForgotten)
}
