//go:build databases

package databases

import (
	"context"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/integration/proc"
)

// rate is how many transactions a second pgbench makes: enough that one is always on its way.
const rate = 60

// byTable splits pgbench's tables into spans of their own, so that several nodes run dispatchers of one changefeed.
var byTable = map[string]string{"split_keys": "public.pgbench_branches:,public.pgbench_history:,public.pgbench_tellers:"}

// triesMax bounds how many faults are injected for each one that has to be effective.
const triesMax = 2

// pgbench runs at a PostgreSQL that is copied to another and to a MariaDB, while whoever owns or runs something of it is
// stopped, killed or cut off. At every sync point the balances add up, in the end the tables are equal row by row, each row of
// the history is there once although it has no key, and at no time was a slot confirmed above the stored checkpoint.
func TestPgbenchUnderFaults(t *testing.T) {
	t.Parallel()
	w := newWorld(t, binary, 3)
	effective := w.underFaults(*faultsWanted, func([]string) bool { return false })
	require.Empty(t, w.wrong())
	require.GreaterOrEqual(t, effective, *faultsWanted)
}

// The same without the compare of the claim in the data's transaction: who was stopped goes on writing when it wakes up, and
// the targets are not what the source is. If this run found nothing, the other's silence would mean nothing.
func TestWithoutTheClaimCheckPgbenchCorrupts(t *testing.T) {
	t.Parallel()
	w := newWorld(t, unfenced, 3)
	effective := w.underFaults(*faultsWanted, func(wrong []string) bool { return len(wrong) > 0 })
	t.Logf("after %d effective faults: %s", effective, proc.LastLines(joined(w.wrong()), objectionsMax))
	require.NotEmpty(t, w.wrong(), "nothing was seen to be wrong in what stale writers wrote")
}

// underFaults copies what pgbench does while faults fall, until some were effective or enough is known, and judges the targets.
func (w *world) underFaults(wanted int, enough func([]string) bool) (effective int) {
	w.t.Helper()
	w.postgresFeed("pgwhole", nil)
	w.postgresFeed("pgsplit", byTable)
	w.mariaFeed("mywhole", nil)
	w.mariaFeed("mysplit", byTable)
	w.load(rate)
	for _, f := range w.feeds {
		f.running()
	}
	stop := w.watch()
	for i := range wanted * triesMax {
		if effective >= wanted || enough(w.audit()) {
			break
		}
		out := w.inject(rotation(*seedWanted+i, len(w.feeds)))
		if out.effective() {
			effective++
		}
		if out.problem != "" {
			w.object("%s: %s", out.what, out.problem)
		}
		w.t.Logf("%2d %v", i+1, out)
	}
	w.unload()
	for _, f := range w.feeds {
		if _, err := w.try("changefeed", "wait", f.name, "--caught-up", "--timeout", "60s"); err != nil {
			w.object("%s does not come to the source's end: %v", f.name, err)
		}
	}
	stop()
	w.audit()
	for _, f := range w.feeds {
		f.compare()
	}
	return effective
}

// audit looks at the sync points, and returns what is wrong by now.
func (w *world) audit() []string {
	w.t.Helper()
	for _, f := range w.feeds {
		f.audit()
	}
	return w.wrong()
}

// watch has the slots watched, and cuts read, until it is stopped.
func (w *world) watch() (stop func()) {
	ctx, cancel := context.WithCancel(w.t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		seen := w.watchSlots(ctx)
		w.t.Logf("%d slots were looked at, %d times", len(seen.seen), seen.samples)
		if len(seen.seen) != len(w.feeds) {
			w.object("there were %d slots for %d changefeeds", len(seen.seen), len(w.feeds))
		}
	})
	for _, f := range w.feeds {
		query := f.cutQuery()
		group.Go(func() {
			cuts := f.reader(ctx, query)
			w.t.Logf("%s: %d cuts were read", f.name, cuts)
			if cuts == 0 {
				w.object("%s: no snapshot was a cut", f.name)
			}
		})
	}
	return func() {
		cancel()
		group.Wait()
		for _, f := range w.feeds {
			n := f.audit()
			w.t.Logf("%s: %d sync points", f.name, n)
			if n == 0 {
				w.object("%s: no sync point was recorded", f.name)
			}
		}
	}
}
