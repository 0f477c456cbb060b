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

func TestTheEnvironmentDoesNotChangeWhereASinkConnects(t *testing.T) {
	for name, value := range map[string]string{
		"PGHOST": "elsewhere", "PGPORT": "1", "PGUSER": "mallory", "PGPASSWORD": "guess", "PGDATABASE": "other", "PGSSLMODE": "verify-full",
		"PGSSLROOTCERT": "/nonexistent", "PGOPTIONS": "-c fsync=off", "PGAPPNAME": "else", "PGTARGETSESSIONATTRS": "standby",
	} {
		t.Setenv(name, value)
	}
	t.Setenv("PW", "s3cret")
	got, err := target(config(t, "postgres://copy:${env:PW}@db1:5433,db2/shop", nil))
	require.NoError(t, err)
	require.Equal(t, "db1", got.Host)
	require.Equal(t, uint16(5433), got.Port)
	require.Equal(t, "copy", got.User)
	require.Equal(t, "s3cret", got.Password)
	require.Equal(t, "shop", got.Database)
	require.Nil(t, got.TLSConfig)
	require.Len(t, got.Fallbacks, 1)
	require.Equal(t, "db2", got.Fallbacks[0].Host)
	require.NotNil(t, got.ValidateConnect, "of several hosts the one that takes writes")
}

func TestAServiceFileIsNotObeyed(t *testing.T) {
	t.Setenv("PGSERVICE", "elsewhere")
	_, err := target(config(t, "postgres://copy@db1/shop", nil))
	require.Contains(t, changefeed.AsFault(err, "").Cure, "PGSERVICE")
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
}
