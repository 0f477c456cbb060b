package api

import (
	"net/http"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
)

func span(start, end string) Span {
	return Span{Span: changefeed.Span{Start: []byte(start), End: []byte(end)}, State: "running"}
}

func TestSplitAndMergeAreKeptInTheSpec(t *testing.T) {
	f := newFake()
	f.heads[source] = Look{Head: 42}
	c, _ := serve(t, f)
	_, err := c.Create(t.Context(), request())
	require.NoError(t, err)
	f.own(orders, "node-1", changefeed.StateRunning, 42)
	f.spans[orders] = []Span{span("/orders/", "/orders/m"), span("/orders/m", "/orders0")}

	answer, err := c.Split(t.Context(), orders, []changefeed.Key{[]byte("/orders/x"), []byte("/orders/\xff,")})
	require.NoError(t, err)
	require.Equal(t, "/orders/x,base64:L29yZGVycy//LA==", answer.Value.Options["split_keys"])
	answer, err = c.Split(t.Context(), orders, []changefeed.Key{[]byte("/orders/c")})
	require.NoError(t, err)
	require.Equal(t, "/orders/c,/orders/x,base64:L29yZGVycy//LA==", answer.Value.Options["split_keys"])

	for what, keys := range map[string][]changefeed.Key{
		"none":            {},
		"outside":         {[]byte("/other/a")},
		"after the end":   {[]byte("/orders0")},
		"empty":           {nil},
		"the first start": {[]byte("/orders/")},
		"a border":        {[]byte("/orders/m")},
		"asked before":    {[]byte("/orders/x")},
		"twice":           {[]byte("/orders/q"), []byte("/orders/q")},
		"too many":        make([]changefeed.Key, changefeed.KeysMax+1),
	} {
		_, err := c.Split(t.Context(), orders, keys)
		problem := problemIn(t, err)
		require.Equal(t, http.StatusBadRequest, problem.Status, what)
		require.Equal(t, "at", problem.Field, what)
		require.NotEmpty(t, problem.Cure, what)
	}
	for what, key := range map[string]string{
		"no border": "/orders/q", "outside": "/other/a", "the first start": "/orders/", "the end": "/orders0", "empty": "",
	} {
		_, err := c.Merge(t.Context(), orders, []byte(key))
		require.Equal(t, http.StatusBadRequest, problemIn(t, err).Status, what)
	}
	got, err := c.Changefeed(t.Context(), orders)
	require.NoError(t, err)
	require.Equal(t, "/orders/c,/orders/x,base64:L29yZGVycy//LA==", got.Value.Options["split_keys"], "nothing is half done")

	answer, err = c.Merge(t.Context(), orders, []byte("/orders/m"))
	require.NoError(t, err)
	require.Equal(t, "/orders/m", answer.Value.Options["merge_keys"], "traffic had split there")
	f.spans[orders] = []Span{span("/orders/", "/orders/c"), span("/orders/c", "/orders/x"), span("/orders/x", "/orders0")}
	answer, err = c.Merge(t.Context(), orders, []byte("/orders/x"))
	require.NoError(t, err)
	require.Equal(t, "/orders/x", answer.Value.Options["merge_keys"], "what was joined is forgotten")
	require.Equal(t, "/orders/c,base64:L29yZGVycy//LA==", answer.Value.Options["split_keys"])
	f.spans[orders] = []Span{span("/orders/", "/orders/c"), span("/orders/c", "/orders0")}
	answer, err = c.Split(t.Context(), orders, []changefeed.Key{[]byte("/orders/x")})
	require.NoError(t, err)
	require.Empty(t, answer.Value.Options["merge_keys"], "asked for anew")
}

func TestSplitOfWhatNobodyOwns(t *testing.T) {
	f := newFake()
	f.heads[source] = Look{Head: 42}
	c, _ := serve(t, f)
	_, err := c.Create(t.Context(), request())
	require.NoError(t, err)
	_, err = c.Split(t.Context(), orders, []changefeed.Key{[]byte("/elsewhere")})
	require.Equal(t, http.StatusBadRequest, problemIn(t, err).Status, "the source's URI says where its keys are")
	answer, err := c.Split(t.Context(), orders, []changefeed.Key{[]byte("/orders/x")})
	require.NoError(t, err)
	require.Equal(t, "/orders/x", answer.Value.Options["split_keys"])
	answer, err = c.Merge(t.Context(), orders, []byte("/orders/x"))
	require.NoError(t, err)
	require.Empty(t, answer.Value.Options["split_keys"])
	require.Empty(t, answer.Value.Options["merge_keys"])
}
