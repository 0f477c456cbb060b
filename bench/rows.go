package main

import (
	"context"
	"fmt"
	"slices"
	"time"
)

const (
	from = "/source/"
	to   = "/target/"
)

// rows is the table. Its bounds are what each figure must be.
func rows() []row {
	etcdRows, databaseRows := slices.Clone(etcdTable), slices.Clone(databaseTable)
	for i := range etcdRows {
		etcdRows[i].group = groupEtcd
	}
	for i := range databaseRows {
		databaseRows[i].group = groupDatabase
	}
	return slices.Concat(etcdRows, databaseRows)
}

var etcdTable = []row{ //nolint:gochecknoglobals // a table
	{
		name: "backlog", what: "etcd → etcd, single-key puts, 200 B, backlog of 50,000", baseline: "`etcdctl make-mirror`",
		must: "≥ 10 ×", bound: 10, atLeast: true, unit: "s", measure: backlog,
	},
	{
		name: "initial", what: "etcd → etcd, initial 50,000 keys", baseline: "`etcdctl make-mirror`",
		must: "≥ 20 ×", bound: 20, atLeast: true, unit: "s", measure: initial,
	},
	{
		name: "catchup", what: "etcd → blackhole, 200,000 changes behind, one a revision", baseline: "one raw watch catching up",
		must: "≥ 15 ×", bound: 15, atLeast: true, unit: "s", measure: catchup,
	},
	{
		name: "cpu", what: "etcd → blackhole, live: processor time per 100,000 changes", baseline: "a raw watch process",
		must: "≤ 3 ×", bound: 3, unit: "s", measure: liveCPU,
	},
	{
		name: "latency", what: "put at the source → seen by a watch on the target, p50 at 500 puts/s", baseline: "a bare relay (watch, put)",
		must: "≤ 1.5 ×", bound: 1.5, unit: "ms", measure: latency,
	},
	{
		name: "bump", what: "bump and assign one changefeed, to the commit's answer", baseline: "the raw transaction with the same compares and puts",
		must: "≤ 1.3 ×", bound: 1.3, unit: "ms", measure: bumpOne,
	},
	{
		name: "bumps", what: "bump 10,000 changefeeds, at most 8 transactions in flight", baseline: "10,000 of those one after another",
		must: "≥ 8 × faster", bound: 8, atLeast: true, unit: "s", measure: bumpMany,
	},
	{name: "gate", what: "admission by the gate", must: "≤ 50 ns, no allocation", bound: 50, unit: "ns", measure: gate},
	{name: "alive", what: "`session.Alive`", must: "≤ 500 ns, no allocation", bound: 500, unit: "ns", measure: alive},
	{
		name: "redo", what: "etcd → etcd with a redo log, single-key puts, 200 B, backlog of 50,000", baseline: "the same without",
		must: "≥ 0.5 ×", bound: 0.5, atLeast: true, unit: "s", measure: redoLog,
	},
	{
		name: "memory", what: "peak resident memory while 1,000,000 changes behind, slow sink", must: "≤ 256 MiB", bound: 256,
		unit: "MiB", measure: memory,
	},
}

const (
	backlogChanges = 50_000
	initialKeys    = 50_000
	catchupChanges = 200_000
)

// pair starts a source, a target and a node, and stops them after use.
func (b *bench) pair(ctx context.Context, use func(source, target *etcd, n *node) (result, error)) (result, error) {
	source, err := b.startEtcd(ctx)
	if err != nil {
		return result{}, err
	}
	defer source.stop()
	target, err := b.startEtcd(ctx)
	if err != nil {
		return result{}, err
	}
	defer target.stop()
	n, err := b.startNode(ctx)
	if err != nil {
		return result{}, err
	}
	defer n.stop()
	return use(source, target, n)
}

// copyOnce times a copy from the moment it is asked for until the target has the last key and is the same as the source.
func copyOnce(ctx context.Context, source, target *etcd, begin func() (end func() error, err error)) (float64, error) {
	began := time.Now()
	end, err := begin()
	if err != nil {
		return 0, err
	}
	if err := awaitKey(ctx, target, to+lastKey); err != nil {
		return 0, err
	}
	took := time.Since(began).Seconds()
	if err := same(ctx, source, target, from, to); err != nil {
		return 0, err
	}
	if err := end(); err != nil {
		return 0, err
	}
	return took, target.clear(ctx, to)
}

// mirror begins a make-mirror process; revision 0 copies what is there first.
func (b *bench) mirror(source, target *etcd, revision int64) (func() error, error) {
	args := []string{"etcdctl", "make-mirror", "--endpoints", source.endpoint, "--prefix", from, "--dest-prefix", to}
	if revision > 0 {
		args = append(args, "--rev", fmt.Sprint(revision))
	}
	p, err := b.start(b.binary, append(args, target.endpoint)...)
	if err != nil {
		return nil, err
	}
	return func() error { p.stop(); return nil }, nil
}

// feed begins a changefeed that ends by its removal.
func (b *bench) feed(ctx context.Context, n *node, source, target *etcd, start string) (func() error, error) {
	b.count++
	name := fmt.Sprintf("copy%d", b.count)
	err := n.create(ctx, name, "etcd://"+source.endpoint+from, "etcd://"+target.endpoint+to, start)
	return func() error { return n.remove(ctx, name) }, err
}

const lastKey = "zz-last"

func backlog(ctx context.Context, b *bench) (result, error) {
	return b.pair(ctx, func(source, target *etcd, n *node) (result, error) {
		first, _, err := source.single(ctx, backlogChanges)
		if err != nil {
			return result{}, err
		}
		if _, err := source.client.Put(ctx, from+lastKey, "end"); err != nil {
			return result{}, err
		}
		out, err := b.interleave(
			func() (float64, error) {
				return copyOnce(ctx, source, target, func() (func() error, error) {
					return b.feed(ctx, n, source, target, fmt.Sprint(first))
				})
			},
			func() (float64, error) {
				// Its revision is the first that it copies, and 1 is all that is there.
				return copyOnce(ctx, source, target, func() (func() error, error) { return b.mirror(source, target, first+1) })
			})
		out.inverse = true
		return out, err
	})
}

func initial(ctx context.Context, b *bench) (result, error) {
	return b.pair(ctx, func(source, target *etcd, n *node) (result, error) {
		if _, err := source.packed(ctx, from, initialKeys); err != nil {
			return result{}, err
		}
		if _, err := source.client.Put(ctx, from+lastKey, "end"); err != nil {
			return result{}, err
		}
		out, err := b.interleave(
			func() (float64, error) {
				return copyOnce(ctx, source, target, func() (func() error, error) {
					return b.feed(ctx, n, source, target, "snapshot")
				})
			},
			func() (float64, error) {
				return copyOnce(ctx, source, target, func() (func() error, error) { return b.mirror(source, target, 0) })
			})
		out.inverse = true
		return out, err
	})
}

func catchup(ctx context.Context, b *bench) (result, error) {
	source, err := b.startEtcd(ctx)
	if err != nil {
		return result{}, err
	}
	defer source.stop()
	n, err := b.startNode(ctx)
	if err != nil {
		return result{}, err
	}
	defer n.stop()
	first, last, err := source.single(ctx, catchupChanges)
	if err != nil {
		return result{}, err
	}
	out, err := b.interleave(
		func() (float64, error) {
			b.count++
			name := fmt.Sprintf("catchup%d", b.count)
			began := time.Now()
			if err := n.create(ctx, name, "etcd://"+source.endpoint+from, "blackhole:", fmt.Sprint(first)); err != nil {
				return 0, err
			}
			if err := n.reached(ctx, name, last); err != nil {
				return 0, err
			}
			return time.Since(began).Seconds(), n.remove(ctx, name)
		},
		func() (float64, error) {
			began := time.Now()
			p, err := b.child("watch", source.endpoint, from, fmt.Sprint(first+1), fmt.Sprint(last))
			if err != nil {
				return 0, err
			}
			defer p.stop()
			select {
			case <-p.Exited:
				return time.Since(began).Seconds(), nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		})
	out.inverse = true
	return out, err
}
