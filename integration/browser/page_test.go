package browser

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/require"
)

var shots = flag.Bool("shots", false, "write the pictures of docs/img anew")

// documented are the pictures that the docs show.
var documented = []string{"console-light", "changefeed-light", "changefeed-dark", "console-dark-phone"}

// Sizes of windows.
var (
	desk  = [2]int64{1280, 860}
	phone = [2]int64{390, 844}
)

// tab is a page in a browser of its own, with nothing kept from others.
type tab struct {
	t    *testing.T
	ctx  context.Context
	home string

	mu       sync.Mutex // guards both
	asked    []string   // addresses
	troubles []string   // what the page threw or the console got as an error
}

// browser is started by the first test that needs it; each tab has cookies and a storage of its own.
var browser = sync.OnceValues(func() (context.Context, error) {
	options := append([]chromedp.ExecAllocatorOption{}, chromedp.DefaultExecAllocatorOptions[:]...)
	options = append(options, chromedp.NoSandbox, chromedp.WindowSize(int(desk[0]), int(desk[1])), chromedp.Flag("force-prefers-reduced-motion", true))
	if path := os.Getenv("CHROMIUM"); path != "" {
		options = append(options, chromedp.ExecPath(path))
	}
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, leave := chromedp.NewContext(allocator)
	closeBrowser = func() {
		leave()
		end()
	}
	return ctx, chromedp.Do(ctx)
})

// closeBrowser ends it, after all tests.
var closeBrowser = func() {}

func open(t *testing.T, address string) *tab {
	t.Helper()
	parent, err := browser()
	require.NoError(t, err)
	ctx, leave := chromedp.NewContext(parent, chromedp.WithNewBrowserContext())
	tab := &tab{t: t, ctx: ctx, home: address}
	t.Cleanup(leave)
	require.NoError(t, chromedp.Listen(ctx, func(event any) {
		tab.mu.Lock()
		defer tab.mu.Unlock()
		switch event := event.(type) {
		case *network.EventRequestWillBeSent:
			tab.asked = append(tab.asked, event.Request.URL)
		case *runtime.EventExceptionThrown:
			tab.troubles = append(tab.troubles, event.ExceptionDetails.Text)
		}
	}))
	_, err = chromedp.Call(ctx, network.Enable, network.EnableParams{})
	require.NoError(t, err)
	tab.size(desk)
	tab.do(chromedp.Navigate(address))
	t.Cleanup(tab.judge)
	return tab
}

// judge holds every test's page to what holds for all: nothing was thrown, and nothing was asked of anybody else.
func (b *tab) judge() {
	b.mu.Lock()
	defer b.mu.Unlock()
	home, err := url.Parse(b.home)
	require.NoError(b.t, err)
	for _, address := range b.asked {
		parsed, err := url.Parse(address)
		require.NoError(b.t, err)
		require.Equal(b.t, home.Host, parsed.Host, "asked elsewhere: %s", address)
	}
	require.Empty(b.t, b.troubles)
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, waitMax)
	defer cancel()
	if err := chromedp.Do(ctx, steps...); err != nil {
		b.picture("failure")
		b.t.Fatalf("%v\n%s", err, b.text("body"))
	}
}

func (b *tab) size(size [2]int64) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{
		Width: size[0], Height: size[1], DeviceScaleFactor: 1, Mobile: size == phone,
	})
	require.NoError(b.t, err)
}

// scheme asks for dark or light, as the system would.
func (b *tab) scheme(name string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: name}},
	})
	require.NoError(b.t, err)
}

// js evaluates an expression.
func js[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, waitMax)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(b.t, err, expression)
	return out
}

func quoted(text string) string {
	data, _ := json.Marshal(text)
	return string(data)
}

// text is what can be read there; nothing if it isn't there.
func (b *tab) text(selector string) string {
	ctx, cancel := context.WithTimeout(b.ctx, 10*time.Second)
	defer cancel()
	out, err := chromedp.Run(ctx, chromedp.Evaluate[string](`document.querySelector(`+quoted(selector)+`)?.innerText ?? ""`))
	if err != nil {
		return err.Error()
	}
	return out
}

// sees waits until a text can be read.
func (b *tab) sees(selector, text string) {
	b.t.Helper()
	eventually(b.t, fmt.Sprintf("%s shows %q", selector, text), func() error {
		if shown := b.text(selector); !strings.Contains(shown, text) {
			return fmt.Errorf("it shows %q", shown)
		}
		return nil
	})
}

// lacks says that nothing of that kind is there.
func (b *tab) lacks(selector string) {
	b.t.Helper()
	require.Zero(b.t, js[int](b, "document.querySelectorAll("+quoted(selector)+").length"), selector)
}

// click clicks where a person would, once it can be clicked.
func (b *tab) click(selector string) {
	b.t.Helper()
	at := chromedp.CSS(selector)
	b.do(chromedp.WaitEnabled(at), chromedp.ScrollIntoView(at), chromedp.Click(at))
}

func (b *tab) press(keys string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(keys))
}

// tabTo walks with the tab key until the focus is there.
func (b *tab) tabTo(selector string) {
	b.t.Helper()
	for range 80 {
		if js[bool](b, "Boolean(document.activeElement?.matches("+quoted(selector)+"))") {
			return
		}
		b.press(kb.Tab)
	}
	b.t.Fatalf("the tab key does not reach %s", selector)
}

// confirm says yes in the dialog, and waits until it is closed.
func (b *tab) confirm() {
	b.t.Helper()
	b.click("#ask-yes")
	eventually(b.t, "the dialog closes", func() error {
		if js[bool](b, `document.getElementById("ask").open`) {
			return fmt.Errorf("it is open: %s", b.text("#ask"))
		}
		return nil
	})
}

func (b *tab) login(token string) {
	b.t.Helper()
	at := chromedp.CSS("#token")
	b.do(chromedp.WaitVisible(at), chromedp.SendKeys(at, token+kb.Enter))
}

// goTo opens the page of one changefeed, or the first page.
func (b *tab) goTo(name string) {
	b.t.Helper()
	hash := "#/"
	if name != "" {
		hash = "#/changefeeds/default/" + name
	}
	b.do(chromedp.Evaluate[chromedp.Void]("location.hash = " + quoted(hash)))
}

// picture keeps what is seen: in docs/img when asked to, else in SHOTS, if that is a folder.
func (b *tab) picture(name string) {
	dir := os.Getenv("SHOTS")
	if *shots && slices.Contains(documented, name) {
		dir = filepath.Join("..", "..", "docs", "img")
	}
	if dir == "" {
		return
	}
	ctx, cancel := context.WithTimeout(b.ctx, 20*time.Second)
	defer cancel()
	data, err := chromedp.Run(ctx, chromedp.CaptureScreenshot())
	if err != nil {
		b.t.Logf("no picture of %s: %v", name, err)
		return
	}
	require.NoError(b.t, os.MkdirAll(dir, 0o755))
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), data, 0o644))
}
