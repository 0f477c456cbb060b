package integration

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const movesInARow = 12

func TestMovedOwnersReplayNothing(t *testing.T) {
	w := newWorld(t, 400, "split_keys="+sourcePrefix+"k00300,"+sourcePrefix+"k00600")
	for i := range movesInARow {
		for _, name := range []string{"copy", "files"} {
			before, err := w.feed(w.all[0], name)
			require.NoError(t, err)
			to := w.all[(i+1)%len(w.all)]
			if to.name == before.OwnerName {
				require.Equal(t, 2, cli(t, "changefeed", "move", name, "--to", to.name, "--server", w.all[0].url()).code)
				continue
			}
			must(t, "changefeed", "move", name, "--to", to.name, "--server", w.all[i%3].url())
			eventually(t, name+" is owned by "+to.name, func() error {
				f, err := w.feed(w.all[0], name)
				if err == nil && (f.OwnerName != to.name || f.State != "running") {
					err = fmt.Errorf("owner %s, %s", f.OwnerName, f.State)
				}
				return err
			})
		}
	}
	require.Equal(t, 4, cli(t, "changefeed", "move", "copy", "--to", "nobody", "--server", w.all[0].url()).code)
	for _, history := range w.histories("copy") {
		require.Contains(t, []string{"moved", "created"}, history.Reason, "nobody was taken for lost, silent or failed")
	}
	w.settle()
}

// ownership is what the tests read of a changefeed's history.
type ownership struct {
	Epoch  uint64 `json:"epoch"`
	Reason string `json:"reason"`

	Unanswered bool `json:"unanswered"`
}

func (c *nodes) histories(name string) []ownership {
	c.t.Helper()
	return c.historiesVia(c.alive(), name)
}

// historiesVia asks one server for the ownerships, newest first.
func (c *nodes) historiesVia(via *server, name string) []ownership {
	c.t.Helper()
	var list struct {
		Items []ownership `json:"items"`
	}
	out := must(c.t, "changefeed", "history", name, "--server", via.url(), "-o", "json")
	require.NoError(c.t, json.Unmarshal([]byte(out), &list))
	return list.Items
}

func TestDrainedNodeIsEmptiedAndFilledAgain(t *testing.T) {
	w := newWorld(t, 400, "split_keys="+sourcePrefix+"k00200,"+sourcePrefix+"k00400,"+sourcePrefix+"k00600")
	via := w.all[0].url()
	for _, s := range w.all {
		must(t, "node", "drain", s.name, "--wait", "--timeout", waitMax.String(), "--server", via)
		for _, name := range []string{"copy", "files"} {
			f, err := w.feed(w.all[0], name)
			require.NoError(t, err)
			require.NotEqual(t, s.name, f.OwnerName)
		}
		require.Equal(t, 2, cli(t, "changefeed", "move", "copy", "--to", s.name, "--server", via).code, "a draining node takes nothing")
		eventually(t, "the empty node leaves coordination to another", func() error {
			if name := w.coordinator(w.all[0]); name == "" || name == s.name {
				return fmt.Errorf("coordinator %q", name)
			}
			return nil
		})
		must(t, "node", "undrain", s.name, "--server", via)
		eventually(t, s.name+" is given spans again", func() error {
			for _, n := range w.list() {
				if n.Name == s.name && n.Dispatchers > 0 && n.Liveness == "alive" {
					return nil
				}
			}
			return fmt.Errorf("nodes: %+v", w.list())
		})
	}
	require.Equal(t, 4, cli(t, "node", "drain", "nobody", "--server", via).code)
	w.settle()
}

// listed is what the tests read of a node.
type listed struct {
	Name        string `json:"name"`
	Liveness    string `json:"liveness"`
	Maintainers int    `json:"maintainers"`
	Dispatchers int    `json:"dispatchers"`

	Unreachable []string `json:"unreachable"`
}

func (c *nodes) list() []listed {
	c.t.Helper()
	var list struct {
		Items []listed `json:"items"`
	}
	out := must(c.t, "node", "list", "--server", c.alive().url(), "-o", "json")
	require.NoError(c.t, json.Unmarshal([]byte(out), &list))
	return list.Items
}

func TestRollingRestart(t *testing.T) {
	w := newWorld(t, 400, "split_keys="+sourcePrefix+"k00300,"+sourcePrefix+"k00600")
	for range 2 {
		for _, s := range w.all {
			began := time.Now()
			s.terminate()
			w.writers.probe(w.target, targetPrefix, began, sessionTTL+recoverySlack)
			w.restart(s)
		}
	}
	for _, history := range w.histories("copy") {
		require.NotEqual(t, "owner_lost", history.Reason, "a clean stop hands over")
	}
	w.settle()
}
