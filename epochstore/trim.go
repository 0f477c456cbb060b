package epochstore

import (
	"context"
	"fmt"

	"fencerow/changefeed"
	"fencerow/kv"
	"fencerow/record"
)

// TrimHistory deletes what lies beyond the newest HistoryMax ownerships of a changefeed.
func (l *Lead) TrimHistory(ctx context.Context, id changefeed.ID) error {
	prefix := l.store.keys.HistoryOf(id)
	result, err := l.store.kv.Range(ctx, kv.Range{Key: prefix, End: kv.PrefixEnd(prefix), KeysOnly: true})
	if err != nil {
		return fmt.Errorf("epochstore: trim the history of %s: %w", id, err)
	}
	if len(result.Pairs) <= HistoryMax {
		return nil
	}
	return l.trim(ctx, prefix, result.Pairs[len(result.Pairs)-HistoryMax].Key)
}

// TrimAllHistory is TrimHistory for every name that has a history. It returns how many had too much.
func (l *Lead) TrimAllHistory(ctx context.Context) (int, error) {
	prefix := l.store.keys.Of(record.KindHistory)
	request := kv.Range{Key: prefix, End: kv.PrefixEnd(prefix), KeysOnly: true, Limit: listPage}
	trimmed := 0
	var id changefeed.ID
	var keys []string
	finish := func() error {
		if len(keys) <= HistoryMax {
			return nil
		}
		trimmed++
		return l.trim(ctx, l.store.keys.HistoryOf(id), keys[len(keys)-HistoryMax])
	}
	for {
		result, err := l.store.kv.Range(ctx, request)
		if err != nil {
			return trimmed, fmt.Errorf("epochstore: trim histories: %w", err)
		}
		for _, pair := range result.Pairs {
			ref, err := l.store.keys.Parse(pair.Key)
			if err != nil {
				continue
			}
			if ref.ID != id {
				if err := finish(); err != nil {
					return trimmed, err
				}
				id, keys = ref.ID, nil
			}
			keys = append(keys, pair.Key)
		}
		if !result.More || len(result.Pairs) == 0 {
			return trimmed, finish()
		}
		request.Key = result.Pairs[len(result.Pairs)-1].Key + "\x00"
	}
}

// trim deletes from one key to another under the term.
func (l *Lead) trim(ctx context.Context, from, to string) error {
	own := part{
		key:   from,
		ifs:   termCompares(l.term),
		thens: []kv.Op{{Kind: kv.OpDelete, Key: from, End: to}},
		reads: []kv.Op{kv.Get(l.term.Key)},
	}
	exchange := newExchange(part{}, []part{own}, resendSame, func(_ int, _, reads []kv.Response) (verdict, int64, error) {
		if firstPair(reads[0]).CreateRevision != l.term.Revision {
			return verdictStale, 0, ErrTermOver
		}
		return verdictAgain, 0, nil
	})
	if outcome := l.store.driveOne(ctx, exchange); outcome.Err != nil {
		return fmt.Errorf("epochstore: trim a history: %w", outcome.Err)
	}
	return nil
}
