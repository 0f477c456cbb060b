package browser

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// When nobody answers any more the page says since when, and keeps what it knew; it goes on by itself.
func TestTheServerIsGone(t *testing.T) {
	c := startCluster(t, 1)
	c.create("orders", "blackhole:")
	b := asAdmin(t, "http://"+c.nodes[0].http+"/")
	b.sees("#page", "default/orders")
	require.True(t, js[bool](b, `document.getElementById("gone").hidden`))
	c.nodes[0].kill()
	b.sees("#gone", "No answer since "+time.Now().Format("15:"))
	b.sees("#page", "default/orders")
	b.picture("gone")
	c.restart(c.nodes[0])
	// Its sessions ended with it.
	b.sees("#login", "Log in")
	require.True(t, js[bool](b, `document.getElementById("gone").hidden`))
	b.login(adminToken)
	b.sees("#page", "default/orders")
}

// What a fence refuses is told as it happens. That nodes tell it is tested where they do; here a proxy does, for a
// refusal can't be had on demand.
func TestFenceRejections(t *testing.T) {
	c := startCluster(t, 1)
	c.create("orders", "blackhole:")
	target, err := url.Parse("http://" + c.nodes[0].http)
	require.NoError(t, err)
	tell := make(chan string)
	proxy := httptest.NewServer(&eventful{tell: tell, rest: &httputil.ReverseProxy{Rewrite: func(r *httputil.ProxyRequest) {
		r.SetURL(target)
		if r.In.Header.Get("Origin") != "" {
			r.Out.Header.Set("Origin", target.String())
		}
	}}})
	t.Cleanup(proxy.Close)
	t.Cleanup(func() { close(tell) })
	b := asAdmin(t, proxy.URL+"/")
	b.sees("#link", "live")
	b.goTo("orders")
	b.sees("#page", "None since this page was opened")
	for i := range 3 {
		tell <- fmt.Sprintf("event: fence\nid: x-%d\ndata: "+`{"at":"2026-11-26T10:00:0%dZ","changefeed":"default/orders","node":"","rule":"F9","offered":%d,"held":9,"from":"gone","reason":"Place"}`+"\n\n", i, i, i+5)
	}
	b.sees("#fences", "F9 refused Place, from gone, epoch 7 was offered, 9 is held")
	b.sees("#fences", "epoch 5 was offered")
	require.Equal(t, 3, js[int](b, `document.querySelectorAll("#fences [data-event=fence]").length`))
	b.goTo("")
	b.sees(".events", "F9 refused Place")
	tell <- "event: fence\nid: y\ndata: {\"at\":\"2026-11-26T10:00:09Z\",\"changefeed\":\"default/<img src=x onerror=alert(1)>\",\"rule\":\"F9\"}\n\n"
	b.sees(".events", "<img src=x")
	b.lacks(".events img")
}

// eventful is a node whose events are the test's.
type eventful struct {
	tell chan string
	rest http.Handler
}

func (e *eventful) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/api/v1/events" {
		e.rest.ServeHTTP(w, r)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	flush := http.NewResponseController(w)
	_, _ = fmt.Fprint(w, ": what happens from now on\n\n")
	_ = flush.Flush()
	for {
		select {
		case <-r.Context().Done():
			return
		case text, more := <-e.tell:
			if !more {
				return
			}
			_, _ = fmt.Fprint(w, text)
			_ = flush.Flush()
		}
	}
}
