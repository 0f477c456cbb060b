package mysql

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/sink/sqlsink"
)

func shown(t *testing.T, key int, source, target string) Shown {
	t.Helper()
	kinds := map[string]change.Kind{
		"boolean": change.KindBool, "bytea": change.KindBytes, "smallint": change.KindInt, "integer": change.KindInt, "bigint": change.KindInt,
		"real": change.KindFloat, "double precision": change.KindFloat,
	}
	column := &change.Column{Name: "c", Type: source, Kind: kinds[source], Key: key}
	out, err := NewShown(sqlsink.Bound{To: sqlsink.TableColumn{Name: "c", Type: target}, From: column})
	require.NoError(t, err, "%s in %s", source, target)
	return out
}

// What the source sends and what the server shows of it are the same, and of another value they are not.
func TestValuesOfBothSidesHaveOneForm(t *testing.T) {
	for _, test := range []struct{ source, target, cell, shows, other string }{
		{"boolean", "tinyint(1)", "t", "1", "0"},
		{"integer", "int(11)", "-7", "-7", "7"},
		{"integer", "int(8) unsigned zerofill", "7", "00000007", "00000070"},
		{"numeric", "decimal(65,30)", "1.50", "1.500000000000000000000000000000", "1.500000000000000000000000000001"},
		{"numeric", "decimal(65,30)", "0.000", "0.000000000000000000000000000000", "0.000000000000000000000000000001"},
		{"numeric(4,2)", "decimal(4,2)", "-0.50", "-0.50", "0.50"},
		{"numeric(2,2)", "decimal(2,2)", "0.25", "0.25", "0.52"},
		{"integer", "decimal(20,4)", "100", "100.0000", "1.0000"},
		{"real", "double", "1e-45", "1e-45", "2e-45"},
		{"double precision", "double", "1e+20", "100000000000000000000", "100000000000000020000"},
		{"double precision", "double", "-0", "0", "1"},
		{"double precision", "double", "1.7976931348623157e+308", "1.7976931348623157e308", "1.7976931348623155e308"},
		{"date", "date", "2024-02-29", "2024-02-29", "2024-02-28"},
		{"date", "datetime(6)", "2024-02-29", "2024-02-29 00:00:00.000000", "2024-02-29 00:00:00.000001"},
		{"timestamp without time zone", "datetime(6)", "2024-02-29 12:00:00.5", "2024-02-29 12:00:00.500000", "2024-02-29 12:00:00.000000"},
		{"timestamp with time zone", "datetime(6)", "2024-02-29 12:00:00+00", "2024-02-29 12:00:00.000000", "2024-02-29 13:00:00.000000"},
		{"timestamp with time zone", "timestamp", "2024-02-29 12:00:00+00", "2024-02-29 12:00:00", "2024-02-29 12:00:10"},
		{"time without time zone", "time(6)", "24:00:00", "24:00:00.000000", "00:00:00.000000"},
		{"character(5)", "char(5)", "ab   ", "ab", "abc"},
		{"character(5)", "longtext", "ab   ", "ab   ", "ab"},
		{"bytea", "longblob", `\x00ff`, "\x00\xff", "\x00"},
		{"bytea", "longtext", `\x00ff`, `\x00ff`, `\x00`},
		{"text", "longtext", "a ", "a ", "a"},
		{"json", "longtext", `{"a": 1}`, `{"a": 1}`, `{"a":1}`},
		{"json", "json", `{"b":1,  "a":1.0, "a":[2]}`, `{"a": [2], "b": 1}`, `{"a": [2], "b": 2}`},
		{"text", "set('x','y')", "y,x", "x,y", "x"},
		{"uuid", "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a12"},
		{"inet", "inet6", "2001:db8::1", "2001:0db8:0:0::1", "2001:db8::2"},
		{"integer[]", "longtext", "{1,NULL}", "{1,NULL}", "{1}"},
	} {
		column := shown(t, 0, test.source, test.target)
		ours, err := column.OfSource([]byte(test.cell))
		require.NoError(t, err, test)
		theirs, err := column.OfTarget([]byte(test.shows))
		require.NoError(t, err, test)
		require.Equal(t, string(ours), string(theirs), "%+v", test)
		theirs, err = column.OfTarget([]byte(test.other))
		require.NoError(t, err, test)
		require.NotEqual(t, string(ours), string(theirs), "%+v", test)
	}
}

func TestAValueThatTheSinkWouldNotWriteHasNoForm(t *testing.T) {
	column := shown(t, 0, "numeric", "decimal(65,30)")
	_, err := column.OfSource([]byte("NaN"))
	require.Error(t, err)
	_, err = column.Literal("NaN")
	require.EqualError(t, err, "has a value that the target's column can't have", "without the value")
}

// Where it is not certain that keys have the same order at both sides, they are looked up one by one.
func TestWhetherAKeyHasTheSourcesOrder(t *testing.T) {
	const exact = "varchar(768) COLLATE utf8mb4_nopad_bin"
	for _, test := range []struct {
		source, target    string
		bytewise, ordered bool
	}{
		{"bigint", "bigint(20)", false, true},
		{"boolean", "tinyint(1)", false, true},
		{"numeric(10,2)", "decimal(10,2)", false, true},
		{"numeric", exact, true, false},
		{"bigint", exact, true, false},
		{"date", "date", false, true},
		{"timestamp with time zone", "datetime(6)", false, true},
		{"uuid", "char(36) COLLATE ascii_bin", false, true},
		{"uuid", "uuid", false, false},
		{"bytea", "varbinary(3072)", false, true},
		{"text", exact, true, true},
		{"text", exact, false, false},
		{"text", "varchar(768) COLLATE utf8mb4_0900_bin", true, true},
		{"character varying(5)", exact, true, true},
		{"character(5)", "varchar(5) COLLATE utf8mb4_nopad_bin", true, false},
		{"mood", exact, true, false},
		{"text[]", exact, true, false},
	} {
		column := shown(t, 1, test.source, test.target)
		require.Equal(t, test.ordered, column.Ordered(test.bytewise), "%+v", test)
	}
}
