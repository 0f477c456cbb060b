//go:build databases

package postgres_test

import (
	"errors"
	"io"
	"os/exec"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/internal/dbtest"
	"fencerow/source"
)

const benchRows = 1_000_000

// BenchmarkSnapshot compares reading a table with what the server's own client needs to read it: go test -tags databases -run - -bench
// Snapshot -benchtime 5x ./source/postgres.
func BenchmarkSnapshot(b *testing.B) {
	server, err := dbtest.StartPostgres("wal_level=logical", "shared_buffers=512MB", "max_wal_size=4GB")
	require.NoError(b, err)
	defer server.Close()
	for name, table := range map[string]string{
		"int":  "id bigint PRIMARY KEY",
		"text": "id text PRIMARY KEY",
	} {
		b.Run(name, func(b *testing.B) {
			w := newWorldOn(b, server)
			w.exec("CREATE TABLE t (" + table + ", bid int, balance int, note text, at timestamptz)")
			w.exec("INSERT INTO t SELECT i, i % 100, -i, 'some text of row ' || i, now() FROM generate_series(1, $1::int) i", benchRows)
			w.exec("VACUUM ANALYZE t")
			w.prepare()
			b.Run("psql", func(b *testing.B) {
				for b.Loop() {
					out, err := exec.CommandContext(b.Context(), "psql", server.Postgres(w.database), "-c", "COPY t TO STDOUT", "-o", "/dev/null").CombinedOutput()
					require.NoError(b, err, "%s", out)
				}
				b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
			})
			b.Run("snapshot", func(b *testing.B) {
				from := w.open(way{})
				for b.Loop() {
					reader, err := from.Read(b.Context(), source.Request{Pieces: []source.Piece{{Span: changefeed.Whole()}}})
					require.NoError(b, err)
					rows := 0
					for {
						event, err := reader.Next(b.Context())
						if errors.Is(err, io.EOF) {
							break
						}
						require.NoError(b, err)
						rows += len(event.Changes)
					}
					require.Equal(b, benchRows, rows)
					require.NoError(b, reader.Close())
				}
				b.ReportMetric(float64(benchRows*b.N)/b.Elapsed().Seconds(), "rows/s")
			})
		})
	}
}
