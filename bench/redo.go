package main

import (
	"context"
	"fmt"
	"path/filepath"
)

// redoLog copies a backlog with a redo log and without.
func redoLog(ctx context.Context, b *bench) (result, error) {
	return b.pair(ctx, func(source, target *etcd, n *node) (result, error) {
		first, _, err := source.single(ctx, backlogChanges)
		if err != nil {
			return result{}, err
		}
		if _, err := source.client.Put(ctx, from+lastKey, "end"); err != nil {
			return result{}, err
		}
		side := func(options func(name string) map[string]string) func() (float64, error) {
			return func() (float64, error) {
				return copyOnce(ctx, source, target, func() (func() error, error) {
					b.count++
					name := fmt.Sprintf("copy%d", b.count)
					err := n.createWith(ctx, name, map[string]any{
						"source": "etcd://" + source.endpoint + from, "sink": "etcd://" + target.endpoint + to, "start": fmt.Sprint(first),
						"options": options(name),
					})
					return func() error { return n.remove(ctx, name) }, err
				})
			}
		}
		out, err := b.interleave(
			side(func(name string) map[string]string {
				return map[string]string{"redo": "file://" + filepath.Join(b.dir, "redo-"+name)}
			}),
			side(func(string) map[string]string { return nil }))
		out.inverse = true
		return out, err
	})
}
