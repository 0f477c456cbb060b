package mysql

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// No value is stored as another one: what the servers would round, cut or fill up is refused before they see it.
func TestWhatAColumnWouldChangeIsRefused(t *testing.T) {
	for _, test := range []struct {
		source, target, cell string
		want                 any // nil: refused
	}{
		{"boolean", "tinyint(1)", "t", "1"},
		{"boolean", "tinyint(1)", "f", "0"},
		{"boolean", "tinyint(1)", "yes", nil},
		{"boolean", "longtext", "t", "t"},
		{"smallint", "smallint(6)", "-32768", "-32768"},
		{"bigint", "bigint(20)", "9223372036854775807", "9223372036854775807"},
		{"bigint", "bigint(20)", "1.5", nil},
		{"integer", "decimal(12,2)", "-5", "-5"},
		{"numeric(10,2)", "decimal(10,2)", "12345678.90", "12345678.90"},
		{"numeric", "decimal(10,2)", "12345678.900", "12345678.900"},
		{"numeric", "decimal(10,2)", "0.001", nil},
		{"numeric", "decimal(10,2)", "123456789", nil},
		{"numeric", "decimal(2,2)", "-0.25", "-0.25"},
		{"numeric", "decimal(65,30)", "NaN", nil},
		{"numeric", "decimal(65,30)", "Infinity", nil},
		{"numeric", "decimal(65,30)", "1e5", nil},
		{"numeric", "decimal(65,30)", "-", nil},
		{"numeric", "longtext", "NaN", "NaN"},
		{"numeric(70,40)", "decimal(65,30)", "1.5", "1.5"},
		{"double precision", "double", "1.7976931348623157e+308", "1.7976931348623157e+308"},
		{"double precision", "double", "-Infinity", nil},
		{"double precision", "double", "NaN", nil},
		{"double precision", "longtext", "NaN", "NaN"},
		{"date", "date", "0001-01-01", "0001-01-01"},
		{"date", "date", "9999-12-31", "9999-12-31"},
		{"date", "date", "10000-01-01", nil},
		{"date", "date", "0044-03-15 BC", nil},
		{"date", "date", "infinity", nil},
		{"date", "datetime", "2024-02-29", "2024-02-29 00:00:00.000000"},
		{"timestamp without time zone", "datetime(6)", "2024-02-29 23:59:59.999999", "2024-02-29 23:59:59.999999"},
		{"timestamp with time zone", "datetime(6)", "2024-02-29 23:59:59.1+00", "2024-02-29 23:59:59.1"},
		{"timestamp without time zone", "datetime(6)", "infinity", nil},
		{"timestamp without time zone", "datetime(3)", "2024-02-29 23:59:59.999", "2024-02-29 23:59:59.999"},
		{"timestamp without time zone", "datetime(3)", "2024-02-29 23:59:59.9999", nil},
		{"timestamp with time zone", "datetime(6)", "2024-01-01 01:30:00+05:30", "2023-12-31 20:00:00.000000"},
		{"timestamp with time zone", "datetime(6)", "2024-01-01 01:30:00.5-08", "2024-01-01 09:30:00.500000"},
		{"timestamp with time zone", "datetime(6)", "1880-01-01 00:00:00+00:19:32", "1879-12-31 23:40:28.000000"},
		{"timestamp with time zone", "datetime(6)", "9999-12-31 23:59:59-01", nil},
		{"timestamp with time zone", "datetime(6)", "0001-01-01 00:00:00+01", nil},
		{"timestamp with time zone", "longtext", "infinity", "infinity"},
		{"time without time zone", "time(6)", "24:00:00", "24:00:00"},
		{"time without time zone", "time", "12:00:00.5", nil},
		{"time with time zone", "longtext", "04:05:06-08", "04:05:06-08"},
		{"bytea", "longblob", `\x00ff`, "\x00\xff"},
		{"bytea", "longblob", `\x`, ""},
		{"bytea", "longblob", `\x0`, nil},
		{"bytea", "varbinary(1)", `\x00ff`, nil},
		{"bytea", "binary(4)", `\x00ff`, nil},
		{"bytea", "longtext", `\x00ff`, `\x00ff`},
		{"text", "longblob", `\x00ff`, `\x00ff`},
		{"text", "varchar(2)", "äö", "äö"},
		{"text", "varchar(2)", "a  ", nil},
		{"text", "tinytext", strings.Repeat("ä", 128), nil},
		{"text", "char(3)", "a ", nil},
		{"text", "longtext", "\xff", nil},
		{"character(3)", "char(3)", "a  ", "a"},
		{"uuid", "char(36)", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{"uuid", "uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11"},
		{"jsonb", "json", `{"a": 1}`, `{"a": 1}`},
		{"integer[]", "longtext", "{1,2}", "{1,2}"},
	} {
		write, err := writerOf(&table(0, test.source).Columns[0], test.target)
		require.NoError(t, err, test)
		got, err := write.value([]byte(test.cell))
		if test.want == nil {
			require.Error(t, err, test)
			continue
		}
		require.NoError(t, err, test)
		require.Equal(t, test.want, string(got), test)
	}
}

func TestColumnsThatHoldNoneOfTheValuesAreRefused(t *testing.T) {
	for source, targets := range map[string][]string{
		"text":                        {"int(11)", "double", "date", "datetime(6)", "decimal(10,2)", "point"},
		"bigint":                      {"double", "float", "datetime(6)", "json"},
		"numeric":                     {"double", "int(11)", "time(6)"},
		"double precision":            {"float", "decimal(65,30)", "bigint(20)"},
		"timestamp without time zone": {"date", "time(6)", "bigint(20)"},
		"integer[]":                   {"int(11)"},
		"boolean":                     {"double", "date"},
	} {
		for _, target := range targets {
			_, err := writerOf(&table(0, source).Columns[0], target)
			require.ErrorContains(t, err, source, target)
			require.ErrorContains(t, err, target)
		}
	}
}

// Every type has a column, and that column takes what the type holds.
func TestColumnsOfOursAreWrittenTo(t *testing.T) {
	for _, source := range []string{
		"boolean", "smallint", "integer", "bigint", "oid", "real", "double precision", "numeric", "numeric(9,3)", "numeric(100,50)", "money",
		"text", "character varying(9)", "character(9)", "bytea", "date", "timestamp(3) with time zone", "time without time zone", "interval", "uuid",
		"jsonb", "inet", "bit(3)", "text[]", "int4range", "mood",
	} {
		for keys := range 2 {
			of := table(keys, source)
			_, err := writerOf(&of.Columns[0], columnTypes(of.Columns)[0])
			require.NoError(t, err, source)
		}
	}
}
