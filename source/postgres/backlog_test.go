//go:build databases

package postgres_test

import (
	"context"
	"net"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/source/postgres"
)

// BenchmarkBacklog reads 300,000 rows that were inserted before, in transactions of a thousand, and next to it lets the server's own
// pg_recvlogical read the same: it reports both, and the ratio. Run it with -benchtime 1x.
func BenchmarkBacklog(b *testing.B) {
	const transactions, rows = 300, 1000
	ctx := b.Context()
	admin, err := pgx.Connect(ctx, server.Postgres("postgres"))
	require.NoError(b, err)
	defer func() { _ = admin.Close(context.Background()) }()
	_, err = admin.Exec(ctx, `CREATE DATABASE backlog`)
	require.NoError(b, err)
	data, err := pgx.Connect(ctx, server.Postgres("backlog"))
	require.NoError(b, err)
	defer func() { _ = data.Close(context.Background()) }()
	_, err = data.Exec(ctx, `CREATE TABLE a (aid int PRIMARY KEY, bid int, abalance int, filler char(84))`)
	require.NoError(b, err)
	uri, err := endpoint.Parse("postgres://"+server.User+"@"+server.Host+"/backlog", endpoint.Policy{Field: "source"})
	require.NoError(b, err)
	s, err := postgres.New(postgres.Config{
		URI: uri, Changefeed: changefeed.ID{Namespace: "default", Name: "backlog"}, Epoch: 1, UID: "backlog",
		Confirm: func(context.Context) error { return nil }, Logger: zap.NewNop(),
	})
	require.NoError(b, err)
	above, err := s.Prepare(ctx, false)
	require.NoError(b, err)
	defer func() { require.NoError(b, s.Drop(context.Background())); require.NoError(b, s.Close()) }()
	for i := range transactions {
		_, err := data.Exec(ctx, `INSERT INTO a SELECT i, i % 10, 0, '' FROM generate_series($1::int, $2::int) i`, i*rows, (i+1)*rows-1)
		require.NoError(b, err)
	}
	var end string
	require.NoError(b, data.QueryRow(ctx, `SELECT pg_current_wal_flush_lsn()::text`).Scan(&end))
	program := "pg_recvlogical"
	if found, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_recvlogical"); err == nil && len(found) > 0 {
		program = found[len(found)-1]
	}
	host, port, err := net.SplitHostPort(server.Host)
	require.NoError(b, err)
	var ours, theirs time.Duration
	for b.Loop() { // once: what was read is confirmed afterwards
		began := time.Now()
		log, err := s.Follow(ctx, above)
		require.NoError(b, err)
		n := 0
		for n < transactions*rows {
			event, err := log.Next(ctx)
			require.NoError(b, err)
			n += len(event.Changes)
		}
		ours += time.Since(began)
		require.NoError(b, log.Close())
		began = time.Now()
		cmd := exec.CommandContext(ctx, program, "-h", host, "-p", port, "-U", server.User, "-d", "backlog", "--slot", s.SlotName(), "--start", "--no-loop",
			"--endpos", end, "-f", "/dev/null", "-o", "proto_version=1", "-o", "publication_names="+s.SlotName())
		out, err := cmd.CombinedOutput()
		require.NoError(b, err, string(out))
		theirs += time.Since(began)
	}
	b.ReportMetric(transactions*rows/ours.Seconds(), "rows/s")
	b.ReportMetric(transactions*rows/theirs.Seconds(), "recvlogical-rows/s")
	b.ReportMetric(theirs.Seconds()/ours.Seconds(), "ratio")
}
