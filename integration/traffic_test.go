package integration

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// One span with all of the traffic becomes several, on several nodes; the next owner goes on with these; when nothing is
// written any more they become one again. Nothing of it is in the spec, and every change arrives once.
func TestSpansFollowTheTraffic(t *testing.T) {
	w := newWorld(t, 800, "split_rate=100", "split_after=1s", "merge_after=2s")
	spans := func(name string) []spanView {
		out, err := w.spansOf(name)
		require.NoError(t, err)
		return out
	}
	nodesOf := func(name string) map[string]bool {
		out := map[string]bool{}
		for _, span := range spans(name) {
			out[span.NodeName] = true
		}
		return out
	}
	eventually(t, "the rate of the one span is shown", func() error {
		if got := spans("copy"); len(got) == 1 && got[0].Rate == 0 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
	first, err := w.feed(w.all[0], "copy")
	require.NoError(t, err)
	for _, name := range []string{"copy", "files"} {
		eventually(t, name+" is split by its traffic", func() error {
			if got := spans(name); len(got) < 2 || len(nodesOf(name)) < 2 {
				return fmt.Errorf("%+v", got)
			}
			return nil
		})
	}
	after, err := w.feed(w.all[0], "copy")
	require.NoError(t, err)
	require.Equal(t, first.Epoch, after.Epoch, "it takes no other owner")
	require.Empty(t, after.Options["split_keys"], "it is not in the spec")

	to := w.alive()
	for _, s := range w.all {
		if s.name != after.OwnerName {
			to = s
		}
	}
	must(t, "changefeed", "move", "copy", "--to", to.name, "--server", w.all[0].url())
	eventually(t, "copy is owned by "+to.name, func() error {
		f, err := w.feed(w.all[0], "copy")
		if err == nil && (f.OwnerName != to.name || f.State != "running") {
			err = fmt.Errorf("owner %s, %s", f.OwnerName, f.State)
		}
		return err
	})
	require.Greater(t, len(spans("copy")), 1, "the next owner goes on with what runs")

	_ = w.writers.finish()
	for _, name := range []string{"copy", "files"} {
		eventually(t, name+" is one span again", func() error {
			if got := spans(name); len(got) != 1 || got[0].State != "running" {
				return fmt.Errorf("%+v", got)
			}
			return nil
		})
	}
	w.settle()
}
