package main

import (
	"context"
	"errors"
	"fmt"
)

// work is what copies wait for: how its tables are made at the source and in the target's [pristine] database, and how it is
// written.
type work struct{ prepare, write func(context.Context) error }

// pristine is the database of the target that those of copies are made from.
const pristine = "pristine"

// contents are of a table that is copied: its name, and the query that returns what it holds in one line, for both kinds of servers.
type contents struct{ table, digest string }

// The table of inserts, and the one with which a copy shows that it has come to its end.
const (
	ordersTable = "CREATE TABLE orders (id bigint PRIMARY KEY, customer int, amount numeric(10,2), note varchar(200), made timestamp)"
	finishTable = "CREATE TABLE finish (id int PRIMARY KEY)"

	ordersDigest = "SELECT concat(count(*), ' ', sum(id), ' ', sum(customer), ' ', sum(amount), ' ', sum(length(note)), ' ', count(DISTINCT made)) FROM orders"
)

// insertsTransaction is how many rows a transaction of the backlog of inserts has.
const insertsTransaction = 1000

// inserts is a backlog of rows with a primary key, so many a transaction.
func (w *world) inserts(rows, perTransaction int) work {
	rows /= w.b.part
	return work{
		prepare: func(ctx context.Context) error {
			w.tables = []contents{{table: "orders", digest: ordersDigest}}
			return w.both(ctx, func(d *database) error { return d.exec(ctx, ordersTable, finishTable) })
		},
		write: func(ctx context.Context) error {
			conn, err := w.source.Conn(ctx)
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close() }()                                              //nolint:errcheck // what was written is committed
			if _, err := conn.ExecContext(ctx, "SET synchronous_commit = off"); err != nil { // nobody waits for a load
				return err
			}
			for from := 1; from <= rows; from += perTransaction {
				_, err := conn.ExecContext(ctx, `INSERT INTO orders SELECT i, i % 5003, (i % 100000) / 100.0, 'the note of order ' || i || repeat('.', 60),
					timestamp '2026-01-01' + i * interval '1 second' FROM generate_series($1::bigint, $2::bigint) i`, from, min(rows, from+perTransaction-1))
				if err != nil {
					return fmt.Errorf("insert: %w", err)
				}
			}
			return w.finish(ctx)
		},
	}
}

// mixClients are how many write pgbench's mix at a time.
const mixClients = 4

// mix is a backlog of pgbench's transactions.
func (w *world) mix(transactions int) work {
	scale := fmt.Sprint(mixScale)
	return work{
		prepare: func(ctx context.Context) error {
			w.tables = []contents{
				{table: "pgbench_accounts", digest: "SELECT concat(count(*), ' ', sum(abalance), ' ', sum(aid * abalance::numeric)) FROM pgbench_accounts"},
				{table: "pgbench_tellers", digest: "SELECT concat(count(*), ' ', sum(tbalance), ' ', sum(tid * tbalance::numeric)) FROM pgbench_tellers"},
				{table: "pgbench_branches", digest: "SELECT concat(count(*), ' ', sum(bbalance), ' ', sum(bid * bbalance::numeric)) FROM pgbench_branches"},
				{table: "pgbench_history", digest: "SELECT concat(count(*), ' ', sum(delta), ' ', sum(aid * delta::numeric)) FROM pgbench_history"},
			}
			return w.both(ctx, func(d *database) error {
				if err := d.tool(ctx, "pgbench", "-i", "-q", "-s", scale); err != nil {
					return err
				}
				return d.exec(ctx, finishTable, "VACUUM ANALYZE")
			})
		},
		write: func(ctx context.Context) error {
			each := fmt.Sprint(transactions / mixClients / w.b.part)
			if err := w.source.tool(ctx, "pgbench", "-n", "-c", fmt.Sprint(mixClients), "-t", each); err != nil {
				return err
			}
			return w.finish(ctx)
		},
	}
}

// both does something at the source and in the pristine database of the target.
func (w *world) both(ctx context.Context, do func(*database) error) error {
	if err := do(w.source); err != nil {
		return err
	}
	target, err := w.target.create(ctx, pristine, "template0")
	if err != nil {
		return err
	}
	defer target.close() // a database with a connection is no template
	return do(target)
}

// finish writes the last row of a backlog, and notes where in the log it begins: who is beyond has it, since its commit comes later.
func (w *world) finish(ctx context.Context) error {
	err := w.source.QueryRowContext(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint").Scan(&w.end)
	return errors.Join(err, w.source.exec(ctx, "INSERT INTO finish VALUES (1)"))
}

// same compares what a target holds with what the source does.
func (w *world) same(ctx context.Context, target *database) error {
	for _, one := range w.tables {
		want, err := w.source.one(ctx, one.digest)
		if err != nil {
			return err
		}
		have, err := target.one(ctx, one.digest)
		if err != nil {
			return err
		}
		if have != want {
			return fmt.Errorf("%s of %s holds %q, and %q at the source", one.table, target.name, have, want)
		}
	}
	return nil
}
