//go:build databases

package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
	"fencerow/source/serial"
	"fencerow/source/sourcetest"
)

// keyColumn is what the rows of a suite's table are known by.
type keyColumn struct {
	sql  string // its type
	kind change.Kind
	cell func(i int) string // rises with i, as keys do
}

// keyColumns are a column whose own order is that of keys, and one in a collation that has another.
var keyColumns = map[string]keyColumn{
	"int": {sql: "int", kind: change.KindInt, cell: func(i int) string { return strconv.Itoa(7*i - 100) }},
	"text": {sql: `text COLLATE "de-x-icu"`, cell: func(i int) string {
		return []string{"-", "A", "B", "Z", "_", "a", "b", "z", "ß", "ä", "€", "😀"}[i/4] + []string{"", " ", "B", "b"}[i%4]
	}},
}

// subject is a database with one table, its log read by a hub in this process.
type subject struct {
	*world
	column keyColumn
	node   *serial.Node
	hub    *serial.Hub
	writer *pgx.Conn
	from   source.Source
}

var fed = serial.Feed{Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "u1"}

func newSubject(t *testing.T, column keyColumn, onGap serial.OnGap) *subject {
	t.Helper()
	s := &subject{world: newWorldOn(t, server), column: column}
	s.exec(`CREATE EXTENSION pg_walinspect`)
	s.exec(`CREATE TABLE rows (v text, k ` + column.sql + ` PRIMARY KEY); CREATE TABLE beside (k int PRIMARY KEY)`)
	s.writer = s.connect()
	reader := s.open(way{})
	_, err := reader.Prepare(s.ctx, false)
	require.NoError(t, err)
	identity, err := reader.Identity(s.ctx)
	require.NoError(t, err)
	s.node, err = serial.NewNode(serial.Config{Self: "a", Dialer: noDialer{}, Logger: zap.NewNop()})
	require.NoError(t, err)
	s.hub = s.node.NewHub(serial.HubConfig{Changefeed: fed.Changefeed, UID: fed.UID, Epoch: 7, Source: reader, Identity: identity})
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = s.hub.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	s.node.Observed(fed.Changefeed, serial.Owner{UID: fed.UID, Epoch: 7, Node: "a"})
	feed := fed
	feed.OnGap = onGap
	s.from = s.node.NewSource(s.open(way{options: changefeed.Options{source.OptionSnapshotChunk: "7"}}), feed)
	return s
}

type noDialer struct{}

func (noDialer) Dial(context.Context, changefeed.NodeID) (serial.Pipe, error) {
	return nil, errors.New("there is one node")
}

func (s *subject) key(i int) string {
	start, _ := change.TableSpan("public", "rows")
	of := &change.Relation{Columns: []change.Column{{Kind: s.column.kind, Key: 1}}}
	return string(change.AppendKey(start, of, [][]byte{[]byte(s.column.cell(i))}))
}

// write commits, and returns where the commit record begins.
func (s *subject) write(ctx context.Context, writes []sourcetest.Write) (change.Position, error) {
	tx, err := s.writer.Begin(ctx)
	if err != nil {
		return 0, err
	}
	defer func() { _ = tx.Rollback(ctx) }()
	for _, write := range writes {
		key, err := change.ParseTableKey([]byte(write.Key))
		if err != nil {
			return 0, err
		}
		cell, _ := change.KeyCell(s.column.kind, append(key.Values, "")[0])
		text, args := "INSERT INTO rows (k, v) VALUES ($1, $2) ON CONFLICT (k) DO UPDATE SET v = $2", []any{cell, write.Value}
		if write.Deleted {
			text, args = "DELETE FROM rows WHERE k = $1", args[:1]
		}
		if _, err := tx.Exec(ctx, text, append([]any{pgx.QueryExecModeSimpleProtocol}, args...)...); err != nil {
			return 0, err
		}
	}
	var number, from string
	if err := tx.QueryRow(ctx, "SELECT pg_current_xact_id()::text, pg_current_wal_insert_lsn()::text").Scan(&number, &from); err != nil {
		return 0, err
	}
	if err := tx.Commit(ctx); err != nil {
		return 0, err
	}
	var at uint64
	err = s.writer.QueryRow(ctx, `SELECT (start_lsn - '0/0')::bigint FROM pg_get_wal_records_info($1::pg_lsn, pg_current_wal_flush_lsn())
		WHERE resource_manager = 'Transaction' AND record_type LIKE 'COMMIT%' AND xid::text = $2`, from, number).Scan(&at)
	return change.Position(at), err
}

// The suite of all sources over a real server: snapshots from the database, the rest through hub and reader.
func TestSourceSuite(t *testing.T) {
	for name, column := range keyColumns {
		t.Run(name, func(t *testing.T) {
			var current *subject
			sourcetest.Run(t, sourcetest.Subject{
				Serial: true,
				Open: func(t *testing.T) source.Source {
					t.Helper()
					if current == nil || current.TB != t {
						current = newSubject(t, column, serial.GapFails)
					}
					return current.from
				},
				OpenBridging: func(t *testing.T) source.Source {
					t.Helper()
					current = newSubject(t, column, serial.GapResnapshots)
					return current.from
				},
				Write: func(ctx context.Context, writes []sourcetest.Write) (change.Position, error) {
					return current.write(ctx, writes)
				},
				Key:   func(_ *testing.T, i int) string { return current.key(i) },
				Value: func(row change.Row) string { return string(row.(*change.Tuple).Cells[0]) },
				Forget: func(_ context.Context, position change.Position) error {
					current.hub.Acknowledge(position)
					return nil
				},
				Disturb: func(t *testing.T) {
					t.Helper()
					current.exec(`SELECT pg_terminate_backend(pid) FROM pg_stat_activity
						WHERE datname = current_database() AND application_name LIKE 'fencerow %'`)
				},
			})
		})
	}
}

func TestKeysOfTheSuiteRise(t *testing.T) {
	for name, column := range keyColumns {
		s := &subject{column: column}
		for i := range 42 {
			require.Less(t, s.key(i), s.key(i+1), fmt.Sprint(name, " ", i))
		}
	}
}
