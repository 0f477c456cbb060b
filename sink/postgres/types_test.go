//go:build databases

package postgres_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
)

// everyType has values at the edges of each type, as a source writes them.
var everyType = []struct {
	column string // its type
	values []string
}{
	{"smallint", []string{"-32768", "32767", "0"}},
	{"integer", []string{"-2147483648", "2147483647"}},
	{"bigint", []string{"-9223372036854775808", "9223372036854775807"}},
	{"numeric", []string{"NaN", "Infinity", "-Infinity", "0.000", strings.Repeat("9", 200) + "." + strings.Repeat("1", 100)}},
	{"numeric(10,2)", []string{"99999999.99", "-0.01", "NaN"}},
	{"real", []string{"NaN", "Infinity", "-Infinity", "1e-45", "3.4028235e+38", "-0", "0.1"}},
	{"double precision", []string{"NaN", "Infinity", "-Infinity", "5e-324", "1.7976931348623157e+308", "-0"}},
	{"money", []string{"-$92,233,720,368,547,758.08", "$1,234.56"}},
	{"boolean", []string{"t", "f"}},
	{"bytea", []string{`\x`, `\x00ff5c27090a`}},
	{"text", []string{"", "a\tb\nc\\d'e\"f\r", `\N`, `\.`, "ä€𐍈", "NULL"}},
	{"character varying(5)", []string{"", "abcde"}},
	{"character(5)", []string{"a    ", "     "}},
	{`"char"`, []string{"x", ""}},
	{"name", []string{"abc"}},
	{"date", []string{"infinity", "-infinity", "4713-01-01 BC", "5874897-12-31"}},
	{"time without time zone", []string{"00:00:00", "24:00:00", "23:59:59.999999"}},
	{"time(2) without time zone", []string{"12:00:00.12"}},
	{"time with time zone", []string{"00:00:00+15:59:59", "24:00:00-15:59:59", "12:00:00+00"}},
	{"timestamp without time zone", []string{"infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999"}},
	{"timestamp with time zone", []string{"infinity", "-infinity", "4713-01-01 00:00:00+00 BC", "2024-02-29 12:00:00.000001+00"}},
	{"interval", []string{"-178000000 years", "1 year 2 mons -3 days +04:05:06.789", "00:00:00", "-00:00:00.000001"}},
	{"interval day to second(3)", []string{"3 days 04:05:06.789"}},
	{"uuid", []string{"00000000-0000-0000-0000-000000000000", "ffffffff-ffff-ffff-ffff-ffffffffffff"}},
	{"json", []string{`{"b":1,  "a":1, "a":2}`, `null`, `"\u00e4"`, `12345678901234567890.123`}},
	{"jsonb", []string{`{"a": 2, "b": 1}`, `[]`, `12345678901234567890.123`}},
	{"jsonpath", []string{`$."a"[*]?(@ > 1)`}},
	{"xml", []string{`<a>b</a>`, `just text`, `<!DOCTYPE a><a/>`}},
	{"inet", []string{"10.0.0.1", "10.0.0.0/8", "::1", "::/0"}},
	{"cidr", []string{"10.0.0.0/8", "::1/128"}},
	{"macaddr", []string{"08:00:2b:01:02:03"}},
	{"macaddr8", []string{"08:00:2b:01:02:03:04:05"}},
	{"bit(3)", []string{"101"}},
	{"bit varying(5)", []string{"", "10101"}},
	{"point", []string{"(1.5,-2)", "(NaN,Infinity)"}},
	{"line", []string{"{1,2,3}"}},
	{"lseg", []string{"[(1,2),(3,4)]"}},
	{"box", []string{"(3,4),(1,2)"}},
	{"path", []string{"[(1,2),(3,4)]", "((1,2),(3,4))"}},
	{"polygon", []string{"((1,2),(3,4),(5,6))"}},
	{"circle", []string{"<(1,2),3>"}},
	{"tsvector", []string{"'a':1A,2 'b c'", ""}},
	{"tsquery", []string{"'a' & !'b' <-> 'c'"}},
	{"int4range", []string{"empty", "[1,5)", "(,)"}},
	{"numrange", []string{"(1.5,2.50]", "[NaN,)"}},
	{"tstzrange", []string{`["2024-01-01 00:00:00+00",infinity)`}},
	{"daterange", []string{"[2024-01-01,)"}},
	{"int4multirange", []string{"{}", "{[1,3),[5,7)}"}},
	{"datemultirange", []string{"{[2024-01-01,2024-02-01)}"}},
	{"oid", []string{"0", "4294967295"}},
	{"pg_lsn", []string{"0/0", "FFFFFFFF/FFFFFFFF"}},
	{"xid8", []string{"18446744073709551615"}},
	{"tid", []string{"(0,1)"}},
	{"regclass", []string{"pg_class"}},
	{"integer[]", []string{"{}", "{1,NULL,-3}", "{{1,2},{3,4}}", "[2:3]={5,6}"}},
	{"text[]", []string{`{"",NULL,"NULL","a,b","c\"d\\e","{}"}`, "{a}"}},
	{"character varying(3)[]", []string{"{abc}"}},
	{"numeric(5,1)[]", []string{"{1234.5,NaN}"}},
	{"timestamp with time zone[]", []string{`{"2024-01-01 00:00:00+00",infinity}`}},
	{"json[]", []string{`{"{\"a\": 1}"}`}},
	{"bytea[]", []string{`{"\\x00ff"}`}},
	{"mood", []string{"happy", "so-so"}},
	{"mood[]", []string{"{happy,so-so}"}},
	{`shop."Odd Type"`, []string{"(1,\"a,b\")", `(,"")`}},
	{"posint", []string{"7"}},
	{"unknown_there", []string{"kept as text"}},
}

const someTypes = `CREATE TYPE mood AS ENUM ('happy', 'so-so'); CREATE SCHEMA shop;
	CREATE TYPE shop."Odd Type" AS (a int, b text); CREATE DOMAIN posint AS int CHECK (VALUE > 0);`

// Every type keeps its text form on each way into a table: in bulk, by arrays, over a row that is there, and as a row that is found
// by all of its values.
func TestEveryTypeKeepsItsText(t *testing.T) {
	x := newTables(t, nil)
	x.exec(t, someTypes)
	w := x.claim(t, changefeed.Whole(), change.At(1))
	f := &x.feed
	for i, one := range everyType {
		column := change.Column{Name: "Odd Column", Type: one.column, Null: true}
		keyed := relation("k", intKey("id", 1), column)
		keyed.Name = "Keyed" + string(rune('A'+i%26)) + string(rune('A'+i/26))
		keyless := relation("n"+keyed.Name[5:], column)
		values := append([]string{null}, one.values...)
		for k := range 300 { // in bulk
			f.create(keyed, itoa(k), values[k%len(values)])
			f.create(keyless, values[k%len(values)])
		}
		require.NoError(t, w.Write(t.Context(), f.batch()), one.column)
		for k := range 5 { // by arrays, new and over what is there
			f.create(keyed, itoa(300+k), values[(300+k)%len(values)])
			f.update(keyed, itoa(k), values[(k+1)%len(values)])
		}
		for _, value := range values { // of each half of the rows goes, one by one
			f.add(change.OpUpdate, &change.Tuple{Of: keyless, Cells: cells(value)}, &change.Tuple{Of: keyless, Cells: cells(values[0])})
			f.remove(keyless, value)
		}
		require.NoError(t, w.Write(t.Context(), f.batch()), one.column)
		got := x.column(t, `SELECT CASE WHEN "Odd Column" IS NULL THEN NULL ELSE concat("Odd Column") END FROM public."`+keyed.Name+`" ORDER BY id`)
		for k := range 305 {
			want := values[k%len(values)]
			if k < 5 {
				want = values[(k+1)%len(values)]
			}
			requireCell(t, want, got[k], one.column)
		}
		counts := map[string]int{}
		for _, cell := range x.column(t, `SELECT CASE WHEN "Odd Column" IS NULL THEN NULL ELSE concat("Odd Column") END FROM public."`+keyless.Name+`"`) {
			counts[plain(cell)]++
		}
		want := map[string]int{}
		for k := range 300 {
			want[values[k%len(values)]]++
		}
		for i, value := range values {
			want[value]--
			want[values[0]]++
			if want[value]--; i == 0 {
				continue
			}
		}
		for value := range want {
			if want[value] == 0 {
				delete(want, value)
			}
		}
		require.Equal(t, want, counts, one.column)
	}
}

func plain(cell *string) string {
	if cell == nil {
		return null
	}
	return *cell
}

func requireCell(t testing.TB, want string, got *string, kind string) {
	t.Helper()
	require.Equal(t, want, plain(got), kind)
}

func (x *target) column(t testing.TB, text string) []*string {
	t.Helper()
	x.exec(t, "SET timezone = 'UTC'; SET lc_monetary = 'C'; SET intervalstyle = postgres")
	rows, err := x.admin.Query(t.Context(), text)
	require.NoError(t, err)
	out, err := pgx.CollectRows(rows, pgx.RowTo[*string])
	require.NoError(t, err)
	return out
}
