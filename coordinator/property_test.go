package coordinator

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fencerow/changefeed"
	"fencerow/record"
)

// Whatever happens in whatever order: epochs only grow, nobody is left without reason, a release for removal goes
// before the removal, one epoch has one successor; and once nothing happens any more, it gets quiet (hazards 1, 7, 8, 10,
// 11, 18).
func TestRandomHistories(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := &random{world: newWorld(), t: t, ended: map[string]bool{}}
		r.putNode("n1", record.Alive)
		require.NoError(t, r.elect())
		for range rapid.IntRange(5, 60).Draw(t, "steps") {
			r.act()
			r.check()
		}
		r.calm()
	})
}

type random struct {
	*world
	t     *rapid.T
	lives int
	seen  int             // of world.bumped
	ended map[string]bool // epochs that have a successor
	last  map[changefeed.ID]record.Epoch
}

func (r *random) pick(n int, what string) int { return rapid.IntRange(0, n-1).Draw(r.t, what) }

func (r *random) act() {
	id := feedID([]string{"a", "b", "c"}[r.pick(3, "changefeed")])
	switch r.pick(12, "act") {
	case 0:
		r.lives++
		r.putNode(fmt.Sprintf("n%d", r.lives+1), record.Alive)
	case 1:
		node := fmt.Sprintf("n%d", r.pick(r.lives+1, "node")+1)
		if _, lives := r.nodes[changefeed.NodeID(node)]; lives && len(r.nodes) > 1 {
			r.loseNode(node)
		}
	case 2, 3, 4:
		r.changeSpec(id)
	case 5, 6:
		r.changeStatus(id)
	case 7:
		r.tick(changefeed.Duration(r.pick(40, "seconds")) * time.Second)
	case 8:
		r.held = !r.held
		r.release()
	case 9:
		require.NoError(r.t, r.elect())
	default:
		how := []answer{answerOK, answerOK, answerLost, answerUnknown, answerFail}[r.pick(5, "how")]
		r.answerAll(how)
		r.release()
	}
}

func (r *random) changeSpec(id changefeed.ID) {
	desired := []changefeed.Desired{changefeed.DesiredRunning, changefeed.DesiredPaused, changefeed.DesiredRemoved}[r.pick(3, "desired")]
	if e, found := r.specs[id]; found && e.value.Desired == changefeed.DesiredRemoved {
		return // users can't take a removal back
	}
	r.putSpec(id, func(s *record.Spec) {
		s.Desired = desired
		switch r.pick(4, "ask") {
		case 0:
			s.Move = &record.Move{To: changefeed.NodeID(fmt.Sprintf("n%d", r.pick(4, "to"))), ID: "m"}
		case 1:
			s.Bump = "b"
		}
	})
}

func (r *random) changeStatus(id changefeed.ID) {
	epoch, found := r.epochs[id]
	if !found || r.statuses[id].value.Epoch == epoch.value.Epoch && r.statuses[id].value.State == changefeed.StateReleased {
		return // a release is final
	}
	state := []changefeed.State{changefeed.StateRunning, changefeed.StateRetrying, changefeed.StateFailed, changefeed.StateReleased}[r.pick(4, "state")]
	done := []changefeed.Desired{"", changefeed.DesiredRunning, changefeed.DesiredPaused, changefeed.DesiredRemoved}[r.pick(4, "for")]
	if state != changefeed.StateReleased {
		done = ""
	}
	r.putStatus(id, state, done, changefeed.Duration(r.pick(20, "retry"))*time.Second)
}

// check looks at every epoch as it is stored.
func (r *random) check() {
	if r.last == nil {
		r.last = map[changefeed.ID]record.Epoch{}
	}
	for id, e := range r.epochs {
		last, known := r.last[id]
		if known && last.Nonce == e.value.Nonce {
			continue
		}
		if known {
			require.True(r.t, last.Epoch.OlderThan(e.value.Epoch), "epoch %d after %d", e.value.Epoch, last.Epoch)
		}
		r.last[id] = e.value
	}
	for _, epoch := range r.bumped[r.seen:] {
		require.False(r.t, r.ended[epoch.Nonce], "the decision %s is reported twice", epoch.Nonce)
		r.ended[epoch.Nonce] = true
	}
	r.seen = len(r.bumped)
	require.LessOrEqual(r.t, r.core.bumping, BumpsInFlightMax)
	r.checkLoads()
}

// checkLoads counts the loads again, from what the core knows.
func (r *random) checkLoads() {
	loads := map[changefeed.NodeID]int{}
	for _, f := range r.core.feeds {
		if f.owner() != "" {
			loads[f.owner()]++
		}
		if f.doubt != nil && f.doubt.Owner != "" {
			loads[f.doubt.Owner]++
		}
	}
	require.Equal(r.t, loads, r.core.loads)
}

// calm lets everything work, with owners that obey, and expects that what users want is so and nothing is done any more.
func (r *random) calm() {
	r.held = false
	r.age = 0
	r.release()
	r.putNode("last", record.Alive)
	for range 60 {
		r.tick(3 * time.Second)
		r.settle()
		r.release()
		r.settle()
		r.obey()
		r.check()
	}
	bumps := len(r.bumped)
	for range 40 {
		r.tick(3 * time.Second)
		r.settle()
		r.release()
		r.obey()
	}
	require.Len(r.t, r.bumped, bumps, "it doesn't get quiet")
	for id, spec := range r.specs {
		epoch, owned := r.epochs[id]
		if status := r.statuses[id].value; status.Epoch == epoch.value.Epoch && status.State == changefeed.StateFailed {
			require.Equal(r.t, spec.mod, epoch.value.SpecRevision, "%s failed, and then users changed something", id)
			continue
		}
		switch spec.value.Desired {
		case changefeed.DesiredRunning:
			require.True(r.t, owned && epoch.value.Owner != "", "%s has no owner", id)
			require.Equal(r.t, spec.mod, epoch.value.SpecRevision)
		case changefeed.DesiredPaused:
			require.True(r.t, !owned || epoch.value.Owner == "", "%s is not paused", id)
		default:
			require.Fail(r.t, "not removed", "%s", id)
		}
	}
}

// obey is what owners do: release when asked, or when installed to pause or remove; else run.
func (r *random) obey() {
	for _, id := range r.names() {
		epoch, owned := r.epochs[id]
		if !owned || epoch.value.Owner == "" {
			continue
		}
		status := r.statuses[id]
		current := status.value.UID == epoch.value.UID && status.value.Epoch == epoch.value.Epoch
		if current && (status.value.State == changefeed.StateReleased || status.value.State == changefeed.StateFailed ||
			status.value.State == changefeed.StateRetrying) {
			continue
		}
		handoff, asked := r.handoffs[id]
		stop := r.specs[id].value.Desired != changefeed.DesiredRunning && r.specs[id].mod == epoch.value.SpecRevision
		if stop || asked && handoff.value.Epoch == epoch.value.Epoch {
			r.putStatus(id, changefeed.StateReleased, "", 0)
		} else {
			r.putStatus(id, changefeed.StateRunning, "", 0)
		}
	}
}
