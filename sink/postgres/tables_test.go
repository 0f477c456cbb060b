//go:build databases

package postgres_test

import (
	"testing"

	"fencerow/change"
	"fencerow/sink"
	"fencerow/sink/postgres"
	"fencerow/sink/sinktest"
	"fencerow/sink/sqlsink"
	"fencerow/sink/sqlsink/sqltest"
)

// rowsTarget is a target whose pairs are rows of a table, which records its history.
type rowsTarget struct{ *target }

func newRowsTarget(t testing.TB) *rowsTarget {
	t.Helper()
	x := newTarget(t, nil)
	x.exec(t, recordingRows)
	for _, statement := range postgres.Dialect().Setup() {
		x.exec(t, statement.Text)
	}
	x.exec(t, `CREATE TRIGGER cut AFTER INSERT ON fencerow.syncs FOR EACH ROW EXECUTE FUNCTION cut()`)
	return &rowsTarget{x}
}

const recordingRows = `
	CREATE TABLE data (key text PRIMARY KEY, value text);` + recording + `
	CREATE OR REPLACE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
		IF TG_OP = 'DELETE' THEN INSERT INTO history (key, deleted) VALUES (convert_to('k/' || OLD.key, 'UTF8'), true);
		ELSE INSERT INTO history (key, value, deleted) VALUES (convert_to('k/' || NEW.key, 'UTF8'), convert_to(NEW.value, 'UTF8'), false); END IF;
		RETURN NULL; END $$;
	CREATE TRIGGER note AFTER INSERT OR UPDATE OR DELETE ON data FOR EACH ROW EXECUTE FUNCTION note();`

func (x *rowsTarget) Open(t testing.TB, as sink.Identity) sink.Sink {
	t.Helper()
	return sqltest.AsTables(x.open(t, as, sqltest.Way{Layout: sqlsink.LayoutTables}))
}

func (x *rowsTarget) OpenFaulty(t testing.TB, as sink.Identity, crash sinktest.Crash) (sink.Sink, func() bool) {
	t.Helper()
	faults := sqltest.NewCrashing(crash)
	return sqltest.AsTables(x.open(t, as, sqltest.Way{Layout: sqlsink.LayoutTables, Wrap: faults.Wrap})), faults.Fired
}

func (x *rowsTarget) Read(t testing.TB, _ sink.Identity) []sinktest.Entry {
	t.Helper()
	return x.read(t, `SELECT key, value, deleted FROM history ORDER BY id`)
}

func (x *rowsTarget) ReadCut(t testing.TB, as sink.Identity, at change.Position) []sinktest.Entry {
	t.Helper()
	return x.target.ReadCut(t, as, at)
}

func (x *rowsTarget) Plant(t testing.TB, key, value string) {
	t.Helper()
	x.exec(t, `INSERT INTO data (key, value) VALUES (substr($1, 3), $2)`, key, value)
}

func (x *rowsTarget) Lose(t testing.TB) {
	t.Helper()
	x.exec(t, `TRUNCATE fencerow.heads, fencerow.claims, fencerow.targets, fencerow.syncs, fencerow.tables`)
}

func TestSuiteOfTables(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{
		Copies: true, Syncs: true, Short: true, Folds: true, LateInUse: true, New: func(t testing.TB) sinktest.Target { return newRowsTarget(t) },
	})
}
