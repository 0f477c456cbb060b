package etcd

import (
	"context"
	"encoding/json"

	"fencerow/kv"
	"fencerow/sink"
)

var _ sink.Inspector = (*Sink)(nil)

// Inspect implements [sink.Inspector]. It reads only.
func (s *Sink) Inspect(ctx context.Context) (sink.Kept, error) {
	kept := sink.Kept{Live: true}
	err := s.alone(ctx, "inspect", func(store kv.Store) error {
		held, err := s.load(ctx, store)
		if err != nil {
			return err
		}
		kept.Head, kept.Map = held.head.Head, held.held
		registered, err := loadRegistration(ctx, store)
		if err != nil {
			return err
		}
		for _, pair := range registered.targets {
			var target targetRecord
			if err := json.Unmarshal(pair.Value, &target); err != nil {
				return broken(pair.Key, err)
			}
			as := target.identity()
			result, err := store.Range(ctx, kv.Range{Key: newLayout(as, "", "").head()})
			if err != nil {
				return failed("read the heads", err)
			}
			other := sink.Head{Identity: as}
			if len(result.Pairs) > 0 {
				read, err := decodeHead(result.Pairs[0])
				if err != nil {
					return err
				}
				other = read.Head
			}
			kept.Others = append(kept.Others, other)
		}
		return nil
	})
	return kept, err
}
