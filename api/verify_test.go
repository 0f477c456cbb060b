package api

import (
	"context"
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/record"
)

func TestAComparisonTellsHowFarItIsAndWhatItFound(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	must(c.Create(t.Context(), request()))
	f.own(orders, "node-1", changefeed.StateRunning, 40)
	stray := shape.Difference{Kind: "extra", Key: changefeed.Key("/o/\xff")}
	f.compare = func(ctx context.Context, how VerifyHow) (shape.Verified, error) {
		require.Equal(t, 5, how.Rows)
		require.Equal(t, 7, how.Limit)
		status, err := how.Reached(ctx)
		require.NoError(t, err)
		require.EqualValues(t, 40, status.Value.Checkpoint)
		how.Tell(shape.VerifyProgress{Rows: 10, Total: 20, Pending: 1})
		how.Tell(shape.VerifyProgress{Rows: 10, Difference: &stray})
		return shape.Verified{Rows: 20, From: 40, To: 41, Differences: []shape.Difference{stray}}, nil
	}
	var told []shape.VerifyProgress
	answer, err := c.Verify(t.Context(), orders, 5, 7, func(p shape.VerifyProgress) { told = append(told, p) })
	require.NoError(t, err)
	require.Equal(t, []shape.VerifyProgress{{Rows: 10, Total: 20, Pending: 1}, {Difference: &stray}}, told)
	require.Equal(t, []shape.Difference{stray}, answer.Value.Differences)
	require.Contains(t, string(answer.Raw), `"key":{"base64":"L28v/w=="}`)
}

func TestAComparisonThatFailsSaysWhy(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	ignore := func(shape.VerifyProgress) {}
	_, err := c.Verify(t.Context(), orders, 5, 7, ignore)
	require.Equal(t, http.StatusNotFound, problemIn(t, err).Status)
	must(c.Create(t.Context(), request()))
	for _, bad := range [][2]int{{0, 7}, {5, 0}, {5, verifyLimitMax + 1}, {verifyRateMax + 1, 7}} {
		_, err := c.Verify(t.Context(), orders, bad[0], bad[1], ignore)
		require.Equal(t, http.StatusBadRequest, problemIn(t, err).Status, bad)
	}
	f.compare = func(ctx context.Context, how VerifyHow) (shape.Verified, error) {
		f.mu.Lock()
		view := f.views[orders]
		spec := *view.Spec.Value
		spec.UID = "another"
		view.Spec = Stored[record.Spec]{Value: &spec, Revision: view.Spec.Revision}
		f.views[orders] = view
		f.mu.Unlock()
		_, err := how.Reached(ctx)
		return shape.Verified{}, err
	}
	_, err = c.Verify(t.Context(), orders, 5, 7, ignore)
	require.Equal(t, changefeed.CodeSpecConflict, problemIn(t, err).Code)
}

// TestAComparisonEndsWithItsCaller, and no more than a few run at once.
func TestAComparisonEndsWithItsCaller(t *testing.T) {
	f := newFake()
	c, _ := serve(t, f)
	must(c.Create(t.Context(), request()))
	running, ended := make(chan struct{}), make(chan struct{})
	f.compare = func(ctx context.Context, _ VerifyHow) (shape.Verified, error) {
		running <- struct{}{}
		<-ctx.Done()
		ended <- struct{}{}
		return shape.Verified{}, ctx.Err()
	}
	ctx, leave := context.WithCancel(t.Context())
	failed := make(chan error, verifiesMax)
	for range verifiesMax {
		go func() {
			_, err := c.Verify(ctx, orders, 5, 7, func(shape.VerifyProgress) {})
			failed <- err
		}()
		<-running
	}
	_, err := c.Verify(t.Context(), orders, 5, 7, func(shape.VerifyProgress) {})
	require.Equal(t, http.StatusTooManyRequests, problemIn(t, err).Status)
	leave()
	for range verifiesMax {
		<-ended
		require.ErrorIs(t, <-failed, context.Canceled)
	}
}

func TestAComparisonIsForAdmins(t *testing.T) {
	tokens, err := ParseTokens("f", []byte("admin:boss\nviewer:guest"))
	require.NoError(t, err)
	f := newFake()
	f.compare = func(context.Context, VerifyHow) (shape.Verified, error) { return shape.Verified{}, nil }
	_, server := serve(t, f, func(config *Config) { config.Tokens = tokens })
	for token, want := range map[string]int{"guest": http.StatusForbidden, "boss": http.StatusNotFound, "nobody": http.StatusUnauthorized} {
		asked, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+"/api/v1/changefeeds/default/orders/verify", http.NoBody)
		require.NoError(t, err)
		asked.Header.Set("Authorization", "Bearer "+token)
		answer, err := http.DefaultClient.Do(asked)
		require.NoError(t, err)
		require.NoError(t, answer.Body.Close())
		require.Equal(t, want, answer.StatusCode, token)
	}
}
