//go:build databases

package postgres_test

import (
	"bytes"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/internal/dbtest"
)

// The rights that docs/source-postgres.md names are enough for everything, and what lacks one is refused at the door, with its cure.
func TestTheLeastPermissionsAreEnough(t *testing.T) {
	w := newWorld(t)
	text, err := os.ReadFile("../../docs/source-postgres.md")
	require.NoError(t, err)
	_, text, _ = bytes.Cut(text, []byte("<!-- rights -->\n\n```sql\n"))
	rights, _, found := bytes.Cut(text, []byte("```"))
	require.True(t, found)
	suffix := "_" + w.database
	statements := strings.NewReplacer("shop_owner", "owner"+suffix, "DATABASE shop", "DATABASE "+w.database, "copy", "copy"+suffix).Replace(string(rights))
	w.exec(`CREATE ROLE owner` + suffix + `; REVOKE ALL ON DATABASE ` + w.database + ` FROM PUBLIC`)
	w.exec(statements)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY); ALTER TABLE a OWNER TO owner` + suffix)
	s := w.open(way{user: "copy" + suffix})
	require.NoError(t, s.Check(w.ctx))
	log := w.follow(s)
	w.exec(`INSERT INTO a VALUES (1)`)
	w.take(log, 1)
	w.exec(`CREATE TABLE b (id int PRIMARY KEY); INSERT INTO b VALUES (2); ALTER TABLE b OWNER TO owner` + suffix)
	require.Equal(t, []string{"0 truncate public.b:", "1 create public.b:0000000000000000002 after(id=2)"}, lines(w.take(log, 2)))
	_, err = s.Identity(w.ctx)
	require.NoError(t, err)
	_, err = s.Head(w.ctx)
	require.NoError(t, err)
	next := w.open(way{user: "copy" + suffix, epoch: 8})
	log = w.followFrom(next, 0)
	requireFault(t, w.refused(log), changefeed.CodeSourceSlotLost)
	require.NoError(t, next.Drop(w.ctx))

	for lack, cure := range map[string][2]string{
		`ALTER ROLE copy` + suffix + ` NOREPLICATION`:                     {`ALTER ROLE copy` + suffix + ` REPLICATION`, `ALTER ROLE "copy` + suffix + `" REPLICATION`},
		`REVOKE CREATE ON DATABASE ` + w.database + ` FROM copy` + suffix: {`GRANT CREATE ON DATABASE ` + w.database + ` TO copy` + suffix, `GRANT CREATE ON DATABASE "` + w.database},
		`REVOKE owner` + suffix + ` FROM copy` + suffix:                   {`GRANT owner` + suffix + ` TO copy` + suffix, "GRANT the role that owns them"},
	} {
		w.exec(lack)
		fault := requireFault(t, w.open(way{user: "copy" + suffix}).Check(w.ctx), changefeed.CodeSourceUnreachable)
		require.Contains(t, fault.Cure, cure[1], lack)
		w.exec(cure[0])
	}
	require.NoError(t, s.Check(w.ctx))
}

func TestWhatCanNotBeASourceIsRefusedAtTheDoor(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY); CREATE TABLE k (v text); CREATE UNLOGGED TABLE u (id int PRIMARY KEY)`)
	require.NoError(t, w.open(way{}).Check(w.ctx))
	for options, detail := range map[string]string{
		"public.nothing*": "matches no table", "public.u": "matches no table", "pg_catalog.*": "matches no table",
	} {
		s := w.open(way{options: changefeed.Options{"tables": options}})
		fault := requireFault(t, s.Check(w.ctx), changefeed.CodeRequestInvalid)
		require.Contains(t, fault.Detail, detail, options)
		require.Equal(t, "options.tables", fault.Field)
		_, err := s.Prepare(w.ctx, false)
		requireFault(t, err, changefeed.CodeRequestInvalid)
	}
	strict := w.open(way{options: changefeed.Options{"require_key": "true"}})
	fault := requireFault(t, strict.Check(w.ctx), changefeed.CodeSourceUnreachable)
	require.Contains(t, fault.Detail, `"public"."k"`)
	require.NoError(t, w.open(way{options: changefeed.Options{"require_key": "true", "tables": "*.*,!*.k"}}).Check(w.ctx))
	requireFault(t, w.open(way{user: "nobody"}).Check(w.ctx), changefeed.CodeSourceUnreachable)
	lost := *w
	lost.database = "nothing"
	fault = requireFault(t, lost.open(way{}).Check(w.ctx), changefeed.CodeSourceUnreachable)
	require.Contains(t, fault.Cure, "name of the database")
	closed := w.open(way{host: "127.0.0.1:1"})
	requireFault(t, closed.Check(w.ctx), changefeed.CodeSourceUnreachable)
	requireFault(t, w.refused(w.followFrom(hastened(closed), 1)), changefeed.CodeSourceUnreachable)
}

func TestAServerThatKeepsNoLogicalLogOrHasNoRoom(t *testing.T) {
	plain, err := dbtest.StartPostgres()
	require.NoError(t, err)
	t.Cleanup(plain.Close)
	w := newWorldOn(t, plain)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	fault := requireFault(t, w.open(way{}).Check(w.ctx), changefeed.CodeSourceUnreachable)
	require.Contains(t, fault.Cure, "wal_level=logical")

	full, err := dbtest.StartPostgres("wal_level=logical", "max_replication_slots=1", "max_wal_senders=1")
	require.NoError(t, err)
	t.Cleanup(full.Close)
	w = newWorldOn(t, full)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	w.follow(w.open(way{}))
	w.eventually("it follows", func() bool { return w.text(`SELECT count(*)::text FROM pg_stat_replication`) == "1" })
	other := *w
	other.uid = "another"
	s := other.open(way{})
	err = s.Check(w.ctx)
	requireFault(t, err, changefeed.CodeSourceUnreachable)
	require.ErrorContains(t, err, "max_replication_slots")
	require.ErrorContains(t, err, "max_wal_senders")
	_, err = s.Prepare(w.ctx, false)
	require.Contains(t, requireFault(t, err, changefeed.CodeSourceUnreachable).Cure, "max_replication_slots")
	require.NoError(t, s.Drop(w.ctx))
}
