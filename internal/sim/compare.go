package sim

import (
	"maps"
	"slices"

	"fencerow/changefeed"
	"fencerow/kv"
)

// compare holds the target of every changefeed that runs and has caught up against the source: after all the faults it is
// a copy.
func (w *World) compare() {
	for n := range w.plan.Feeds {
		name := w.checker.name(w.feedID(n))
		if name.spec == nil || name.spec.Desired != changefeed.DesiredRunning || !w.checker.feeds[name.spec.UID].claims {
			continue
		}
		wanted := w.checker.Wanted(name.spec.UID)
		for _, key := range slices.Sorted(maps.Keys(wanted)) {
			value, found := w.holds(w.feedID(n), key)
			if !found {
				value = w.copied(w.feedID(n), key)
			}
			want := ""
			if wanted[key] != 0 {
				want = wanted[key].String()
			}
			if value != want {
				w.fail(violated(5, "the target of %v holds key %q as %q, the source as %q", w.feedID(n), key, value, want))
			}
		}
	}
}

// copied returns what the etcd that is a target has of a changefeed under a key of the source.
func (w *World) copied(id changefeed.ID, key string) string {
	stored, err := w.target.machine.Range(kv.Range{Key: targetPrefix(id) + key[len(sourcePrefix):]})
	w.fail(err)
	if len(stored.Pairs) == 0 {
		return ""
	}
	return string(stored.Pairs[0].Value)
}
