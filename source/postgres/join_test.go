//go:build databases

package postgres_test

import (
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
	changes := w.take(log, 3)
	require.Equal(t, []string{
		"0 create public.b:0000000000000000002 after(id=2 v=1.50)",
		"1 create public.b:0000000000000000001 after(id=1 v=NULL)",
		"0 update public.b:0000000000000000002 after(id=2 v=3.00)",
	}, lines(changes))

	// And again, for who comes later.
	above := changes[0].Position - 1
	require.NoError(t, log.Close())
	log = w.followFrom(w.open(way{epoch: 8, options: options}), above)
	require.Equal(t, lines(changes), lines(w.take(log, 3)))
	require.False(t, w.joined(s.SlotName(), "tmp"))
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
