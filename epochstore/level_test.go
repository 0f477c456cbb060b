package epochstore_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/record"
)

// before makes the cluster one of a version without epochs, with a field of a later version.
func (w *world) before() {
	w.t.Helper()
	old := strings.Replace(string(w.get(w.keys.Meta()).Value), `"level":1`, `"level":0`, 1)
	w.put(w.keys.Meta(), strings.TrimSuffix(old, "}")+`,"of_later":7}`)
}

func (w *world) join(id changefeed.NodeID, level int) {
	w.t.Helper()
	node := nodeRecord(id, string(id))
	node.Level = level
	_, err := w.store.Join(w.ctx, w.session(), node)
	require.NoError(w.t, err)
}

func (w *world) level() int {
	w.t.Helper()
	meta, err := w.store.Meta(w.ctx)
	require.NoError(w.t, err)
	return meta.Record.Level
}

// The level rises when every node has it, and keeps what it does not know of the record.
func TestTheLevelRisesWithTheLastNode(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.before()
		w.join("older", record.LevelBeforeEpochs)
		w.join("newer", record.LevelEpochs)
		lead := w.lead("newer")
		require.ErrorIs(t, lead.RaiseLevel(w.ctx, record.LevelEpochs), epochstore.ErrConflict)
		require.Zero(t, w.level())
		w.drop(w.keys.Node("older"))
		require.NoError(t, lead.RaiseLevel(w.ctx, record.LevelEpochs))
		require.Equal(t, record.LevelEpochs, w.level())
		require.Equal(t, record.LevelEpochs, lead.Meta().Record.Level)
		require.Contains(t, string(w.get(w.keys.Meta()).Value), `"of_later":7`)
		require.NoError(t, lead.RaiseLevel(w.ctx, record.LevelBeforeEpochs))
		require.Equal(t, record.LevelEpochs, w.level(), "it never falls")
	})
}

// A node that joins between the listing of the nodes and the raise is seen by the raise. One that joins after it sees the
// raise when it reads the level, which it does once it has joined.
func TestARaiseSeesWhoJoinsMeanwhile(t *testing.T) {
	onBoth(t, func(t *testing.T, w *world) {
		w.before()
		w.join("newer", record.LevelEpochs)
		lead := w.lead("newer")
		joined := false
		w.flaky.inject(func(txn kv.Txn) error {
			if len(txn.If) > 0 && !joined {
				joined = true
				node := nodeRecord("older", "older")
				node.Level = record.LevelBeforeEpochs
				value, err := record.Encode(record.Ref{Kind: record.KindNode, Node: "older"}, &node)
				require.NoError(t, err)
				w.put(w.keys.Node("older"), string(value))
			}
			return nil
		}, nil)
		require.ErrorIs(t, lead.RaiseLevel(w.ctx, record.LevelEpochs), epochstore.ErrConflict)
		require.True(t, joined)
		require.Zero(t, w.level())
	})
}
