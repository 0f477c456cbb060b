//go:build databases

package integration

import (
	"context"
	"database/sql"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// typesInBoth are types with a value each, and another one, that a PostgreSQL and a MariaDB both take.
var typesInBoth = [][3]string{
	{"boolean", "t", "f"},
	{"smallint", "-32768", "7"},
	{"integer", "2147483647", "-1"},
	{"bigint", "9223372036854775807", "9223372036854775806"},
	{"oid", "4294967295", "1"},
	{"real", "0.1", "3.4028235e+38"},
	{"double precision", "1.7976931348623157e+308", "1.7976931348623155e+308"},
	{"numeric", "1.50", "1.51"},
	{"numeric(10,2)", "-99999999.90", "0.00"},
	{"numeric(66,2)", "0.10", "NaN"},
	{"money", "-$1,234.56", "$0.00"},
	{"text", "ä€𐍈 a'\\\"\n", ""},
	{"name", "abc", "abd"},
	{`"char"`, "x", "y"},
	{"character varying(5)", "abc ", "abc"},
	{"character(5)", "ab", "abc"},
	{"bytea", `\x00ff5c27`, `\x`},
	{"date", "2024-02-29", "0001-01-01"},
	{"timestamp without time zone", "2024-02-29 23:59:59.999999", "2024-02-29 23:59:59.9"},
	{"timestamp(3) without time zone", "2024-02-29 23:59:59.12", "2024-02-29 23:59:59.123"},
	{"timestamp with time zone", "2024-01-01 01:30:00.5+05:30", "2024-01-01 01:30:00.5+04:30"},
	{"time without time zone", "24:00:00", "00:00:00"},
	{"time(2) without time zone", "12:00:00.1", "12:00:00.12"},
	{"time with time zone", "12:00:00+05:30", "12:00:00+00"},
	{"interval", "1 year 2 mons -3 days +04:05:06.789", "00:00:00"},
	{"uuid", "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "00000000-0000-0000-0000-000000000000"},
	{"json", `{"b":1,  "a":1, "a":2}`, `{"b":1,"a":1,"a":2}`},
	{"jsonb", `{"a": 12345678901234567890.123}`, `{"a": 12345678901234567890.124}`},
	{"xml", "<a>b</a>", "<a>c</a>"},
	{"inet", "10.0.0.1", "::1"},
	{"cidr", "10.0.0.0/8", "10.0.0.0/9"},
	{"macaddr", "08:00:2b:01:02:03", "08:00:2b:01:02:04"},
	{"bit(3)", "101", "100"},
	{"bit varying(5)", "10", "1"},
	{"point", "(1.5,-2)", "(1.5,2)"},
	{"tsvector", "'a':1A,2 'b c'", ""},
	{"int4range", "[1,5)", "empty"},
	{"tstzmultirange", `{["2024-01-01 00:00:00+00",infinity)}`, "{}"},
	{"integer[]", "{1,NULL,-3}", "{}"},
	{"text[]", `{"",NULL,"NULL","a,b"}`, "{a}"},
	{"numeric(10,2)[]", "{1234.5,NaN}", "{1234.51}"},
	{"mood", "happy", "sad"},
	{"posint", "7", "8"},
	{"pair", `(1,"a,b")`, "(,)"},
}

// typesInPostgres are what a MariaDB refuses.
var typesInPostgres = [][3]string{
	{"real", "NaN", "-Infinity"},
	{"double precision", "Infinity", "NaN"},
	{"numeric", "NaN", "0.000"},
	{"numeric(10,2)", "NaN", "1"},
	{"date", "infinity", "4713-01-01 BC"},
	{"timestamp without time zone", "-infinity", "294276-12-31 23:59:59.999999"},
	{"timestamp with time zone", "infinity", "4713-01-01 00:00:00+00 BC"},
}

// tableOf returns the statements of a table with a column a type: row 0 has the other values, row -1 none, and rows from 1 on, one for each
// column, the values.
func tableOf(name string, types [][3]string) string {
	quoted := func(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
	var columns, values, others, nulls []string
	for i, one := range types {
		columns = append(columns, fmt.Sprintf("c%d %s", i, one[0]))
		values, others, nulls = append(values, quoted(one[1])), append(others, quoted(one[2])), append(nulls, "NULL")
	}
	out := "CREATE TABLE " + name + " (id int PRIMARY KEY, " + strings.Join(columns, ", ") + ", doubled bigint GENERATED ALWAYS AS (id * 2) STORED);\n" +
		"INSERT INTO " + name + " VALUES (0, " + strings.Join(others, ", ") + "), (-1, " + strings.Join(nulls, ", ") + ");\n"
	return out + fmt.Sprintf("INSERT INTO %s SELECT n, %s FROM generate_series(1, %d) n;\n", name, strings.Join(values, ", "), len(types))
}

// typesOfKeys are those of which a key is made too, each in a table of its own.
var typesOfKeys = []string{
	"boolean", "numeric", "numeric(10,2)", "double precision", "character(5)", "date", "timestamp(3) without time zone", "time without time zone",
	"uuid", "mood", "inet", "integer[]",
}

// tablesOfKeys returns the statements of these tables, each with a row of one value, and another one.
func tablesOfKeys() string {
	var out strings.Builder
	for i, name := range typesOfKeys {
		at := slices.IndexFunc(typesInBoth, func(one [3]string) bool { return one[0] == name })
		fmt.Fprintf(&out, "CREATE TABLE key_%d (id %s PRIMARY KEY, v int); INSERT INTO key_%[1]d VALUES ('%[3]s', 1), ('%[4]s', 2);\n",
			i, name, typesInBoth[at][1], typesInBoth[at][2])
	}
	return out.String()
}

// comparedTables are what the source has beside.
const comparedTables = `
CREATE TYPE mood AS ENUM ('sad', 'happy'); CREATE DOMAIN posint AS int CHECK (VALUE > 0); CREATE TYPE pair AS (a int, b text);
CREATE TABLE accounts (branch int, id bigint, balance numeric(12,2), note text, PRIMARY KEY (branch, id));
INSERT INTO accounts SELECT n % 3, n, n, 'still ' || n FROM generate_series(1, 3000) n;
CREATE TABLE words (word text COLLATE "en-x-icu" PRIMARY KEY, n int);
INSERT INTO words SELECT CASE n % 3 WHEN 0 THEN 'a' WHEN 1 THEN 'B' ELSE 'ä' END || n, n FROM generate_series(1, 2500) n;
CREATE TABLE moments (at timestamptz, raw bytea, PRIMARY KEY (at, raw));
INSERT INTO moments SELECT '2024-01-01Z'::timestamptz + n * interval '0.25 s', decode(md5(n::text), 'hex') FROM generate_series(1, 1200) n;
CREATE TABLE visits (page text, n int);
INSERT INTO visits SELECT 'page', n / 2 FROM generate_series(1, 1000) n;
CREATE TABLE nothing (id int PRIMARY KEY);
`

// transferEvery is the pace of each writer.
const transferEvery = 10 * time.Millisecond

// transfers write what pgbench writes, in keys of their own, and words that come and go, until stopped.
func transfers(t *testing.T, db *sql.DB) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for writer := range 2 {
		group.Go(func() {
			random := rand.New(rand.NewPCG(uint64(writer), 11))
			pace := time.NewTicker(transferEvery)
			defer pace.Stop()
			for ctx.Err() == nil {
				<-pace.C
				from, to, word := random.IntN(40), random.IntN(40), random.IntN(40)
				_, _ = db.ExecContext(ctx, fmt.Sprintf(`INSERT INTO accounts VALUES (9, %[1]d, -1, 'busy') ON CONFLICT (branch, id) DO UPDATE SET balance = accounts.balance - 1;
					INSERT INTO accounts VALUES (9, %[2]d, 1, 'busy') ON CONFLICT (branch, id) DO UPDATE SET balance = accounts.balance + 1;
					DELETE FROM words WHERE word = 'Busy%[3]d'; INSERT INTO words SELECT 'Busy%[3]d', %[1]d WHERE %[2]d %% 2 = 0`, from, to, word))
			}
		})
	}
	return func() { cancel(); group.Wait() }
}

// comparison is a changefeed whose target is compared and damaged.
type comparison struct {
	feed   string
	source *sql.DB
	target *sql.DB
	types  map[string][][3]string // by the table's name
}

// damage does to the target what is named then: by table and key, what is wrong.
func (x *comparison) damage(t *testing.T) map[string]string {
	t.Helper()
	want := map[string]string{
		"public.accounts [\"0\",\"33\"]": "different balance,note", "public.accounts [\"1\",\"301\"]": "missing", "public.accounts [\"1\",\"7777777\"]": "extra",
		"public.words a33": "missing", "public.words B34": "different n", "public.words A33": "extra", "public.visits ": "different",
		"public.moments [\"2024-01-01 00:00:00.25+00\",\"\\\\xc4ca4238a0b923820dcc509a6f75849b\"]": "missing",
	}
	texts := []string{
		"UPDATE accounts SET balance = 0, note = NULL WHERE branch = 0 AND id = 33", "DELETE FROM accounts WHERE branch = 1 AND id = 301",
		"INSERT INTO accounts (branch, id) VALUES (1, 7777777)", "DELETE FROM words WHERE word = 'a33'", "UPDATE words SET n = NULL WHERE word = 'B34'",
		"INSERT INTO words VALUES ('A33', 33)", "INSERT INTO visits VALUES ('page', 1)", "DELETE FROM moments WHERE at < '2024-01-01 00:00:00.3'",
	}
	for i := range typesOfKeys {
		var key string
		require.NoError(t, x.source.QueryRowContext(t.Context(), fmt.Sprintf("SELECT concat(id) FROM key_%d WHERE v = 2", i)).Scan(&key))
		want[fmt.Sprintf("public.key_%d %s", i, key)] = "missing"
		texts = append(texts, fmt.Sprintf("DELETE FROM key_%d WHERE v = 2", i))
	}
	for table, types := range x.types {
		for i := range types {
			want[fmt.Sprintf("public.%s %d", table, i+1)] = fmt.Sprintf("different c%d", i)
			texts = append(texts, fmt.Sprintf("UPDATE %[1]s SET c%[2]d = (SELECT c%[2]d FROM (SELECT c%[2]d FROM %[1]s WHERE id = 0) o) WHERE id = %[3]d", table, i, i+1))
		}
		want["public."+table+" -1"] = "different c5"
		texts = append(texts, "UPDATE "+table+" SET c5 = (SELECT c5 FROM (SELECT c5 FROM "+table+" WHERE id = 0) o) WHERE id = -1")
	}
	for _, text := range texts {
		_, err := x.target.ExecContext(t.Context(), text)
		require.NoError(t, err, text)
	}
	return want
}

// verifiedTables is a report.
type verifiedTables struct {
	verified
	Named []struct {
		Table, Kind, Key string
		Columns          []string
	} `json:"differences"`
	Unsettled   []struct{ Table, Key, Why string } `json:"unsettled"`
	NotCompared []struct {
		Table, Why string
		Columns    []string
	} `json:"not_compared"`
}

func verifyFeed(t *testing.T, c *nodes, feed string, want int) verifiedTables {
	t.Helper()
	began := time.Now()
	defer func() { t.Logf("%s: %v", feed, time.Since(began)) }()
	r := cli(t, "verify", feed, "--server", c.alive().url(), "-o", "json", "--limit", "1000", "--rate", "1000000")
	require.Equal(t, want, r.code, "%s: %s\n%s", feed, r.stdout, r.stderr)
	var out verifiedTables
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &out), r.stdout)
	return out
}

func (v *verifiedTables) named() map[string]string {
	out := map[string]string{}
	for _, one := range v.Named {
		slices.Sort(one.Columns)
		out[one.Table+" "+one.Key] = strings.TrimSpace(one.Kind + " " + strings.Join(one.Columns, ","))
	}
	return out
}

// Rows of tables are compared with those of a PostgreSQL and of a MariaDB while transfers go on: nothing is named that is as it should
// be, and what somebody did to the target is, in each type, each row of it, and no other.
func TestDatabasesVerifyNamesWhatDiffersWhileChangesGoOn(t *testing.T) {
	d := startDatabases(t)
	for _, name := range []string{"shop", "copy"} {
		_, err := d.inPostgres.Exec("CREATE DATABASE " + name)
		require.NoError(t, err)
	}
	open := func(database string) *sql.DB {
		db, err := sql.Open("pgx", strings.Replace(d.postgres.Postgres(database), "sslmode=disable", "sslmode=disable&default_query_exec_mode=simple_protocol", 1))
		require.NoError(t, err)
		t.Cleanup(func() { _ = db.Close() })
		return db
	}
	source := open("shop")
	_, err := source.Exec(comparedTables + tablesOfKeys() + tableOf("types", typesInBoth) + tableOf("edges", typesInPostgres))
	require.NoError(t, err)
	c := startNodes(t, startEtcd(t, "control"), 1, "--status-interval", "200ms")
	from := "postgres://postgres@" + d.postgres.Host + "/shop"
	both := map[string][][3]string{"types": typesInBoth}
	feeds := []*comparison{
		{feed: "pg", source: source, target: open("copy"), types: map[string][][3]string{"types": typesInBoth, "edges": typesInPostgres}},
		{feed: "my", source: source, target: d.inMariaDB, types: both},
	}
	to := []string{"postgres://postgres@" + d.postgres.Host + "/copy", "mysql://root@" + d.mariadb.Host + "/copy"}
	stop := transfers(t, source)
	for i, x := range feeds {
		args := []string{"changefeed", "create", x.feed, "--server", c.alive().url(), "--source", from, "--sink", to[i], "--start", "snapshot"}
		if x.feed == "my" {
			args = append(args, "--option", "tables=public.*,!public.edges")
		}
		must(t, args...)
	}
	for _, x := range feeds {
		must(t, "changefeed", "wait", x.feed, "--server", c.alive().url(), "--caught-up", "--timeout", waitMax.String())
		found := verifyFeed(t, c, x.feed, 0)
		require.Empty(t, found.Named, x.feed)
		require.Empty(t, found.NotCompared, x.feed)
		require.Greater(t, found.Rows, int64(7500))
		want := x.damage(t)
		found = verifyFeed(t, c, x.feed, 1)
		require.Equal(t, want, found.named(), x.feed)
		require.Empty(t, found.Unsettled)
	}
	stop()
	comparePairs(t, d, c)
}

// comparePairs does so with tables of key-value pairs, whose revisions are the source's.
func comparePairs(t *testing.T, d *databases, c *nodes) {
	t.Helper()
	source := startEtcd(t, "source")
	for i := range 50 {
		_, err := source.client.Put(t.Context(), fmt.Sprintf("%sstill/%02d", sourcePrefix, i), fmt.Sprint(i))
		require.NoError(t, err)
	}
	load := startWriters(t, source, sourcePrefix, 4, 100, 200)
	sinks := map[string]string{"pgpairs": "postgres://postgres@" + d.postgres.Host + "/postgres", "mypairs": "mysql://root@" + d.mariadb.Host + "/copy"}
	for _, x := range []table{{"pgpairs", d.inPostgres, `"key"`}, {"mypairs", d.inMariaDB, "`key`"}} {
		feed, still := x.feed, "'"+sourcePrefix+"still/"
		must(t, "changefeed", "create", feed, "--server", c.alive().url(), "--source", "etcd://"+source.endpoint+sourcePrefix, "--sink", sinks[feed],
			"--start", "snapshot", "--option", "table="+feed)
		must(t, "changefeed", "wait", feed, "--server", c.alive().url(), "--caught-up", "--timeout", waitMax.String())
		require.Empty(t, verifyFeed(t, c, feed, 0).Named)
		for _, text := range []string{
			"UPDATE " + feed + " SET value = '' WHERE " + x.key + " = " + still + "03'", "UPDATE " + feed + " SET version = 77 WHERE " + x.key + " = " + still + "04'",
			"DELETE FROM " + feed + " WHERE " + x.key + " = " + still + "05'", "INSERT INTO " + feed + " (" + x.key + ") VALUES (" + still + "stray')",
			"UPDATE " + feed + " SET value = NULL WHERE " + x.key + " = " + still + "06'",
		} {
			_, err := x.db.ExecContext(t.Context(), text)
			require.NoError(t, err, text)
		}
		found := verifyFeed(t, c, feed, 1)
		require.Equal(t, map[string]string{
			" " + sourcePrefix + "still/03": "different value", " " + sourcePrefix + "still/04": "different version", " " + sourcePrefix + "still/05": "missing",
			" " + sourcePrefix + "still/stray": "extra", " " + sourcePrefix + "still/06": "different value",
		}, found.named())
	}
	load.finish()
}
