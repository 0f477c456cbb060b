//go:build databases

package postgres_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/changefeed"
)

// joined reports whether a table is in a publication.
func (w *world) joined(publication, table string) bool {
	return w.text(`SELECT count(*)::text FROM pg_publication_tables WHERE pubname = $1 AND tablename = $2`, publication, table) == "1"
}

// A table that is made later brings the rows that it has by then, once each, and what happens to them afterwards.
func TestATableThatIsMadeLaterBringsItsRows(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	options := changefeed.Options{"tables": "public.*,!public.tmp*"}
	s := w.open(way{options: options})
	log := w.follow(s)
	w.exec(`CREATE TABLE tmp (id int PRIMARY KEY); INSERT INTO tmp VALUES (1);
		CREATE TABLE b (id int PRIMARY KEY, v numeric(5,2), g int GENERATED ALWAYS AS (id + 1) STORED); INSERT INTO b VALUES (2, 1.5), (1, NULL)`)
	w.eventually("it joins", func() bool { return w.joined(s.SlotName(), "b") })
	w.exec(`UPDATE b SET v = 3 WHERE id = 2`)
	changes := w.take(log, 4)
	require.Equal(t, []string{
		"0 truncate public.b:",
		"1 create public.b:0000000000000000002 after(id=2 v=1.50)",
		"2 create public.b:0000000000000000001 after(id=1 v=NULL)",
		"0 update public.b:0000000000000000002 after(id=2 v=3.00)",
	}, lines(changes))

	// And again, for who comes later.
	above := changes[0].Position - 1
	require.NoError(t, log.Close())
	log = w.followFrom(w.open(way{epoch: 8, options: options}), above)
	require.Equal(t, lines(changes), lines(w.take(log, 4)))
	require.False(t, w.joined(s.SlotName(), "tmp"))
}

// A table that was renamed, dropped and made anew, or left out for a while, comes as it is then: what was copied under its name before is not
// its own.
func TestATableThatComesAgainComesWhole(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE b (id int); CREATE TABLE "odd =%'\ name" (id int PRIMARY KEY)`)
	s := w.open(way{options: changefeed.Options{"tables": "public.*,!public.tmp*"}})
	log := w.follow(s)
	w.exec(`INSERT INTO a VALUES (1); INSERT INTO b VALUES (1)`)
	w.take(log, 2)

	w.exec(`ALTER TABLE a RENAME TO c; INSERT INTO c VALUES (2)`) // before anybody could see the new name
	require.Equal(t, []string{
		"0 create public.c:0000000000000000002 after(id=2)",
		"0 truncate public.c:", "1 create public.c:0000000000000000001 after(id=1)", "2 create public.c:0000000000000000002 after(id=2)",
	}, lines(w.take(log, 4)))

	w.exec(`DROP TABLE c; CREATE TABLE c (id int PRIMARY KEY)`) // empty, and so is the copy
	require.Equal(t, []string{"0 truncate public.c:"}, lines(w.take(log, 1)))

	w.exec(`ALTER TABLE b RENAME TO tmp`)
	w.eventually("it is left out", func() bool { return !w.joined(s.AppendName(), "tmp") })
	w.exec(`INSERT INTO tmp VALUES (2)`)
	w.exec(`ALTER TABLE tmp RENAME TO b`)
	require.Equal(t, []string{"0 truncate public.b:", "1 create public.b: after(id=1)", "2 create public.b: after(id=2)"}, lines(w.take(log, 3)))

	// While nobody reads. Two change places.
	above, err := s.Prepare(w.ctx, true)
	require.NoError(t, err)
	require.NoError(t, log.Close())
	w.exec(`CREATE TABLE d (id int PRIMARY KEY); INSERT INTO d VALUES (4)`)
	log = w.followFrom(w.open(way{epoch: 8}), above)
	w.eventually("it joins", func() bool { return w.joined(s.SlotName(), "d") })
	require.NoError(t, log.Close())
	w.exec(`ALTER TABLE c RENAME TO old; ALTER TABLE d RENAME TO c; INSERT INTO c VALUES (5)`)
	log = w.followFrom(w.open(way{epoch: 9}), above)
	var last []string
	w.eventually("both have come", func() bool {
		event, err := log.Next(w.ctx)
		require.NoError(t, err)
		last = append(last, lines(event.Changes)...)
		return slices.Contains(last, "0 truncate public.old:") && slices.Contains(last, "0 truncate public.c:") &&
			slices.Contains(last, "2 create public.c:0000000000000000005 after(id=5)")
	})
	// Also where somebody took a publication of ours away meanwhile.
	require.NoError(t, log.Close())
	w.exec(`ALTER TABLE old RENAME TO older; INSERT INTO older VALUES (6); DROP PUBLICATION "` + s.AppendName() + `"`)
	s = w.open(way{epoch: 10})
	_, err = s.Prepare(w.ctx, true)
	require.NoError(t, err)
	log = w.followFrom(s, above)
	w.eventually("it has come under its third name", func() bool {
		event, err := log.Next(w.ctx)
		require.NoError(t, err)
		last = append(last, lines(event.Changes)...)
		return slices.Contains(last, "0 truncate public.older:") && slices.Contains(last, "1 create public.older:0000000000000000006 after(id=6)")
	})
	require.Contains(t, w.text(`SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = $1`, s.SlotName()),
		"=public.odd%20=%25%27%5C%20name")
}

// A table without a key goes where its application's updates go on, and to the other publication when it has one.
func TestATableChangesItsPublicationWithItsIdentity(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int NOT NULL)`)
	s := w.open(way{})
	log := w.follow(s)
	require.True(t, w.joined(s.AppendName(), "a"))
	w.exec(`INSERT INTO a VALUES (1); DELETE FROM a`)
	w.exec(`ALTER TABLE a ADD PRIMARY KEY (id)`)
	w.eventually("it is in the first", func() bool { return w.joined(s.SlotName(), "a") && !w.joined(s.AppendName(), "a") })
	w.exec(`INSERT INTO a VALUES (2); DELETE FROM a`)
	require.Equal(t, []string{
		"0 create public.a: after(id=1)",
		"0 create public.a:0000000000000000002 after(id=2)",
		"1 delete public.a:0000000000000000002 before(id=2)",
	}, lines(w.take(log, 3)))
	w.exec(`ALTER TABLE a DROP CONSTRAINT a_pkey`)
	w.eventually("it is in the second", func() bool { return !w.joined(s.SlotName(), "a") && w.joined(s.AppendName(), "a") })
}

// Everybody may write messages, and nobody is believed.
func TestMessagesOfOthersBringNothing(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	log := w.follow(w.open(way{logger: zap.NewNop()}))
	oid := w.text(`SELECT lpad(to_hex('a'::regclass::oid::int), 8, '0')`)
	insert := "49" + oid + "4e" + "0001" + "74" + "00000001" + "39"
	relation := "52" + oid + "7075626c696300" + "6100" + "64" + "0001" + "01" + "696400" + "00000017" + "ffffffff"
	w.exec(`SELECT pg_logical_emit_message(true, 'fencerow', '\x00000010` + insert + `'::bytea)`)
	w.exec(`SELECT pg_logical_emit_message(true, 'fencerow', '\x0000001b` + relation + "00000010" + insert + `'::bytea)`)
	w.exec(`SELECT pg_logical_emit_message(true, 'fencerow', 'x')`)
	w.exec(`SELECT pg_logical_emit_message(false, 'fencerow', 'x')`)
	w.exec(`SELECT pg_logical_emit_message(true, 'other', 'x')`)
	w.exec(`INSERT INTO a VALUES (1)`)
	require.Equal(t, []string{"0 create public.a:0000000000000000001 after(id=1)"}, lines(w.take(log, 1)))
}
