package mysql

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/sink"
	"fencerow/sink/sqlsink"
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

// The count of rows has to be of those that were found: an update that changes nothing would else look like a lost claim.
func TestAConnectionCountsRowsThatAreFound(t *testing.T) {
	t.Setenv("PW", "s3cret")
	got, err := target(config(t, "mysql://copy:${env:PW}@db1:3307/shop", nil), "db1:3307", "fencerow default/orders 2.1")
	require.NoError(t, err)
	require.True(t, got.ClientFoundRows)
	require.Equal(t, "db1:3307", got.Addr)
	require.Equal(t, "s3cret", got.Passwd)
	require.Nil(t, got.TLS)
	require.False(t, got.AllowCleartextPasswords)
	require.False(t, got.AllowAllFiles)
}

func TestWhatCannotBeASinkIsRefused(t *testing.T) {
	for text, options := range map[string]changefeed.Options{
		"mysql://copy@db/shop?charset=latin1": nil,
		"mysql://db/shop":                     nil,
		"mysql://copy@db/shop":                {"table": "other.orders"},
		"mysql://copy:pw@db/shop":             {"mode": "both"},
	} {
		_, err := New(config(t, text, options))
		fault := changefeed.AsFault(err, "")
		require.Equal(t, changefeed.CodeRequestInvalid, fault.Code, "%s %v", text, options)
		require.NotContains(t, err.Error(), "pw@")
		require.NotEmpty(t, fault.Cure)
	}
}

func TestWhatGoesTogetherInOneMessage(t *testing.T) {
	one := func(size int) sqlsink.Statement { return sqlsink.Statement{Text: "x", Args: []any{make([]byte, size)}} }
	compared := sqlsink.Statement{Text: "x", One: true}
	asks := sqlsink.Statement{Text: "x", Rows: true}
	require.Equal(t, 2, together([]sqlsink.Statement{one(1), compared, one(1)}, messageMax), "nothing is sent behind a compare")
	require.Equal(t, 1, together([]sqlsink.Statement{one(1), asks}, messageMax))
	require.Equal(t, 1, together([]sqlsink.Statement{one(messageMax), one(1)}, messageMax))
	require.Equal(t, 1, together([]sqlsink.Statement{one(messageMax + 1)}, messageMax))
	require.Equal(t, 3, together([]sqlsink.Statement{one(1), one(1), one(1)}, messageMax))
}
