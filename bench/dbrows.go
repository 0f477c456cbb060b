package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"fencerow/integration/proc"
)

var databaseTable = []row{ //nolint:gochecknoglobals // a table
	{
		name: "pg-blackhole", what: "PostgreSQL → blackhole, 1,000,000 inserted rows behind", baseline: "`pg_recvlogical`, pgoutput",
		must: "≥ 0.8 ×", bound: 0.8, atLeast: true, unit: "s", measure: pgBlackhole,
	},
	{
		name: "pg-pg", what: "PostgreSQL → PostgreSQL, the same backlog, claims on", baseline: "the server's own subscription",
		must: "≥ 1 ×", bound: 1, atLeast: true, unit: "s", measure: pgInserts,
	},
	{
		name: "pg-mix", what: "PostgreSQL → PostgreSQL, 30,000 transactions of pgbench's mix behind", baseline: "the server's own subscription",
		must: "≥ 0.7 ×", bound: 0.7, atLeast: true, unit: "s", measure: pgMix,
	},
	{
		name: "pg-snapshot", what: "PostgreSQL → PostgreSQL, snapshot of 5,000,000 rows", baseline: "`pg_dump -Fc -Z0`, piped into `pg_restore`",
		must: "≥ 1 ×", bound: 1, atLeast: true, unit: "s", measure: pgSnapshot,
	},
	{
		name: "pg-maria", what: "PostgreSQL → MariaDB, 1,000,000 inserted rows behind", baseline: "PostgreSQL → PostgreSQL, ours",
		must: "≥ 0.5 ×", bound: 0.5, atLeast: true, unit: "s", measure: pgMaria,
	},
	{
		name: "pg-claim", what: "PostgreSQL → PostgreSQL, 1,000,000 inserted rows behind: time with the check of the claim", baseline: "the same build without",
		must: "≤ 1.1 ×", bound: 1.1, unit: "s", measure: pgClaim,
	},
	{
		name: "pg-memory", what: "peak resident memory, PostgreSQL → PostgreSQL, one transaction of 5,000,000 rows", must: "≤ 512 MiB", bound: 512,
		unit: "MiB", measure: pgMemory,
	},
}

// Sizes of the database rows, of which a trial takes a part.
const (
	insertedRows    = 1_000_000
	mixTransactions = 30_000
	mixScale        = 10 // of pgbench: 100,000 accounts each
	snapshotRows    = 5_000_000
	largeRows       = 5_000_000
	// claimPairs are more than other rows have: what they are to tell apart is small.
	claimPairs = 9
)

// pgBlackhole lets the log alone be read.
func pgBlackhole(ctx context.Context, b *bench) (result, error) {
	return b.world(ctx, func(w *world) (result, error) {
		return w.compare(ctx, b.rounds, w.inserts(insertedRows, insertsTransaction), w.intoBlackhole, w.received)
	})
}

// pgInserts copies a backlog of inserts.
func pgInserts(ctx context.Context, b *bench) (result, error) {
	return b.world(ctx, func(w *world) (result, error) {
		return w.compare(ctx, b.rounds, w.inserts(insertedRows, insertsTransaction), w.intoPostgres(w.node), w.subscribed)
	})
}

// pgMix copies a backlog of updates and inserts in small transactions.
func pgMix(ctx context.Context, b *bench) (result, error) {
	return b.world(ctx, func(w *world) (result, error) {
		return w.compare(ctx, b.rounds, w.mix(mixTransactions), w.intoPostgres(w.node), w.subscribed)
	})
}

// pgMaria copies a backlog of inserts into the one kind of server and the other.
func pgMaria(ctx context.Context, b *bench) (result, error) {
	return b.world(ctx, func(w *world) (result, error) {
		if err := w.startMaria(); err != nil { //nolint:contextcheck // a server lives as long as its row
			return result{}, err
		}
		return w.compare(ctx, b.rounds, w.inserts(insertedRows, insertsTransaction), w.intoMaria, w.intoPostgres(w.node))
	})
}

// pgClaim copies a backlog of inserts with the claim compared by the server, and without.
func pgClaim(ctx context.Context, b *bench) (result, error) {
	dir := filepath.Join(b.dir, "claim")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return result{}, err
	}
	for _, fence := range proc.Fences {
		if fence.File != postgresFence {
			continue
		}
		if err := errors.Join(proc.Build(".", dir, "with"), proc.Build(".", dir, "without", fence)); err != nil {
			return result{}, err
		}
	}
	return b.world(ctx, func(w *world) (result, error) {
		with, err := b.startNodeOf(ctx, filepath.Join(dir, "with"))
		if err != nil {
			return result{}, err
		}
		defer with.stop()
		without, err := b.startNodeOf(ctx, filepath.Join(dir, "without"))
		if err != nil {
			return result{}, err
		}
		defer without.stop()
		pairs := max(1, b.rounds*claimPairs/roundsDefault)
		out, err := w.compare(ctx, pairs, w.inserts(insertedRows, insertsTransaction), w.intoPostgres(with), w.intoPostgres(without))
		out.inverse = false
		return out, err
	})
}

// postgresFence is where the server is made to refuse what a writer without a claim sends.
const postgresFence = "sink/postgres/session.go"

// pgMemory copies one large transaction.
func pgMemory(ctx context.Context, b *bench) (result, error) {
	return b.world(ctx, func(w *world) (result, error) {
		large := w.inserts(largeRows, largeRows)
		if err := large.prepare(ctx); err != nil {
			return result{}, err
		}
		c, err := w.intoPostgres(w.node)(ctx)
		if err != nil {
			return result{}, err
		}
		if err := large.write(ctx); err != nil {
			return result{}, err
		}
		if _, err := c.run(ctx, w); err != nil {
			return result{}, err
		}
		peak, err := w.node.resident()
		return result{ours: []float64{peak}}, err
	})
}

// pgSnapshot copies what is there.
func pgSnapshot(ctx context.Context, b *bench) (result, error) {
	return b.world(ctx, func(w *world) (result, error) {
		there := w.inserts(snapshotRows, snapshotRows)
		if err := errors.Join(there.prepare(ctx), there.write(ctx)); err != nil {
			return result{}, err
		}
		if err := w.source.exec(ctx, "VACUUM ANALYZE"); err != nil {
			return result{}, err
		}
		out, err := b.interleave(
			func() (float64, error) {
				b.count++
				name := fmt.Sprintf("snapshot%d", b.count)
				return w.restored(ctx, name, func(target *database) error {
					err := w.node.createWith(ctx, name, map[string]any{
						"source": w.source.uri(), "sink": target.uri(), "start": "snapshot", "options": map[string]string{"tables": "public.*"},
					})
					if err != nil {
						return err
					}
					return w.node.reached(ctx, name, w.end)
				}, func() error { return w.node.remove(ctx, name) })
			},
			func() (float64, error) {
				b.count++
				return w.restored(ctx, fmt.Sprintf("restored%d", b.count), func(target *database) error { return w.restore(ctx, target) },
					func() error { return nil })
			})
		out.inverse = true
		return out, err
	})
}

// restored times the filling of a new database at the target, and compares it with the source.
func (w *world) restored(ctx context.Context, name string, fill func(*database) error, end func() error) (float64, error) {
	target, err := w.target.create(ctx, name, "template0")
	if err != nil {
		return 0, err
	}
	defer target.close()
	if err := target.exec(ctx, "CHECKPOINT"); err != nil {
		return 0, err
	}
	began := time.Now()
	if err := fill(target); err != nil {
		return 0, err
	}
	took := time.Since(began).Seconds()
	return took, errors.Join(w.same(ctx, target), end(), w.target.drop(ctx, target))
}
