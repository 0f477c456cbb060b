package browser

import (
	_ "embed"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

// The console on three nodes. Each part has changefeeds of its own, and finds nothing drained.
func TestConsole(t *testing.T) {
	c := startCluster(t, 3)
	home := "http://" + c.nodes[0].http + "/"
	p := parts{cluster: c, home: home}
	t.Run("whoever has no token sees nothing, a viewer may only look", p.login)
	t.Run("pause and resume", p.pauseAndResume)
	t.Run("move", p.move)
	t.Run("split", p.split)
	t.Run("drain and undrain", p.drain)
	t.Run("remove", p.remove)
	t.Run("with the keyboard alone", p.keyboard)
	t.Run("how fast and how far", p.throughput)
}

// parts of a test share a cluster.
type parts struct {
	cluster *cluster
	home    string
}

// of is the cluster for a part of a test.
func (p parts) of(t *testing.T) (c *cluster, home string) {
	t.Helper()
	part := *p.cluster
	part.t = t
	return &part, p.home
}

func asAdmin(t *testing.T, home string) *tab {
	t.Helper()
	b := open(t, home)
	b.login(adminToken)
	b.sees("h1", "Cluster default")
	return b
}

func (p parts) login(t *testing.T) {
	c, home := p.of(t)
	c.create("looked", "blackhole:")
	b := open(t, home)
	b.login("no token of anybody")
	b.sees("#login .error", "token")
	require.NotContains(t, b.text("body"), "looked")
	b.login(viewerToken)
	b.sees("#page", "default/looked")
	b.lacks("[data-action]")
	b.goTo("looked")
	b.sees("h1", "default/looked")
	b.sees(".band", "n")
	b.lacks("[data-action]")
	b.click("#leave")
	b.sees("#login", "Log in")
	require.NotContains(t, b.text("body"), "looked")
}

func (p parts) pauseAndResume(t *testing.T) {
	c, home := p.of(t)
	c.create("paused", "blackhole:")
	b := asAdmin(t, home)
	b.goTo("paused")
	b.click("[data-action=pause]")
	b.sees("#ask", "Pause default/paused?")
	b.click("#ask-no")
	b.click("[data-action=pause]")
	now, _ := c.spec("paused")
	require.Equal(t, "running", now.Desired, "nothing happens before it is confirmed")
	b.confirm()
	c.until("it is paused, and nobody owns it", func() bool {
		now, _ := c.spec("paused")
		return now.Desired == "paused" && c.epoch("paused").OwnerName == ""
	})
	b.sees(".head .state", "paused")
	b.sees(".figures", "nobody")
	before := c.epoch("paused").Epoch
	b.click("[data-action=resume]")
	b.confirm()
	c.until("it is owned again", func() bool {
		now := c.epoch("paused")
		return now.OwnerName != "" && now.Epoch > before && now.Reason == "resumed"
	})
	b.sees(".head .state", "running")
	b.sees("#timeline", "resumed")
	b.sees("#timeline", "paused")
}

func (p parts) move(t *testing.T) {
	c, home := p.of(t)
	c.create("moved", "blackhole:")
	from := c.epoch("moved").OwnerName
	to := "n1"
	if from == to {
		to = "n2"
	}
	b := asAdmin(t, home)
	b.goTo("moved")
	b.click("[data-action=move]")
	require.NotContains(t, b.text("#move-to"), from, "it is there already")
	b.do(chromedp.SetValue(chromedp.CSS("#move-to"), to))
	b.confirm()
	c.until("it is owned by "+to, func() bool {
		now := c.epoch("moved")
		return now.OwnerName == to && now.Reason == "moved"
	})
	b.sees("#timeline tbody tr:first-child", to)
	b.sees("#timeline tbody tr:first-child", "moved")
}

func (p parts) split(t *testing.T) {
	c, home := p.of(t)
	c.create("divided", "blackhole:")
	b := asAdmin(t, home)
	b.goTo("divided")
	b.click("[data-action=split]")
	b.do(chromedp.SendKeys(chromedp.CSS("#split-at"), "/elsewhere/m"))
	b.click("#ask-yes")
	b.sees("#ask-error", "span") // a refusal stays in the dialog, with its cure
	b.do(chromedp.SetValue(chromedp.CSS("#split-at"), "/divided/m"))
	b.confirm()
	c.until("the border is kept", func() bool {
		now, _ := c.spec("divided")
		return now.Options["split_keys"] == "/divided/m"
	})
	eventually(t, "the band has two parts", func() error {
		if n := js[int](b, `document.querySelectorAll(".band:not(.timeline) .part").length`); n != 2 {
			return fmt.Errorf("it has %d", n)
		}
		return nil
	})
	b.sees(".borders", "…m")
}

func (p parts) drain(t *testing.T) {
	c, home := p.of(t)
	b := asAdmin(t, home)
	b.click("[data-node=n3] [data-action=drain]")
	b.sees("#ask", "Drain n3?")
	b.confirm()
	var kept struct{ At time.Time }
	c.until("the drain is recorded", func() bool { return c.record("drains/n3", &kept) })
	b.sees("[data-node=n3]", "draining")
	b.click("[data-node=n3] [data-action=undrain]")
	b.confirm()
	c.until("the drain is gone", func() bool { return !c.record("drains/n3", &kept) })
	eventually(t, "n3 is not draining", func() error {
		if text := b.text("[data-node=n3]"); strings.Contains(text, "draining") {
			return fmt.Errorf("it shows %q", text)
		}
		return nil
	})
}

func (p parts) remove(t *testing.T) {
	c, home := p.of(t)
	c.create("removed", "blackhole:")
	b := asAdmin(t, home)
	b.goTo("removed")
	b.click("[data-action=remove]")
	b.confirm()
	c.until("its records are gone", func() bool {
		_, found := c.spec("removed")
		return !found && c.epoch("removed").Epoch == 0
	})
	b.sees("#page", "There is no changefeed of this name")
	b.goTo("")
	b.sees("h1", "Cluster default")
	require.NotContains(t, b.text("table.feeds"), "removed")
}

func (p parts) keyboard(t *testing.T) {
	c, home := p.of(t)
	c.create("typed", "blackhole:")
	b := open(t, home)
	b.tabTo("#token")
	b.press(viewerToken[:3] + kb.Backspace + kb.Backspace + kb.Backspace + adminToken + kb.Enter)
	b.sees("#page", "default/typed")
	b.tabTo(`[data-feed="default/typed"] a`)
	b.press(kb.Enter)
	b.sees("h1", "default/typed")
	b.tabTo("[data-action=pause]")
	b.press(kb.Enter)
	b.sees("#ask", "Pause default/typed?")
	b.press(kb.Escape)
	require.False(t, js[bool](b, `document.getElementById("ask").open`))
	// What is drawn anew every two seconds takes the focus from nobody.
	held := b.text("#timeline")
	eventually(t, "the page is drawn anew", func() error {
		if b.text("#timeline") == held {
			return errors.New("it shows the same")
		}
		return nil
	})
	require.True(t, js[bool](b, `document.activeElement.matches("[data-action=pause]")`), "the focus went away")
	b.press(kb.Enter)
	b.tabTo("#ask-yes")
	b.press(kb.Enter)
	c.until("it is paused", func() bool {
		now, _ := c.spec("typed")
		return now.Desired == "paused"
	})
	b.sees(".head .state", "paused")
}

func (p parts) throughput(t *testing.T) {
	c, home := p.of(t)
	c.create("busy", "blackhole:")
	c.write(map[string]int{"/busy/": 50})
	b := asAdmin(t, home)
	at := `[data-feed="default/busy"] [data-label="Changes/s"]`
	eventually(t, "changes a second are shown, and drawn", func() error {
		shown := b.text(at)
		var speed float64
		if _, err := fmt.Sscan(shown, &speed); err != nil || speed < 1 || speed > 100 {
			return fmt.Errorf("it shows %q", shown)
		}
		if js[int](b, "document.querySelectorAll("+quoted(at+" path.line")+").length") != 1 {
			return fmt.Errorf("nothing is drawn")
		}
		return nil
	})
}

//go:embed testdata/contrast.js
var contrast string

// The page is read at each width and in both schemes; with -shots the pictures of the docs are taken.
func TestLooks(t *testing.T) {
	c := startCluster(t, 3)
	c.write(map[string]int{"/orders/": 120, "/users/": 9, "/audit/": 30})
	c.create("orders", "etcd://"+c.etcd+"/orders-copy/", "--option", "split_keys=/orders/d,/orders/h,/orders/m,/orders/q,/orders/u")
	c.create("users", "file://"+t.TempDir())
	c.create("audit", "blackhole:")
	c.cli("changefeed", "create", "warehouse", "--source", "etcd://"+c.etcd+"/audit/", "--sink", "etcd://127.0.0.1:1/w/")
	b := asAdmin(t, "http://"+c.nodes[0].http+"/")
	b.sees(`[data-feed="default/warehouse"]`, "sink.unreachable")
	if *shots {
		for _, owner := range []string{"n2", "n3", "n1"} {
			if c.epoch("orders").OwnerName != owner {
				c.cli("changefeed", "move", "orders", "--to", owner)
				c.until("it moved", func() bool { return c.epoch("orders").OwnerName == owner })
			}
			time.Sleep(15 * time.Second) // for plots that show something
		}
	}
	for _, scheme := range []string{"light", "dark"} {
		b.scheme(scheme)
		for name, size := range map[string][2]int64{"": desk, "-phone": phone} {
			b.size(size)
			b.goTo("")
			b.sees("h1", "Cluster default")
			b.legible()
			b.picture("console-" + scheme + name)
			b.goTo("orders")
			b.sees(".legend", "n3: 2 spans")
			b.legible()
			b.picture("changefeed-" + scheme + name)
			b.click("[data-action=split]")
			b.sees("#ask", "Split default/orders")
			b.legible()
			b.press(kb.Escape)
		}
	}
	b.size(desk)
	// The switch overrules what the system asks for, and is kept.
	b.click("#theme")
	require.Equal(t, "light", js[string](b, "document.documentElement.className"))
	b.do(chromedp.Reload())
	require.Equal(t, "light", js[string](b, "document.documentElement.className"))
}

// legible holds what is seen to it that nothing is cut off at the right, and that text stands out from its ground.
func (b *tab) legible() {
	b.t.Helper()
	require.LessOrEqual(b.t, js[int](b, "document.documentElement.scrollWidth"), js[int](b, "innerWidth"), "the page is wider than the window")
	require.Empty(b.t, js[[]string](b, contrast))
}
