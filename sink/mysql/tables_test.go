//go:build databases

package mysql_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
	"fencerow/sink/mysql"
	"fencerow/sink/sinktest"
	"fencerow/sink/sqlsink"
	"fencerow/sink/sqlsink/sqltest"
)

// pairsTarget is a target whose pairs are rows of a table, which records its history.
type pairsTarget struct{ *target }

func newPairs(t testing.TB) *pairsTarget {
	t.Helper()
	x := newTarget(t, nil)
	x.exec(t, "CREATE TABLE data (`key` varchar(700) "+mysql.Unicode+" PRIMARY KEY, value longtext)")
	for _, statement := range mysql.Dialect().Setup() {
		x.exec(t, statement.Text)
	}
	for _, text := range recording() {
		text = strings.ReplaceAll(text, "ON fencerow_data", "ON data")
		for _, row := range []string{"NEW", "OLD"} {
			text = strings.ReplaceAll(text, "VALUES ("+row+".`key`", "VALUES (CONCAT('k/', "+row+".`key`)")
		}
		x.exec(t, text)
	}
	return &pairsTarget{x}
}

func (x *pairsTarget) Open(t testing.TB, as sink.Identity) sink.Sink {
	t.Helper()
	return sqltest.AsTables(x.open(t, as, sqltest.Way{Layout: sqlsink.LayoutTables}))
}

func (x *pairsTarget) OpenFaulty(t testing.TB, as sink.Identity, crash sinktest.Crash) (sink.Sink, func() bool) {
	t.Helper()
	faults := sqltest.NewCrashing(crash)
	return sqltest.AsTables(x.open(t, as, sqltest.Way{Layout: sqlsink.LayoutTables, Wrap: faults.Wrap})), faults.Fired
}

func (x *pairsTarget) Read(t testing.TB, _ sink.Identity) []sinktest.Entry {
	t.Helper()
	return x.read(t, "SELECT `key`, value, deleted FROM history ORDER BY id")
}

func (x *pairsTarget) Plant(t testing.TB, key, value string) {
	t.Helper()
	x.exec(t, "INSERT INTO data (`key`, value) VALUES (SUBSTR(?, 3), ?)", key, value)
}

func (x *pairsTarget) Lose(t testing.TB) {
	t.Helper()
	x.target.Lose(t)
	x.exec(t, "DELETE FROM fencerow_tables")
}

func TestSuiteOfTables(t *testing.T) {
	sinktest.Run(t, sinktest.Harness{
		Copies: true, Syncs: true, Short: true, Folds: true, LateInUse: true, New: func(t testing.TB) sinktest.Target { return newPairs(t) },
	})
}

// tablesTarget is a database that tables are written to.
type tablesTarget struct {
	*target
	sink sink.Sink
	seq  fence.Seq
	at   change.Position
}

func identity() sink.Identity {
	return sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1"}
}

func newTables(t testing.TB, options changefeed.Options) *tablesTarget {
	t.Helper()
	x := &tablesTarget{target: newTarget(t, options), at: 10}
	x.sink = x.open(t, identity(), sqltest.Way{Options: options, Layout: sqlsink.LayoutTables})
	require.NoError(t, x.sink.Raise(t.Context(), 2, sink.KnownNothing))
	return x
}

func (x *tablesTarget) claim(t testing.TB) sink.Writer {
	t.Helper()
	x.seq++
	w, err := x.sink.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(2, x.seq), From: change.At(1)})
	require.NoError(t, err)
	t.Cleanup(func() { _ = w.Close() })
	return w
}

// batch puts changes at the next position.
func (x *tablesTarget) batch(changes ...change.Change) sink.Batch {
	for i := range changes {
		changes[i].Position, changes[i].Index = x.at, uint32(i)
	}
	out := sink.Batch{Changes: changes, Span: changefeed.Whole(), To: change.At(x.at)}
	x.at++
	return out
}

func made(op change.Op, of *change.Relation, values ...string) change.Change {
	cells := row(values...).Cells
	start, _ := change.TableSpan(of.Schema, of.Name)
	out := change.Change{Op: op, Table: of.String(), Key: change.AppendKey(start, of, cells)}
	tuple := &change.Tuple{Of: of, Cells: cells}
	if op == change.OpDelete {
		tuple.KeyOnly, out.Before = of.Keyed(), tuple
	} else {
		out.After = tuple
	}
	return out
}

func relation(name string, columns ...change.Column) *change.Relation {
	return &change.Relation{Schema: "public", Name: name, Columns: columns}
}

func requireFault(t testing.TB, err error, code changefeed.Code, words ...string) {
	t.Helper()
	fault, ok := errors.AsType[*changefeed.Fault](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code, fault.Code, "%v", err)
	require.NotEmpty(t, fault.Cure)
	for _, word := range words {
		require.Contains(t, err.Error(), word)
	}
}

func TestRowsOfTables(t *testing.T) {
	x := newTables(t, nil)
	w := x.claim(t)
	a, log := relation("a", number("id", 1), text("name", 0), text("large", 0)), relation("log", text("line", 0))
	require.NoError(t, w.Write(t.Context(), x.batch(
		made(change.OpCreate, a, "1", "one", "x"), made(change.OpCreate, log, "same"), made(change.OpCreate, a, "2", "two", "NULL"),
		made(change.OpUpdate, a, "1", "uno", "x"), made(change.OpCreate, log, "same"), made(change.OpDelete, a, "2", "NULL", "NULL"),
		made(change.OpCreate, a, "3", "three", "z"),
	)))
	all := "SELECT CONCAT_WS('|', id, COALESCE(name, 'NULL'), COALESCE(large, 'NULL')) FROM a ORDER BY id"
	require.Equal(t, []string{"1|uno|x", "3|three|z"}, x.strings(t, all))
	require.Equal(t, []string{"same", "same"}, x.strings(t, "SELECT line FROM log"))

	partly := made(change.OpUpdate, a, "3", "drei", "NULL")
	partly.After.(*change.Tuple).Unchanged = []bool{false, false, true}
	moved := made(change.OpUpdate, a, "7", "seven", "NULL")
	moved.After.(*change.Tuple).Unchanged = []bool{false, false, true}
	moved.Before = &change.Tuple{Of: a, Cells: row("1", "NULL", "NULL").Cells, KeyOnly: true}
	require.NoError(t, w.Write(t.Context(), x.batch(partly, moved, made(change.OpCreate, a, "1", "again", "y"))))
	require.Equal(t, []string{"1|again|y", "3|drei|z", "7|seven|x"}, x.strings(t, all))

	start, _ := change.TableSpan("public", "a")
	require.NoError(t, w.Write(t.Context(), x.batch(
		change.Change{Op: change.OpTruncate, Table: "public.a", Key: start}, made(change.OpCreate, a, "9", "new", "NULL"))))
	require.Equal(t, []string{"9|new|NULL"}, x.strings(t, all))
}

// The row that is refused is named, though the server does not say which of a message's statements it refused.
func TestTheRowThatIsRefusedIsNamed(t *testing.T) {
	x := newTables(t, nil)
	a := relation("a", number("id", 1), change.Column{Name: "n", Type: "numeric", Null: true}, number("m", 0))
	w := x.claim(t)
	require.NoError(t, w.Write(t.Context(), x.batch(made(change.OpCreate, a, "1", "1.5", "1"))))
	x.exec(t, "ALTER TABLE a ADD CHECK (m < 100)")
	var changes []change.Change
	for i := range 50 {
		changes = append(changes, made(change.OpCreate, a, fmt.Sprint(100+i), "1", fmt.Sprint(60+i)))
	}
	requireFault(t, w.Write(t.Context(), x.batch(changes...)), changefeed.CodeSinkRefused, "table a", "index 40", "m integer of 3 bytes", "skip default/orders --position 11 --index 40")
	require.Equal(t, []string{"1"}, x.strings(t, "SELECT id FROM a"))

	w = x.claim(t)
	refused := x.batch(made(change.OpCreate, a, "2", "2", "2"), made(change.OpCreate, a, "3", "NaN", "3"))
	requireFault(t, w.Write(t.Context(), refused), changefeed.CodeSinkRefused, "index 1", "column n", "decimal(65,30)", "numeric")
	x.exec(t, "ALTER TABLE a MODIFY n longtext CHARACTER SET utf8mb4")
	w = x.claim(t)
	require.NoError(t, w.Write(t.Context(), refused), "a text takes it")
	require.Equal(t, []string{"1", "2", "3"}, x.strings(t, "SELECT id FROM a ORDER BY id"))
}

func TestATableEvolves(t *testing.T) {
	x := newTables(t, changefeed.Options{"schema": "evolve"})
	first := relation("a", number("id", 1), number("n", 0), text("gone", 0))
	second := relation("a", number("id", 1), change.Column{Name: "n", Type: "bigint", Kind: change.KindInt, Null: true}, text("added", 0))
	for i := range 3 {
		first.Columns[i].Number, second.Columns[i].Number = i+1, i+1
	}
	second.Columns[2].Number = 4
	w := x.claim(t)
	require.NoError(t, w.Write(t.Context(), x.batch(made(change.OpCreate, first, "1", "2", "x"))))
	require.NoError(t, w.Write(t.Context(), x.batch(made(change.OpCreate, second, "2", "9000000000", "y"))))
	require.Equal(t, []string{"added longtext", "id int", "n bigint"}, x.strings(t,
		"SELECT CONCAT(column_name, ' ', data_type) FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = 'a' ORDER BY column_name"))
	require.Equal(t, []string{"1|2|NULL", "2|9000000000|y"}, x.strings(t, "SELECT CONCAT_WS('|', id, n, COALESCE(added, 'NULL')) FROM a ORDER BY id"))
}

// Rows that are there when a column is added get what the source's had at once, as do those of an older form that come later. What the
// column's type can't hold is not taken for NULL.
func TestAColumnIsAddedWithWhatRowsHave(t *testing.T) {
	x := newTables(t, changefeed.Options{"schema": "evolve"})
	id := number("id", 1)
	id.Number = 1
	columns := []change.Column{id}
	var values []string
	for i, one := range []struct {
		typed, added, want string
		kind               change.Kind
	}{
		{"text", `it's \ ?`, `it's \ ?`, change.KindText},
		{"character varying(9)", "", "", change.KindText},
		{"numeric(5,2)", "1.50", "1.50", change.KindText},
		{"boolean", "t", "1", change.KindBool},
		{"bytea", `\x00ff27`, "\x00\xff'", change.KindBytes},
		{"timestamp with time zone", "2024-01-01 00:00:00.5+00", "2024-01-01 00:00:00.500000", change.KindText},
		{"jsonb", `{"a": 1}`, `{"a": 1}`, change.KindText},
		{"integer[]", "{1,2}", "{1,2}", change.KindText},
	} {
		columns = append(columns, change.Column{
			Name: fmt.Sprintf("c?%d", i), Type: one.typed, Kind: one.kind, Number: i + 2, Null: true, Added: change.Added{Known: true, Text: one.added},
		})
		values = append(values, one.want)
	}
	old, next := relation("a", id), relation("a", columns...)
	none := slices.Repeat([]string{"NULL"}, len(values))
	w := x.claim(t)
	require.NoError(t, w.Write(t.Context(), x.batch(made(change.OpCreate, old, "1"))))
	x.at += 10
	require.NoError(t, w.Write(t.Context(), x.batch(made(change.OpCreate, next, append([]string{"2"}, none...)...))))
	x.at -= 10
	late := x.batch(made(change.OpCreate, old, "3"))
	x.at += 10
	last := x.batch(made(change.OpCreate, next, append([]string{"4"}, none...)...))
	last.Changes = append(late.Changes, last.Changes...)
	require.NoError(t, w.Write(t.Context(), last))
	for i, want := range values {
		require.Equal(t, []string{"1" + want, "2NULL", "3" + want, "4NULL"}, x.strings(t, fmt.Sprintf("SELECT CONCAT(id, COALESCE(`c?%d`, 'NULL')) FROM a ORDER BY id", i)))
	}
	odd := relation("b", id)
	require.NoError(t, w.Write(t.Context(), x.batch(made(change.OpCreate, odd, "1"))))
	nan := change.Column{Name: "n", Type: "double precision", Kind: change.KindFloat, Number: 2, Null: true, Added: change.Added{Known: true, Text: "NaN"}}
	err := w.Write(t.Context(), x.batch(made(change.OpCreate, relation("b", id, nan), "2", "1.5")))
	requireFault(t, err, changefeed.CodeRequestInvalid, "column n", "ADD COLUMN")
}

func TestTablesThatDoNotFit(t *testing.T) {
	a := relation("a", text("k", 1), number("n", 0))
	for name, one := range map[string]struct {
		options changefeed.Options
		make    string
		words   []string
	}{
		"missing":          {changefeed.Options{"create_tables": "false"}, "", []string{"CREATE TABLE IF NOT EXISTS `a`", "PRIMARY KEY (`k`)"}},
		"a key that folds": {nil, "CREATE TABLE a (k varchar(20) COLLATE utf8mb4_general_ci PRIMARY KEY, n int)", []string{"utf8mb4_general_ci", "MODIFY COLUMN `k` varchar(768)"}},
		"a key that trims": {nil, "CREATE TABLE a (k varchar(20) COLLATE utf8mb4_bin PRIMARY KEY, n int)", []string{"utf8mb4_bin"}},
		"too narrow":       {nil, "CREATE TABLE a (k varchar(20) " + mysql.Unicode + " PRIMARY KEY, n smallint)", []string{"column n", "smallint", "MODIFY COLUMN `n` int"}},
		"no key":           {nil, "CREATE TABLE a (k varchar(20) " + mysql.Unicode + ", n int)", []string{"no primary key", "ADD PRIMARY KEY (`k`)"}},
	} {
		t.Run(name, func(t *testing.T) {
			x := newTables(t, one.options)
			if one.make != "" {
				x.exec(t, one.make)
			}
			requireFault(t, x.claim(t).Write(t.Context(), x.batch(made(change.OpCreate, a, "k", "1"))), changefeed.CodeRequestInvalid, one.words...)
		})
	}
	x := newTables(t, nil)
	two := relation("a", number("id", 1))
	two.Schema = "other"
	requireFault(t, x.claim(t).Write(t.Context(), x.batch(made(change.OpCreate, a, "k", "1"), made(change.OpCreate, two, "1"))),
		changefeed.CodeRequestInvalid, "two tables", "options.rename")
}

func TestASchemaChangeIsABarrier(t *testing.T) {
	var x *tablesTarget
	sqltest.RunBarrier(t, sqltest.BarrierTarget{
		Type: "character varying(9)",
		Open: func(t testing.TB, options changefeed.Options) sink.Sink {
			x = newTables(t, options)
			return x.sink
		},
		Columns: func(t testing.TB, table string) []string {
			return x.strings(t, "SELECT column_name FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = '"+table+
				"' ORDER BY column_name")
		},
		Strings: func(t testing.TB, query string) []string { return x.strings(t, query) },
	})
}
