//go:build databases

package postgres_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
)

// Each type in the log: its name, how it is read, and the value in the text form that the same type reads.
func TestEveryTypeKeepsItsValue(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TYPE mood AS ENUM ('sad', 'ok');
		CREATE DOMAIN positive AS int CHECK (VALUE > 0);
		CREATE TYPE pair AS (a int, b text);
		CREATE TYPE floatrange AS RANGE (subtype = float8)`)
	// type, kind, and values as they are written and as they come
	types := []struct {
		name   string
		kind   change.Kind
		values []string
		as     []string // nil: as written
	}{
		{"smallint", change.KindInt, []string{"-32768", "32767"}, nil},
		{"integer", change.KindInt, []string{"-2147483648", "0"}, nil},
		{"bigint", change.KindInt, []string{"-9223372036854775808", "9223372036854775807"}, nil},
		{"real", change.KindFloat, []string{"2.5e-05", "NaN", "-Infinity"}, nil},
		{"double precision", change.KindFloat, []string{"0.1", "1e-300", "Infinity"}, nil},
		{"numeric", change.KindText, []string{"NaN", "Infinity", "123456789012345678901234567890.000"}, nil},
		{"numeric(10,2)", change.KindText, []string{"1.50"}, nil},
		{"boolean", change.KindBool, []string{"t", "f"}, nil},
		{"bytea", change.KindBytes, []string{`\x00ff`, `\x`}, nil},
		{"text", change.KindText, []string{"", "NULL", "tab\tand \\ and \" and '", "ä€𝄞"}, nil},
		{"character varying(5)", change.KindText, []string{"abc"}, nil},
		{"character(3)", change.KindText, []string{"a  "}, nil},
		{"date", change.KindText, []string{"infinity", "-infinity", "0044-03-15 BC", "2024-02-29"}, nil},
		{"time without time zone", change.KindText, []string{"24:00:00", "12:34:56.789012"}, nil},
		{"time with time zone", change.KindText, []string{"12:00:00+05:30"}, nil},
		{"timestamp without time zone", change.KindText, []string{"infinity", "294276-12-31 23:59:59.999999"}, nil},
		{"timestamp with time zone", change.KindText, []string{"-infinity", "2024-01-01 12:00:00+02"}, []string{"-infinity", "2024-01-01 10:00:00+00"}},
		{"timestamp(3) with time zone", change.KindText, []string{"2024-01-01 12:00:00.123+00"}, nil},
		{"interval", change.KindText, []string{"1 year 2 mons -3 days +04:05:06.7"}, nil},
		{"uuid", change.KindText, []string{"00000000-0000-0000-0000-00000000000a"}, nil},
		{"json", change.KindText, []string{`{"b": 1,  "a": [null]}`}, nil},
		{"jsonb", change.KindText, []string{`{"b":1,"a":[null]}`}, []string{`{"a": [null], "b": 1}`}},
		{"jsonpath", change.KindText, []string{`$."a"`}, nil},
		{"xml", change.KindText, []string{"<a>b</a>"}, nil},
		{"inet", change.KindText, []string{"192.168.0.1/24", "::1"}, nil},
		{"cidr", change.KindText, []string{"10.0.0.0/8"}, nil},
		{"macaddr", change.KindText, []string{"08:00:2b:01:02:03"}, nil},
		{"macaddr8", change.KindText, []string{"08:00:2b:01:02:03:04:05"}, nil},
		{"bit(3)", change.KindText, []string{"101"}, nil},
		{"bit varying(5)", change.KindText, []string{"10"}, nil},
		{"money", change.KindText, []string{"$1,234.50"}, nil},
		{"point", change.KindText, []string{"(1.5,-2)"}, nil},
		{"lseg", change.KindText, []string{"[(0,0),(1,1)]"}, nil},
		{"box", change.KindText, []string{"(1,1),(0,0)"}, nil},
		{"path", change.KindText, []string{"((0,0),(1,1))"}, nil},
		{"polygon", change.KindText, []string{"((0,0),(1,1),(1,0))"}, nil},
		{"circle", change.KindText, []string{"<(0,0),1>"}, nil},
		{"line", change.KindText, []string{"{1,2,3}"}, nil},
		{"tsvector", change.KindText, []string{"'a':1 'b':2"}, nil},
		{"tsquery", change.KindText, []string{"'a' & 'b'"}, nil},
		{"pg_lsn", change.KindText, []string{"16/B374D848"}, nil},
		{"oid", change.KindText, []string{"4294967295"}, nil},
		{"integer[]", change.KindText, []string{"{1,NULL,3}", "{}", "[0:1]={1,2}"}, nil},
		{"text[]", change.KindText, []string{`{a,"b c",NULL,"NULL","\""}`}, nil},
		{"integer[]", change.KindText, []string{"{{1,2},{3,4}}"}, nil},
		{"int4range", change.KindText, []string{"[1,5)", "empty", "(,)"}, nil},
		{"tstzrange", change.KindText, []string{`["2024-01-01 00:00:00+00",)`}, nil},
		{"int4multirange", change.KindText, []string{"{[1,3),[5,7)}"}, nil},
		{"public.floatrange", change.KindText, []string{"[1.5,2.5]"}, nil},
		{"public.mood", change.KindText, []string{"sad"}, nil},
		{"public.mood[]", change.KindText, []string{"{sad,ok}"}, nil},
		{"public.positive", change.KindText, []string{"7"}, nil},
		{"public.pair", change.KindText, []string{`(1,"a b")`, "(,)"}, nil},
		{"public.pair[]", change.KindText, []string{`{"(1,a)"}`}, nil},
	}
	var columns []string
	for i, one := range types {
		columns = append(columns, fmt.Sprintf("c%d %s", i, one.name))
	}
	w.exec(`CREATE TABLE a (id int PRIMARY KEY, ` + strings.Join(columns, ", ") + `, g int GENERATED ALWAYS AS (id * 2) STORED)`)
	log := w.follow(w.open(way{}))
	id := 0
	for i, one := range types {
		for k, value := range one.values {
			id++
			w.exec(fmt.Sprintf("INSERT INTO a (id, c%d) VALUES (%d, $1::text::%s)", i, id, one.name), value)
			change := w.take(log, 1)[0]
			tuple := rowOf(change)
			require.Len(t, tuple.Of.Columns, len(types)+1, "generated columns are not in the log")
			want := value
			if one.as != nil {
				want = one.as[k]
			}
			require.Equal(t, want, string(tuple.Cells[i+1]), one.name)
			require.Equal(t, one.name, tuple.Of.Columns[i+1].Type)
			require.Equal(t, one.kind, tuple.Of.Columns[i+1].Kind, one.name)
			require.Equal(t, i+2, tuple.Of.Columns[i+1].Number)
			require.Equal(t, "t", w.text(fmt.Sprintf("SELECT substr((c%d::text = ($1::text::%s)::text)::text, 1, 1) FROM a WHERE id = %d", i, one.name, id), want), one.name)
		}
	}
}

func rowOf(c change.Change) *change.Tuple { return c.After.(*change.Tuple) }

// A table's shape is the log's, also where the catalog is ahead of it by the time that it is read.
func TestShapesFollowTheLog(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY, v text, n int)`)
	s := w.open(way{})
	above, err := s.Prepare(w.ctx, false)
	require.NoError(t, err)
	w.exec(`INSERT INTO a VALUES (1, 'x', 2)`)
	w.exec(`ALTER TABLE a RENAME v TO w; ALTER TABLE a ADD x int DEFAULT 5`)
	w.exec(`INSERT INTO a VALUES (2, 'y', 3)`)
	w.exec(`ALTER TABLE a DROP w; ALTER TABLE a ALTER n TYPE bigint`)
	w.exec(`INSERT INTO a VALUES (3, 4)`)
	w.exec(`ALTER TABLE a RENAME TO b`)
	w.exec(`INSERT INTO b VALUES (4, 5)`)
	changes := w.take(w.followFrom(s, above), 9)[:4] // then it joins under its new name
	require.Equal(t, []string{
		"0 create public.a:0000000000000000001 after(id=1 v=x n=2)",
		"0 create public.a:0000000000000000002 after(id=2 w=y n=3 x=5)",
		"0 create public.a:0000000000000000003 after(id=3 n=4 x=5)",
		"0 create public.b:0000000000000000004 after(id=4 n=5 x=5)",
	}, lines(changes))
	for i, want := range [][]int{{1, 2, 3}, {1, 2, 3, 4}, {1, 3, 4}, {1, 3, 4}} {
		var got []int
		for _, column := range rowOf(changes[i]).Of.Columns {
			got = append(got, column.Number)
		}
		require.Equal(t, want, got, i)
	}
	require.Equal(t, "integer", rowOf(changes[0]).Of.Columns[2].Type)
	require.Equal(t, "bigint", rowOf(changes[2]).Of.Columns[1].Type)
}

func TestPartitionsAreTheirTable(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE p (id int, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
		CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1)`)
	log := w.follow(w.open(way{}))
	w.exec(`CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2)`)
	w.exec(`INSERT INTO p VALUES (1, 1), (2, 2)`)
	w.exec(`UPDATE p SET part = 2 WHERE id = 1`)
	require.Equal(t, []string{
		"0 create public.p:0000000000000000001|0000000000000000001 after(id=1 part=1)",
		"1 create public.p:0000000000000000002|0000000000000000002 after(id=2 part=2)",
		"0 delete public.p:0000000000000000001|0000000000000000001 before(id=1 part=1)",
		"1 create public.p:0000000000000000001|0000000000000000002 after(id=1 part=2)",
	}, lines(w.take(log, 4)))
}

// The server writes rows into its log, and no word of what is done to partitions as such. The source's page says so.
func TestWhatIsDoneToPartitionsIsNotInTheLog(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE p (id int, part int, PRIMARY KEY (id, part)) PARTITION BY LIST (part);
		CREATE TABLE p1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p2 PARTITION OF p FOR VALUES IN (2); CREATE TABLE p4 PARTITION OF p FOR VALUES IN (4);
		CREATE TABLE tmp (id int NOT NULL, part int NOT NULL)`)
	log := w.follow(w.open(way{options: changefeed.Options{"tables": "public.p"}}))
	w.exec(`INSERT INTO p VALUES (1, 1), (2, 2), (4, 4)`)
	w.take(log, 3)
	w.exec(`INSERT INTO tmp VALUES (3, 3); ALTER TABLE p ATTACH PARTITION tmp FOR VALUES IN (3)`)
	w.exec(`ALTER TABLE p DETACH PARTITION p1`)
	w.exec(`DROP TABLE p2`)
	w.exec(`TRUNCATE p4`)
	w.exec(`UPDATE p SET id = id WHERE part = 3`) // what makes good for an attachment
	w.exec(`TRUNCATE p`)
	require.Equal(t, []string{
		"0 update public.p:0000000000000000003|0000000000000000003 after(id=3 part=3)",
		"0 truncate public.p:",
	}, lines(w.take(log, 2)))
}

// Text comes as UTF-8 whatever the database keeps it in, in the log and in the snapshot.
func TestTextOfAnotherEncoding(t *testing.T) {
	w := newWorldLike(t, server, ` ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`)
	w.exec(`SET client_encoding = 'UTF8'`)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY, "größe" text)`)
	w.exec(`INSERT INTO a VALUES (1, 'fünf')`)
	require.Equal(t, "5", w.text(`SELECT pg_column_size("größe")::text FROM a`), "one byte a character, and one before")
	s := w.open(way{})
	log := w.follow(s)
	w.exec(`UPDATE a SET "größe" = 'zwölf'`)
	require.Equal(t, []string{"0 update public.a:0000000000000000001 after(id=1 größe=zwölf)"}, lines(w.take(log, 1)))
	require.Equal(t, []string{"1|zwölf"}, slices.Collect(maps.Values(rowsOf(t, all(t, w.open(way{}), changefeed.Whole())))))

	ascii := newWorldLike(t, server, ` ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0`)
	ascii.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	fault := requireFault(t, ascii.open(way{}).Check(ascii.ctx), changefeed.CodeRequestInvalid)
	require.Contains(t, fault.Detail, "SQL_ASCII")
}
