package verify

import (
	"context"
	"fmt"
)

// Tables whose rows the sides have in different orders: of a range of keys at the source the target is asked by the keys, so no row
// can be in another range there; and then the source is asked for the keys that the target has, since that may have more.

// apart compares the rows of a chunk of the source with those that have their keys.
func (r *run) apart(ctx context.Context, chunk Chunk) error {
	ours, err := r.Source.List(ctx, chunk, listMax)
	if err != nil {
		return err
	}
	at, err := r.Source.Head(ctx)
	if err != nil {
		return err
	}
	keys := make([]string, len(ours))
	for i := range ours {
		keys[i] = ours[i].Key
	}
	theirs, err := r.look(ctx, r.Target, chunk.Table, keys)
	if err != nil {
		return err
	}
	for key, source := range byKey(ours) {
		if !source.same(theirs[key]) {
			r.keep(chunk.Table, suspect{key: key, source: source})
		}
	}
	r.at = max(r.at, at)
	r.cut = r.cut || len(ours) >= listMax
	if chunk.To == "" {
		return r.strays(ctx, chunk.Table)
	}
	return nil
}

// strays keeps the rows of a table that the target has and the source has not.
func (r *run) strays(ctx context.Context, table string) error {
	keyed, ok := r.Target.(Keyed)
	if !ok {
		return fmt.Errorf("verify: the target can't tell the keys of %s", table)
	}
	for after := ""; !r.report.Limited; {
		if err := r.crowded(ctx); err != nil {
			return err
		}
		if err := r.Pace(ctx, ChunkRows); err != nil {
			return err
		}
		keys, err := keyed.Keys(ctx, table, after, ChunkRows)
		if err != nil {
			return err
		}
		ours, err := r.look(ctx, r.Source, table, keys)
		if err != nil {
			return err
		}
		at, err := r.Source.Head(ctx)
		if err != nil {
			return err
		}
		r.at = max(r.at, at)
		for _, key := range keys {
			if !ours[key].there {
				r.keep(table, suspect{key: key})
			}
		}
		r.tell(nil)
		if len(keys) < ChunkRows {
			return nil
		}
		after = keys[len(keys)-1]
	}
	return nil
}
