package epochstore_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.etcd.io/etcd/server/v3/embed"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvtest"
)

// quotaBytes is what two hours' worth of statuses of one changefeed may take on disk.
const quotaBytes = 512 << 20

// Hazard 68: two hours' worth of statuses at the default pace (7,200 that really changed, with the compaction of every
// hour that embedded members do) stay far below etcd's quota. All are really written.
func TestTwoHoursOfStatusesStaySmall(t *testing.T) {
	if testing.Short() {
		t.Skip("writes 7,200 transactions")
	}
	member, err := kvtest.StartEtcd(func(c *embed.Config) { c.QuotaBackendBytes = quotaBytes })
	require.NoError(t, err)
	defer member.Close()
	store, err := member.Open()
	require.NoError(t, err)
	defer func() { _ = store.Close() }()
	w := newWorld(t, store)
	lead := w.lead("n1")
	const feeds, seconds, hour = 10, 7200, 3600
	writes := make([]epochstore.StatusWrite, feeds)
	pacers := make([]epochstore.Pacer, feeds)
	for i := range feeds {
		w.create(fmt.Sprintf("c%d", i))
		writes[i] = statusOfName(fmt.Sprintf("c%d", i), w.own(lead, fmt.Sprintf("c%d", i), "n1"), seenStatus{}, 0)
		pacers[i].Interval = time.Second
	}
	var previous int64
	for second := range seconds {
		now := changefeed.Time(time.Duration(second) * time.Second)
		var due []epochstore.StatusWrite
		var which []int
		for i := range writes {
			// The first is always busy; the others change every 100 s, so that most of theirs are signs of life.
			if i == 0 || second%100 == i {
				writes[i].Status.Checkpoint = change.Position(second + 1)
			}
			writes[i].Status.At = time.Unix(int64(second), 0).UTC()
			if pacers[i].Due(now, writes[i].Status) {
				pacers[i].Stored(now, writes[i].Status)
				due, which = append(due, writes[i]), append(which, i)
			}
		}
		for j, result := range w.store.WriteStatuses(w.ctx, due) {
			require.NoError(t, result.Err)
			writes[which[j]].Last = result.Status
		}
		if (second+1)%hour == 0 {
			// What was stored an hour ago is given up, as periodic compaction does.
			if previous > 0 {
				require.NoError(t, store.Compact(w.ctx, previous))
			}
			previous = writes[0].Last.ModRevision
		}
	}
	size := member.Server().Server.Backend().Size()
	t.Logf("%d changefeeds, %d s: %d KiB on disk", feeds, seconds, size>>10)
	require.Less(t, size, int64(quotaBytes/feeds), "and a tenth of the quota is not reached with ten of them")
}

// On a real etcd that is really full: bumps and statuses are refused, not unknown; leases live on; it heals.
//
// Hazard 14.
func TestAFullEtcdRefusesAndHeals(t *testing.T) {
	member, err := kvtest.StartEtcd(func(c *embed.Config) { c.QuotaBackendBytes = 1 << 20 })
	require.NoError(t, err)
	defer member.Close()
	store, err := member.Open()
	require.NoError(t, err)
	defer func() { _ = store.Close() }()
	w := newWorld(t, store)
	lead := w.lead("n1")
	w.create("a")
	owned := w.own(lead, "a", "n1")
	for range 1000 { // etcd looks at its size when it commits, every 100 ms, and may have taken far more by then
		if _, err = store.Txn(w.ctx, kv.Txn{Then: []kv.Op{kv.Put("/fill", make([]byte, 200<<10))}}); err != nil {
			break
		}
	}
	require.Error(t, err, "it is full")
	bump := lead.Bump(w.ctx, []epochstore.Bump{bumpOf(w.view("a"), "n2")})[0]
	for _, err := range []error{bump.Err, w.write(statusOf(owned, seenStatus{}, 1)).Err, lead.Probe(w.ctx)} {
		require.Error(t, err)
		require.NotErrorIs(t, err, fence.ErrUnknown)
		require.NotErrorIs(t, err, fence.ErrStale)
	}
	coordinator, err := w.store.Coordinator(w.ctx)
	require.NoError(t, err)
	lease, err := store.KeepAlive(w.ctx, coordinator.Lease)
	require.NoError(t, err)
	require.Positive(t, lease.TTL)
	client := store.Client()
	current, err := client.Get(w.ctx, "x")
	require.NoError(t, err)
	require.NoError(t, store.Compact(w.ctx, current.Header.Revision))
	_, err = client.Defragment(w.ctx, member.Endpoint)
	require.NoError(t, err)
	_, err = client.AlarmDisarm(w.ctx, &clientv3.AlarmMember{}) // all
	require.NoError(t, err)
	require.Eventually(t, func() bool {
		return lead.Bump(w.ctx, []epochstore.Bump{bumpOf(w.view("a"), "n2")})[0].Err == nil
	}, testLimit, 10*time.Millisecond)
}
