package main

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// copied is a copy that waits for a backlog, and is run once.
type copied struct {
	name    string
	target  *database // nil: there is none
	begin   func(context.Context) error
	arrived func(context.Context) error // waits until everything is there
	end     func(context.Context) error
}

// maker makes a copy that waits.
type maker func(context.Context) (*copied, error)

// run times a copy, and compares what it made.
func (c *copied) run(ctx context.Context, w *world) (float64, error) {
	if c.target != nil && c.target.server == w.target {
		if err := c.target.exec(ctx, "CHECKPOINT"); err != nil {
			return 0, err
		}
	}
	began := time.Now()
	if err := c.begin(ctx); err != nil {
		return 0, err
	}
	if err := c.arrived(ctx); err != nil {
		return 0, err
	}
	took := time.Since(began).Seconds()
	if c.target == nil {
		return took, c.end(ctx)
	}
	return took, errors.Join(w.same(ctx, c.target), c.end(ctx), c.target.server.drop(ctx, c.target))
}

// compare makes all copies of both sides, writes the backlog, and runs them in turn. Each copy has a slot of its own, made
// before the backlog, which keeps it for that copy.
func (w *world) compare(ctx context.Context, rounds int, of work, ours, theirs maker) (result, error) {
	if err := of.prepare(ctx); err != nil {
		return result{}, err
	}
	waiting := func(side maker) (func() (float64, error), error) {
		var made []*copied
		for range rounds {
			c, err := side(ctx)
			if err != nil {
				return nil, err
			}
			made = append(made, c)
		}
		return func() (float64, error) {
			c := made[0]
			made = made[1:]
			return c.run(ctx, w)
		}, nil
	}
	runOurs, err := waiting(ours)
	if err != nil {
		return result{}, err
	}
	runTheirs, err := waiting(theirs)
	if err != nil {
		return result{}, err
	}
	if err := of.write(ctx); err != nil {
		return result{}, err
	}
	out, err := w.b.interleaved(rounds, runOurs, runTheirs)
	out.inverse = true
	return out, err
}

// feed makes a changefeed of ours that is paused.
func (w *world) feed(ctx context.Context, n *node, sink string) (*copied, error) {
	w.b.count++
	c := &copied{name: fmt.Sprintf("copy%d", w.b.count)}
	err := n.createWith(ctx, c.name, map[string]any{
		"source": w.source.uri(), "sink": sink, "start": "now", "options": map[string]string{"tables": "public.*"},
	})
	if err != nil {
		return nil, err
	}
	if err := n.running(ctx, c.name); err != nil {
		return nil, err
	}
	if err := n.order(ctx, c.name, "pause"); err != nil {
		return nil, err
	}
	c.begin = func(ctx context.Context) error { return n.order(ctx, c.name, "resume") }
	c.end = func(ctx context.Context) error { return n.remove(ctx, c.name) }
	return c, n.is(ctx, c.name, "paused")
}

// feedInto is feed into a new database.
func (w *world) feedInto(ctx context.Context, n *node, target *database) (*copied, error) {
	c, err := w.feed(ctx, n, target.uri())
	if err != nil {
		return nil, err
	}
	c.target, c.arrived = target, func(ctx context.Context) error { return target.finished(ctx) }
	return c, nil
}

// intoBlackhole makes changefeeds that keep nothing.
func (w *world) intoBlackhole(ctx context.Context) (*copied, error) {
	c, err := w.feed(ctx, w.node, "blackhole:")
	if err != nil {
		return nil, err
	}
	c.arrived = func(ctx context.Context) error { return w.node.reached(ctx, c.name, w.end) }
	return c, nil
}

// intoPostgres makes changefeeds of a node into databases of the PostgreSQL.
func (w *world) intoPostgres(n *node) maker {
	return func(ctx context.Context) (*copied, error) {
		w.b.count++
		target, err := w.target.create(ctx, fmt.Sprintf("ours%d", w.b.count), pristine)
		if err != nil {
			return nil, err
		}
		return w.feedInto(ctx, n, target)
	}
}

// intoMaria makes changefeeds into databases of the MariaDB, which make their tables.
func (w *world) intoMaria(ctx context.Context) (*copied, error) {
	w.b.count++
	target, err := w.maria.create(ctx, fmt.Sprintf("ours%d", w.b.count), "")
	if err != nil {
		return nil, err
	}
	return w.feedInto(ctx, w.node, target)
}

// finished waits until a target shows the last row of the backlog. The table may have to be made first.
func (d *database) finished(ctx context.Context) error {
	return until(ctx, d.name+" has the last row", func(ctx context.Context) error {
		n, err := d.one(ctx, "SELECT count(*) FROM finish")
		if err == nil && n == "0" {
			err = errors.New("it has not")
		}
		return err
	})
}

// published has the server publish everything for its own subscriptions and clients, and makes a slot.
func (w *world) published(ctx context.Context, slot string) error {
	var there int
	if err := w.source.QueryRowContext(ctx, "SELECT count(*) FROM pg_publication WHERE pubname = 'bench'").Scan(&there); err != nil {
		return err
	}
	if there == 0 {
		if err := w.source.exec(ctx, "CREATE PUBLICATION bench FOR ALL TABLES"); err != nil {
			return err
		}
	}
	return w.source.exec(ctx, "SELECT pg_create_logical_replication_slot('"+slot+"', 'pgoutput')")
}

// dropSlot drops a slot once nobody follows it any more.
func (w *world) dropSlot(ctx context.Context, name string) error {
	return until(ctx, "nobody follows "+name, func(ctx context.Context) error {
		return w.source.exec(ctx, "SELECT pg_drop_replication_slot('"+name+"')")
	})
}

// received makes copies into nothing by the server's own client.
func (w *world) received(ctx context.Context) (*copied, error) {
	w.b.count++
	c := &copied{name: fmt.Sprintf("received%d", w.b.count)}
	var client *process
	c.begin = func(ctx context.Context) error {
		var end string
		err := w.source.QueryRowContext(ctx, "SELECT ('0/0'::pg_lsn + $1::numeric)::text", w.end).Scan(&end)
		if err != nil {
			return err
		}
		args, err := w.source.arguments()
		if err != nil {
			return err
		}
		client, err = w.b.start(program("pg_recvlogical"), append(args, "--slot", c.name, "--start", "--no-loop", "--endpos", end,
			"-f", "/dev/null", "-o", "proto_version=1", "-o", "publication_names=bench")...)
		return err
	}
	c.arrived = func(ctx context.Context) error {
		select {
		case <-client.Exited:
			if err := client.Err(); err != nil {
				return fmt.Errorf("pg_recvlogical: %w\n%s", err, client.Output.Last(5))
			}
			return nil
		case <-ctx.Done():
			client.stop()
			return ctx.Err()
		}
	}
	c.end = func(ctx context.Context) error { return w.dropSlot(ctx, c.name) }
	return c, w.published(ctx, c.name)
}

// subscribed makes copies by the server's own subscription.
func (w *world) subscribed(ctx context.Context) (*copied, error) {
	w.b.count++
	c := &copied{name: fmt.Sprintf("theirs%d", w.b.count)}
	if err := w.published(ctx, c.name); err != nil {
		return nil, err
	}
	var err error
	if c.target, err = w.target.create(ctx, c.name, pristine); err != nil {
		return nil, err
	}
	c.begin = func(ctx context.Context) error { return c.target.exec(ctx, "ALTER SUBSCRIPTION "+c.name+" ENABLE") }
	c.arrived = c.target.finished
	c.end = func(ctx context.Context) error {
		return errors.Join(c.target.exec(ctx, "ALTER SUBSCRIPTION "+c.name+" DISABLE", "ALTER SUBSCRIPTION "+c.name+" SET (slot_name = NONE)",
			"DROP SUBSCRIPTION "+c.name), w.dropSlot(ctx, c.name))
	}
	return c, c.target.exec(ctx, "CREATE SUBSCRIPTION "+c.name+" CONNECTION '"+w.source.server.Postgres(w.source.name)+"' PUBLICATION bench WITH "+
		"(create_slot = false, slot_name = '"+c.name+"', enabled = false, copy_data = false, synchronous_commit = 'on')")
}
