//go:build databases

package databases

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/stretchr/testify/require"
)

// kind is what differs between the servers that are copied to.
type kind struct {
	driver string
	audit  []string                       // has each sync point's balances noted in the transaction that records it
	stamp  string                         // a column of a point in time, as text
	begin  []string                       // a transaction that sees one moment
	cut    func(text, name string) string // the documented query
}

// sums are the balances of pgbench's tables: a transaction changes all four by the same amount.
const sums = "(SELECT coalesce(sum(abalance), 0) FROM pgbench_accounts), (SELECT coalesce(sum(tbalance), 0) FROM pgbench_tellers), " +
	"(SELECT coalesce(sum(bbalance), 0) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)"

// A sync point is recorded with all claims of the changefeed locked: what its transaction sees is what it stands for. So a
// trigger there sees every one of them, however short the moment is for others.
var (
	inPostgres = kind{
		driver: "pgx", stamp: "to_char(mtime, 'YYYY-MM-DD HH24:MI:SS.US')",
		begin: []string{"BEGIN ISOLATION LEVEL REPEATABLE READ"},
		cut:   func(text, _ string) string { return text },
		audit: []string{
			"CREATE SCHEMA audit",
			"CREATE TABLE audit.points (position text, accounts bigint, tellers bigint, branches bigint, history bigint)",
			"CREATE FUNCTION audit.add() RETURNS trigger LANGUAGE plpgsql SET search_path = public AS $$ BEGIN " +
				"INSERT INTO audit.points SELECT NEW.position::text, " + sums + "; RETURN NULL; END $$",
			"CREATE TRIGGER audited AFTER INSERT ON fencerow.syncs FOR EACH ROW EXECUTE FUNCTION audit.add()",
		},
	}
	inMariaDB = kind{
		driver: "mysql", stamp: "date_format(mtime, '%Y-%m-%d %H:%i:%s.%f')",
		begin: []string{"SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION WITH CONSISTENT SNAPSHOT"},
		cut:   func(text, _ string) string { return strings.ReplaceAll(text, "fencerow.", "fencerow_") },
		audit: []string{
			"CREATE DATABASE IF NOT EXISTS audit",
			"CREATE TABLE audit_points (position text, accounts bigint, tellers bigint, branches bigint, history bigint)",
			"CREATE TRIGGER audited AFTER INSERT ON fencerow_syncs FOR EACH ROW INSERT INTO audit_points SELECT NEW.position, " + sums,
		},
	}
)

// balances are the sums of the four tables.
type balances [4]int64

func (b balances) equal() bool { return b[0] == b[1] && b[1] == b[2] && b[2] == b[3] }

// audit returns how many sync points were recorded, and objects to those at which the balances don't add up.
func (f *feed) audit() int {
	f.w.t.Helper()
	points := "audit.points"
	if f.kind == &inMariaDB {
		points = "audit_points"
	}
	rows, err := f.db.QueryContext(f.w.t.Context(), "SELECT position, accounts, tellers, branches, history FROM "+points)
	require.NoError(f.w.t, err)
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var at string
		var b balances
		require.NoError(f.w.t, rows.Scan(&at, &b[0], &b[1], &b[2], &b[3]))
		if !f.audited[at] && !b.equal() {
			f.w.object("%s: at the sync point %s the balances are %v", f.name, at, b)
		}
		f.audited[at] = true
	}
	require.NoError(f.w.t, rows.Err())
	return len(f.audited)
}

// cutQuery is the documented query for the position of a consistent cut.
func (f *feed) cutQuery() string {
	f.w.t.Helper()
	page, err := os.ReadFile("../../docs/sinks-sql.md")
	require.NoError(f.w.t, err)
	_, rest, found := strings.Cut(string(page), "BEGIN ISOLATION LEVEL REPEATABLE READ;\n")
	require.True(f.w.t, found)
	text, _, found := strings.Cut(rest, ";\n")
	require.True(f.w.t, found)
	return f.kind.cut(strings.ReplaceAll(text, "'orders'", "'"+f.name+"'"), f.name)
}

// readTick is how often a reader begins: it sums up a table of 100,000 rows, which others need the machine for.
const readTick = 150 * time.Millisecond

// reader reads cuts as the documents say, until ctx ends, and returns how many of its snapshots were one.
func (f *feed) reader(ctx context.Context, query string) (cuts int) {
	ticker := time.NewTicker(readTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return cuts
		case <-ticker.C:
		}
		found, err := f.cut(ctx, query)
		if err != nil && ctx.Err() == nil {
			f.w.object("%s: a cut could not be read: %v", f.name, err)
			return cuts
		}
		if found {
			cuts++
		}
	}
}

// cut reads one snapshot, and says whether it was a cut.
func (f *feed) cut(ctx context.Context, query string) (found bool, err error) {
	conn, err := f.db.Conn(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = conn.Close() }()
	for _, statement := range f.kind.begin {
		if _, err := conn.ExecContext(ctx, statement); err != nil {
			return false, err
		}
	}
	defer func() { _, _ = conn.ExecContext(context.WithoutCancel(ctx), "ROLLBACK") }()
	var position sql.NullString
	if err := conn.QueryRowContext(ctx, query).Scan(&position); err != nil || !position.Valid {
		return false, err
	}
	var b balances
	if err := conn.QueryRowContext(ctx, "SELECT "+sums).Scan(&b[0], &b[1], &b[2], &b[3]); err != nil {
		return false, err
	}
	if !b.equal() {
		f.w.object("%s: in the cut at %s the balances are %v", f.name, position.String, b)
	}
	return true, nil
}

// compare objects to every table that is not what the source's is, row by row.
func (f *feed) compare() {
	f.w.t.Helper()
	for table, columns := range map[string][]string{
		"pgbench_accounts": {"aid", "bid", "abalance", "filler"},
		"pgbench_branches": {"bid", "bbalance", "filler"},
		"pgbench_tellers":  {"tid", "bid", "tbalance", "filler"},
		"pgbench_history":  {"tid", "bid", "aid", "delta", "mtime", "filler"},
	} {
		want, have := f.w.rows(f.w.source, &inPostgres, table, columns), f.w.rows(f.db, f.kind, table, columns)
		missing, extra := 0, 0
		example := ""
		for row, n := range want {
			if have[row] < n {
				missing += n - have[row]
				example = row
			}
		}
		for row, n := range have {
			if want[row] < n {
				extra += n - want[row]
				example = row
			}
		}
		if missing+extra > 0 {
			f.w.object("%s: %s lacks %d rows of the source's and has %d that it has not, such as %s", f.name, table, missing, extra, example)
			continue
		}
		f.w.t.Logf("%s: %s is equal: %d distinct rows", f.name, table, len(have))
	}
}

// rows counts the rows of a table by what is in them.
func (w *world) rows(db *sql.DB, of *kind, table string, columns []string) map[string]int {
	w.t.Helper()
	var all []string
	for _, column := range columns {
		switch column {
		case "mtime":
			column = of.stamp
		case "filler":
			column = "rtrim(filler)" // both servers say that blanks at the end of a char are nothing
		}
		all = append(all, "coalesce("+fmt.Sprintf(map[string]string{"pgx": "(%s)::text", "mysql": "concat(%s)"}[of.driver], column)+", 'NULL')")
	}
	rows, err := db.QueryContext(w.t.Context(), "SELECT concat_ws('|', "+strings.Join(all, ", ")+") FROM "+table)
	require.NoError(w.t, err)
	defer func() { _ = rows.Close() }()
	out := map[string]int{}
	for rows.Next() {
		var row string
		require.NoError(w.t, rows.Scan(&row))
		out[row]++
	}
	require.NoError(w.t, rows.Err())
	return out
}
