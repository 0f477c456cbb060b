package client

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/api/shape"
	"fencerow/changefeed"
)

func TestManifests(t *testing.T) {
	text := `# what runs here
---
name: orders
source: etcd://127.0.0.1:2379/orders/
sink: file:///var/lib/orders
start: 20817
options:
  batch_changes: 1000
  previous: true
  flush_interval: 50ms
  split_keys: [a, b]
---
# nothing
---   # another
namespace: shop
name: returns
source: "etcd://h:1/a/"
sink: 'stdout:'
...
`
	got, err := ParseManifests("x.yaml", []byte(text), "team")
	require.NoError(t, err)
	require.Equal(t, []shape.Create{
		{
			Namespace: "team", Name: "orders", Source: "etcd://127.0.0.1:2379/orders/", Sink: "file:///var/lib/orders", Start: "20817",
			Options: changefeed.Options{"batch_changes": "1000", "previous": "true", "flush_interval": "50ms", "split_keys": "a,b"},
		},
		{Namespace: "shop", Name: "returns", Source: "etcd://h:1/a/", Sink: "stdout:", Options: changefeed.Options{}},
	}, got)
}

func TestManifestsThatAreRefused(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":          "",
		"only a comment":   "# x\n---\n",
		"a misspelt field": "nmae: x",
		"a list":           "- a",
		"no source":        "name: x\nsink: 'stdout:'",
		"no name":          "source: x\nsink: y",
		"a bad name":       "name: a/b\nsource: x\nsink: y",
		"twice":            "name: x\nsource: x\nsink: y\n---\nname: x\nsource: x\nsink: y",
		"a field twice":    "name: x\nname: y\nsource: x\nsink: y",
		"a deep option":    "name: x\nsource: x\nsink: y\noptions: {a: {b: c}}",
		"an empty option":  "name: x\nsource: x\nsink: y\noptions: {a: }",
		"no YAML":          "\t:",
	} {
		_, err := ParseManifests("x.yaml", []byte(text), "default")
		fault := changefeed.AsFault(err, "")
		require.Equal(t, changefeed.CodeRequestInvalid, fault.Code, "%s: %v", name, err)
		require.NotEmpty(t, fault.Cure, name)
	}
}

func FuzzManifests(f *testing.F) {
	f.Add([]byte("name: x\nsource: x\nsink: y\n---\nname: z\nsource: x\nsink: y"))
	f.Add([]byte("---\n...\n--- a"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseManifests("x", data, "default")
		if err == nil {
			require.NotEmpty(t, got)
		}
	})
}
