package coordinator

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/cockroachdb/datadriven"
	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

func TestScenarios(t *testing.T) {
	datadriven.Walk(t, "testdata", func(t *testing.T, path string) {
		w := newWorld()
		datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string {
			run(t, w, d)
			if said := w.say(); said != "" {
				return said
			}
			return "nothing"
		})
	})
}

func word(d *datadriven.TestData, key string) string {
	for _, arg := range d.CmdArgs {
		if arg.Key == key && len(arg.Vals) > 0 {
			return arg.Vals[0]
		}
	}
	return ""
}

func duration(t *testing.T, text string) changefeed.Duration {
	t.Helper()
	if text == "" {
		return 0
	}
	out, err := time.ParseDuration(text)
	require.NoError(t, err)
	return out
}

// run does one command of a scenario.
func run(t *testing.T, w *world, d *datadriven.TestData) {
	t.Helper()
	name, id := word(d, "name"), feedID(word(d, "name"))
	switch d.Cmd {
	case "elect":
		require.NoError(t, w.elect())
	case "node":
		liveness := record.Alive
		if word(d, "liveness") != "" {
			liveness = record.Liveness(word(d, "liveness"))
		}
		w.putNode(name, liveness)
	case "cut":
		w.cutNode(name, strings.Fields(strings.ReplaceAll(word(d, "from"), "+", " "))...)
	case "evict":
		w.evict(word(d, "uid"), name, map[bool]*time.Time{true: {}}[d.HasArg("acknowledged")])
	case "lose":
		w.loseNode(name)
	case "drain":
		w.drain(name)
	case "undrain":
		w.undrain(name)
	case "floor":
		floor, err := strconv.ParseUint(word(d, "at"), 10, 64)
		require.NoError(t, err)
		w.putMeta(func(m *record.Meta) { m.EpochFloor = fence.Epoch(floor) })
	case "spec":
		runSpec(w, d, id)
	case "status":
		if word(d, "epoch") != "" { // of an ownership that has ended
			epoch, err := strconv.ParseUint(word(d, "epoch"), 10, 64)
			require.NoError(t, err)
			w.watchLate(id, fence.Epoch(epoch), changefeed.State(word(d, "state")))
			return
		}
		require.True(t, w.putStatus(id, changefeed.State(word(d, "state")), changefeed.Desired(word(d, "for")), duration(t, word(d, "retry"))))
	case "corrupt":
		runCorrupt(w, d, id)
	case "tick":
		w.age = duration(t, word(d, "age"))
		w.tick(duration(t, word(d, "d")))
	case "answer":
		how := answerOK
		if word(d, "how") != "" {
			how = answer(word(d, "how"))
		}
		w.answerAll(how)
		w.release()
	case "watch":
		w.held = d.HasArg("hold")
		w.release()
	default:
		t.Fatalf("unknown command %s", d.Cmd)
	}
}

func runSpec(w *world, d *datadriven.TestData, id changefeed.ID) {
	w.putSpec(id, func(s *record.Spec) {
		if desired := word(d, "desired"); desired != "" {
			s.Desired = changefeed.Desired(desired)
		}
		if to := word(d, "move"); to != "" {
			s.Move = &record.Move{To: changefeed.NodeID(to), ID: "move"}
		}
		s.Bump = word(d, "bump")
	})
}

func runCorrupt(w *world, d *datadriven.TestData, id changefeed.ID) {
	w.revision++
	switch word(d, "record") {
	case "spec":
		e := w.specs[id]
		e.fault, e.mod = "is not JSON", w.revision
		w.specs[id] = e
		w.watch(SpecSeen{id, observed(e)})
	default:
		e := entry[record.Status]{fault: "is not JSON", mod: w.revision}
		w.statuses[id] = e
		w.watch(StatusSeen{id, observed(e)})
	}
}

// The final checkpoint of an ownership comes from the last status, of this uid.
func TestDecisionCarriesLastStatus(t *testing.T) {
	w := newWorld()
	w.putNode("n1", record.Alive)
	w.putSpec(feedID("a"), func(*record.Spec) {})
	require.NoError(t, w.elect())
	w.settle()
	w.release()
	w.putStatus(feedID("a"), changefeed.StateRunning, "", 0)
	e := w.statuses[feedID("a")]
	e.value.Checkpoint = change.Position(77)
	e.mod = w.revision + 1
	w.revision++
	w.watch(StatusSeen{feedID("a"), observed(e)})
	w.putNode("n2", record.Alive)
	w.loseNode("n1")
	require.Len(t, w.pending, 1)
	decision := w.pending[0].(Bump).Decision
	require.Equal(t, change.Position(77), decision.Status.Checkpoint)
	require.Equal(t, w.epochs[feedID("a")].mod, decision.PreviousRevision)
	require.False(t, decision.Planned)
}

// Hazard 10: the name is free as soon as the removal is committed, so that its next changefeed may be watched before the
// removal's answer comes.
func TestANameThatIsTakenAgainBeforeItsRemovalIsAnsweredGetsAnOwner(t *testing.T) {
	w, id := newWorld(), feedID("a")
	w.putNode("n1", record.Alive)
	w.putSpec(id, func(s *record.Spec) { s.Desired = changefeed.DesiredRemoved })
	require.NoError(t, w.elect())
	var removal Removal
	for removal.ID != id {
		require.Len(t, w.pending, 1)
		if remove, found := w.pending[0].(Remove); found {
			removal = remove.Removal
			break
		}
		w.answerAll(answerOK)
		w.release()
		w.putStatus(id, changefeed.StateReleased, "", 0)
	}
	w.pending = nil
	err := w.remove(removal)
	w.release()
	w.putSpec(id, func(s *record.Spec) { s.Desired = changefeed.DesiredRunning })
	require.NotEqual(t, removal.UID, w.specs[id].value.UID)
	w.step(RemoveAnswered{Removal: removal, Err: err})
	require.Len(t, w.pending, 1)
	require.Equal(t, w.specs[id].value.UID, w.pending[0].(Bump).Decision.UID)
}

// Hazard 15: etcd was restored from a backup with a jump of revisions, so that nobody notices, and no watch tells that
// records went back. A term that is refused again and again ends, and the next one lists anew.
func TestATermEndsWhereTheRecordsAreNotAsTheyAreWatched(t *testing.T) {
	w, id := newWorld(), feedID("a")
	w.putNode("n1", record.Alive)
	w.putNode("n2", record.Alive)
	w.putSpec(id, func(*record.Spec) {})
	require.NoError(t, w.elect())
	w.settle()
	w.release()
	went := w.epochs[id]
	went.mod -= 2
	w.epochs[id] = went // nobody is told
	w.loseNode(string(went.value.Owner))
	for range refusedMax {
		require.NotContains(t, w.say(), "distrusts")
		require.Len(t, w.pending, 1)
		w.answerAll(answerOK)
		w.tick(staleBackoffMax)
	}
	require.Contains(t, w.say(), "distrusts what is watched of a")
	require.NoError(t, w.elect())
	w.settle()
	require.NotEqual(t, went.value.Owner, w.epochs[id].value.Owner)
}
