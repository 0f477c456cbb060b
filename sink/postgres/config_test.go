package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/sink"
)

func config(t *testing.T, text string, options changefeed.Options) Config {
	t.Helper()
	uri, err := endpoint.Parse(text, endpoint.Policy{Field: "sink", Literals: endpoint.AllowLiterals})
	require.NoError(t, err)
	return Config{
		URI: uri, Options: options,
		Identity: sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1"},
	}
}

func TestWhatCannotBeASinkIsRefused(t *testing.T) {
	for text, options := range map[string]changefeed.Options{
		"postgres://copy@db/shop?sslmode=disable": nil,
		"postgres://db/shop":                      nil,
		"postgres://copy@db/shop":                 {"table": "or;ders"},
		"postgres://copy:pw@db/shop":              {"mode": "both"},
		"postgres://copy@db:5432/shop":            {"create_tables": "1"},
	} {
		_, err := New(config(t, text, options))
		fault := changefeed.AsFault(err, "")
		require.Equal(t, changefeed.CodeRequestInvalid, fault.Code, "%s %v", text, options)
		require.NotContains(t, err.Error(), "pw@")
		require.NotEmpty(t, fault.Cure)
	}
}

func TestNumbered(t *testing.T) {
	require.Equal(t, "SELECT $1, $2 FROM t", numbered("SELECT ?, ? FROM t"))
	require.Equal(t, "SELECT 1", numbered("SELECT 1"))
	require.Equal(t, `SELECT "a?""?", $1, E'?''\\', $2`, numbered(`SELECT "a?""?", ?, E'?''\\', ?`))
}
