package browser

import (
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What a newcomer sees first: dev, and its console without a token, with a changefeed that moves.
func TestTheConsoleOfDev(t *testing.T) {
	address := freeAddr(t)
	began := time.Now()
	p := start(t, "dev", "dev", "--http-addr", address)
	eventually(t, "the console answers", func() error {
		response, err := http.Get("http://" + address + "/")
		if err != nil {
			return err
		}
		return response.Body.Close()
	})
	b := open(t, "http://"+address+"/")
	b.sees(`[data-feed="default/demo"]`, "running")
	t.Logf("seen in the browser %v after the start", time.Since(began).Round(10*time.Millisecond))
	b.sees("[data-action=drain]", "Drain") // on loopback without tokens everybody is an admin
	require.True(t, js[bool](b, `document.getElementById("leave").hidden`), "there is no session to leave")
	p.mu.Lock()
	defer p.mu.Unlock()
	require.Contains(t, p.output.String(), "The console is at http://"+address+"/")
}
