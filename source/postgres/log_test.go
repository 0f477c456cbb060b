//go:build databases

package postgres_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

func TestChangesOfATableWithAKey(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY, v text, big text)`)
	w.exec(`ALTER TABLE a ALTER big SET STORAGE EXTERNAL`)
	log := w.follow(w.open(way{}))
	w.exec(`INSERT INTO a VALUES (1, 'x', repeat('b', 9000)), (-2, NULL, '')`)
	w.exec(`UPDATE a SET v = 'y' WHERE id = 1`)
	w.exec(`UPDATE a SET id = 3 WHERE id = -2`)
	w.exec(`UPDATE a SET id = 4 WHERE id = 1`)
	w.exec(`DELETE FROM a WHERE id = 3`)
	w.exec(`TRUNCATE a`)
	changes := w.take(log, 8)
	require.Equal(t, []string{
		"0 create public.a:0000000000000000001 after(id=1 v=x big=bbbbbbbb…9000)",
		"1 create public.a:-9999999999999999997 after(id=-2 v=NULL big=)",
		"0 update public.a:0000000000000000001 after(id=1 v=y)",
		"0 delete public.a:-9999999999999999997 before(id=-2)",
		"1 create public.a:0000000000000000003 after(id=3 v=NULL big=)",
		"0 update public.a:0000000000000000004 before(id=1) after(id=4 v=y)",
		"0 delete public.a:0000000000000000003 before(id=3)",
		"0 truncate public.a:",
	}, lines(changes))
	from, moved := changes[5].Moved()
	require.True(t, moved)
	require.Equal(t, "public.a:0000000000000000001", string(from))
	require.Equal(t, "public.a", changes[0].Table)
	require.Less(t, changes[0].Position, changes[2].Position)
	require.WithinRange(t, changes[0].CommitTime, changes[0].CommitTime, changes[7].CommitTime)
	relation := changes[0].After.(*change.Tuple).Of
	require.Same(t, relation, changes[6].Before.(*change.Tuple).Of)
	require.Equal(t, []change.Column{
		{Name: "id", Type: "integer", Number: 1, Kind: change.KindInt, Key: 1},
		{Name: "v", Type: "text", Number: 2, Null: true},
		{Name: "big", Type: "text", Number: 3, Null: true},
	}, relation.Columns)
}

func TestChangesOfOtherIdentities(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE f (b text, a int, v text, PRIMARY KEY (a, b)); ALTER TABLE f REPLICA IDENTITY FULL; ALTER TABLE f ALTER v SET STORAGE EXTERNAL;
		CREATE TABLE i (n int, code text NOT NULL, part text NOT NULL); CREATE UNIQUE INDEX by_code ON i (part, code); ALTER TABLE i REPLICA IDENTITY USING INDEX by_code;
		CREATE TABLE w (v text); ALTER TABLE w REPLICA IDENTITY FULL;
		CREATE TABLE k (v text);`)
	log := w.follow(w.open(way{}))
	w.exec(`INSERT INTO f VALUES ('x', 1, repeat('v', 9000)); UPDATE f SET b = 'y'; DELETE FROM f`)
	w.exec(`INSERT INTO i VALUES (1, 'c', 'p'); UPDATE i SET n = 2; UPDATE i SET code = 'd'; DELETE FROM i`)
	w.exec(`INSERT INTO w VALUES ('1'); UPDATE w SET v = '2'; DELETE FROM w`)
	w.exec(`INSERT INTO k VALUES ('1'); UPDATE k SET v = '2'; DELETE FROM k; TRUNCATE k, w`)
	require.Equal(t, []string{
		"0 create public.f:0000000000000000001|x after(b=x a=1 v=vvvvvvvv…9000)",
		"1 delete public.f:0000000000000000001|x before(b=x a=1 v=vvvvvvvv…9000)",
		"2 create public.f:0000000000000000001|y after(b=y a=1 v=vvvvvvvv…9000)",
		"3 delete public.f:0000000000000000001|y before(b=y a=1 v=vvvvvvvv…9000)",
		"0 create public.i:p|c after(n=1 code=c part=p)",
		"1 update public.i:p|c after(n=2 code=c part=p)",
		"2 delete public.i:p|c before(code=c part=p)",
		"3 create public.i:p|d after(n=2 code=d part=p)",
		"4 delete public.i:p|d before(code=d part=p)",
		"0 create public.w: after(v=1)",
		"1 update public.w: before(v=1) after(v=2)",
		"2 delete public.w: before(v=2)",
		"0 create public.k: after(v=1)",
		"1 truncate public.k:",
		"2 truncate public.w:",
	}, lines(w.take(log, 15)))
}

func TestAnIdleDatabaseMakesProgress(t *testing.T) {
	w := newWorld(t)
	other := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := w.open(way{})
	log := w.follow(s)
	other.exec(`CREATE TABLE b AS SELECT generate_series(1, 1000)`)
	head, err := s.Head(w.ctx)
	require.NoError(t, err)
	for {
		event, err := log.Next(w.ctx)
		require.NoError(t, err)
		require.Empty(t, event.Changes)
		if event.To.Position >= head {
			break
		}
	}
}

func TestDropLeavesNothing(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := w.open(way{})
	log := w.follow(s)
	w.exec(`INSERT INTO a VALUES (1)`)
	w.take(log, 1)
	require.Equal(t, "1", w.text(`SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = $1`, s.SlotName()))
	require.Equal(t, "2", w.text(`SELECT count(*)::text FROM pg_publication`))
	require.NoError(t, s.Drop(w.ctx))
	require.NoError(t, s.Drop(w.ctx))
	require.Equal(t, "0", w.text(`SELECT count(*)::text FROM pg_replication_slots WHERE slot_name = $1`, s.SlotName()))
	require.Equal(t, "0", w.text(`SELECT count(*)::text FROM pg_publication`))
	require.ErrorContains(t, w.refused(log), "source.slot_lost")
}

// What rows have at once in a column that is added is known, as long as the catalog knows it.
func TestAColumnThatIsAddedSaysWhatRowsHave(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	w.exec(`INSERT INTO a VALUES (1)`)
	log := w.follow(w.open(way{}))
	w.exec(`ALTER TABLE a ADD n numeric(5,2) NOT NULL DEFAULT 1.5, ADD t text DEFAULT E'it''s {a,"b"}\\\n', ADD e text DEFAULT '', ADD l int[] DEFAULT '{1,2}',
		ADD b bytea DEFAULT '\x00ff', ADD none text, ADD made timestamptz DEFAULT now(), ADD long text DEFAULT repeat('x', 5000)`)
	w.exec(`INSERT INTO a (id) VALUES (2)`)
	made := w.text(`SELECT made::text FROM a WHERE id = 1`)
	known := func(text string) change.Added { return change.Added{Known: true, Text: text} }
	var got []change.Added
	for _, column := range w.take(log, 1)[0].After.(*change.Tuple).Of.Columns {
		got = append(got, column.Added)
	}
	require.Equal(t, []change.Added{{}, known("1.50"), known("it's {a,\"b\"}\\\n"), known(""), known("{1,2}"), known(`\x00ff`), {}, known(made), {}}, got)
	w.exec(`ALTER TABLE a ADD rewritten float DEFAULT random()`)
	w.exec(`INSERT INTO a (id) VALUES (4)`)
	for _, column := range w.take(log, 1)[0].After.(*change.Tuple).Of.Columns {
		require.Equal(t, change.Added{}, column.Added, "the rows are written anew, each with its own value: %s", column.Name)
	}
	w.exec(`ALTER TABLE a ADD again int DEFAULT 1`)
	w.exec(`VACUUM FULL a`)
	w.exec(`INSERT INTO a (id) VALUES (3)`)
	for _, column := range w.take(log, 1)[0].After.(*change.Tuple).Of.Columns {
		require.Equal(t, change.Added{}, column.Added, "who asks later can't know it: %s", column.Name)
	}
}
