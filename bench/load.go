package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sort"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/sync/errgroup"
)

// The load of every row.
const (
	keysSpread = 10_000
	valueBytes = 200
	loaders    = 64
)

func value(i int) string { return fmt.Sprintf("%0*d", valueBytes, i) }

func key(prefix string, i int) string { return fmt.Sprintf("%skey-%05d", prefix, i%keysSpread) }

// single puts n changes under from, one change a revision, and returns the first and the last revision.
func (e *etcd) single(ctx context.Context, n int) (first, last int64, err error) {
	before, err := e.client.Get(ctx, from, clientv3.WithCountOnly())
	if err != nil {
		return 0, 0, err
	}
	group, ctx := errgroup.WithContext(ctx)
	for loader := range loaders {
		group.Go(func() error {
			for i := loader; i < n; i += loaders {
				// The stride spreads neighbours in time over the key space.
				if _, err := e.client.Put(ctx, key(from, i*7919), value(i)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return 0, 0, err
	}
	after, err := e.client.Get(context.WithoutCancel(ctx), from, clientv3.WithCountOnly())
	if err != nil {
		return 0, 0, err
	}
	return before.Header.Revision, after.Header.Revision, nil
}

// packed puts n distinct keys, 100 a transaction, and returns the last revision.
func (e *etcd) packed(ctx context.Context, prefix string, n int) (int64, error) {
	const perTransaction = 100
	var last int64
	for i := 0; i < n; i += perTransaction {
		var ops []clientv3.Op
		for j := i; j < min(n, i+perTransaction); j++ {
			ops = append(ops, clientv3.OpPut(fmt.Sprintf("%skey-%07d", prefix, j), value(j)))
		}
		response, err := e.client.Txn(ctx).Then(ops...).Commit()
		if err != nil {
			return 0, err
		}
		last = response.Header.Revision
	}
	return last, nil
}

// clear deletes a prefix.
func (e *etcd) clear(ctx context.Context, prefix string) error {
	_, err := e.client.Delete(ctx, prefix, clientv3.WithPrefix())
	return err
}

// same waits until the target's content under its prefix is the source's.
func same(ctx context.Context, source, target *etcd, from, to string) error {
	want, err := digest(ctx, source, from)
	if err != nil {
		return err
	}
	return until(ctx, "the target holds what the source holds", func(ctx context.Context) error {
		have, err := digest(ctx, target, to)
		if err == nil && have != want {
			err = fmt.Errorf("digest %.12s, want %.12s", have, want)
		}
		return err
	})
}

func digest(ctx context.Context, e *etcd, prefix string) (string, error) {
	got, err := e.client.Get(ctx, prefix, clientv3.WithPrefix())
	if err != nil {
		return "", err
	}
	lines := make([]string, 0, len(got.Kvs))
	for _, kv := range got.Kvs {
		lines = append(lines, string(kv.Key[len(prefix):])+"\x00"+string(kv.Value))
	}
	sort.Strings(lines)
	hash := sha256.New()
	for _, line := range lines {
		_, _ = fmt.Fprintln(hash, line)
	}
	return hex.EncodeToString(hash.Sum(nil)), nil
}

// awaitKey waits until the target has a key, by a watch.
func awaitKey(ctx context.Context, target *etcd, key string) error {
	ctx, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	got, err := target.client.Get(ctx, key)
	if err != nil || len(got.Kvs) > 0 {
		return err
	}
	for response := range target.client.Watch(ctx, key, clientv3.WithRev(got.Header.Revision+1)) {
		if len(response.Events) > 0 {
			return nil
		}
	}
	return fmt.Errorf("%s did not arrive: %w", key, context.Cause(ctx))
}
