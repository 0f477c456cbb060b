package pgdial_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/internal/pgdial"
)

func server(t *testing.T, text string) pgdial.Server {
	t.Helper()
	uri, err := endpoint.Parse(text, endpoint.Policy{Field: "sink", Literals: endpoint.AllowLiterals})
	require.NoError(t, err)
	return pgdial.Server{URI: uri, Field: "sink"}
}

func TestTheEnvironmentDoesNotChangeWhereWeConnect(t *testing.T) {
	for name, value := range map[string]string{
		"PGHOST": "elsewhere", "PGPORT": "1", "PGUSER": "mallory", "PGPASSWORD": "guess", "PGDATABASE": "other", "PGSSLMODE": "verify-full",
		"PGSSLROOTCERT": "/nonexistent", "PGOPTIONS": "-c fsync=off", "PGAPPNAME": "else", "PGTARGETSESSIONATTRS": "standby",
	} {
		t.Setenv(name, value)
	}
	t.Setenv("PW", "s3cret")
	got, err := server(t, "postgres://copy:${env:PW}@db1:5433,db2/shop").Config()
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
	_, err := server(t, "postgres://copy@db1/shop").Config()
	require.Contains(t, changefeed.AsFault(err, "").Cure, "PGSERVICE")
}

func TestWhatIsNoServerIsRefused(t *testing.T) {
	for _, text := range []string{"postgres://copy@db/shop?sslmode=disable", "postgres://db/shop", "blackhole:"} {
		fault := changefeed.AsFault(server(t, text).Check(), "")
		require.Equal(t, changefeed.CodeRequestInvalid, fault.Code, text)
		require.NotEmpty(t, fault.Cure)
	}
	require.NoError(t, server(t, "postgres://copy@db/shop").Check())
}
