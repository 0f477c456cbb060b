package verify

import (
	"context"
	"time"
)

// reach waits until the target has come to the last look at the source. A row that changes all the time is another one at each look, so
// those that a source without a history has are looked at meanwhile: the target will have one of these.
func (r *run) reach(ctx context.Context) (bool, error) {
	poll := time.NewTicker(r.Poll)
	defer poll.Stop()
	end := time.NewTimer(r.ReachMax)
	defer end.Stop()
	var sample <-chan time.Time
	if _, remembers := r.Source.(Historian); !remembers && r.count() <= sampledMax {
		ticker := time.NewTicker(samplePause)
		defer ticker.Stop()
		sample = ticker.C
	}
	for ask := true; ; {
		if ask {
			at, err := r.Reached(ctx)
			if err != nil || at >= r.at {
				return err == nil, err
			}
		}
		select {
		case <-ctx.Done():
			return false, context.Cause(ctx)
		case <-end.C:
			return false, nil
		case <-poll.C:
			ask = true
		case <-sample:
			ask = false
			if err := r.sample(ctx); err != nil {
				return false, err
			}
		}
	}
}

// sample looks at everything that is pending at the source.
func (r *run) sample(ctx context.Context) error {
	found, err := r.looks(ctx, r.Source, r.pending)
	if err != nil {
		return err
	}
	for table, rows := range r.pending {
		for key, one := range rows {
			now, last := found[table][key], one.source
			if n := len(one.since); n > 0 {
				last = one.since[n-1]
			}
			if now.same(last) {
				continue
			}
			now.row.Columns = nil
			one.since = append(one.since, now)
			one.since = one.since[max(len(one.since)-samplesMax, 0):]
			rows[key] = one
		}
	}
	return nil
}
