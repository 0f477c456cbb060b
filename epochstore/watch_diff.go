package epochstore

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"fencerow/kv"
	"fencerow/record"
)

// listed turns a listing into all records, or into the difference to what is known.
func (w *Watch) listed(pairs []kv.Pair, revision int64) (Update, error) {
	update := Update{Snapshot: w.revision == 0, Revision: revision}
	if revision < w.revision {
		return Update{}, fmt.Errorf("list: revision %d is below %d", revision, w.revision)
	}
	now := make(map[string]revisions, len(pairs))
	for _, pair := range pairs {
		now[pair.Key] = revisions{create: pair.CreateRevision, mod: pair.ModRevision}
	}
	update.Changes = append(w.vanished(now, revision), w.appeared(pairs)...)
	w.known = now
	return update, nil
}

// vanished returns the deletions that a listing shows: of what is gone, and of what was created anew.
func (w *Watch) vanished(now map[string]revisions, revision int64) []Change {
	var out []Change
	for key, was := range w.known {
		is, found := now[key]
		if found && is.create == was.create {
			continue
		}
		at := revision
		if found {
			at = is.create // deleted at some time before
		}
		out = append(out, w.deletion(key, at))
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.Key, b.Key) })
	return out
}

// appeared returns the puts that a listing shows, in the order in which they happened.
func (w *Watch) appeared(pairs []kv.Pair) []Change {
	var out []Change
	for _, pair := range pairs {
		if w.known[pair.Key].mod != pair.ModRevision {
			out = append(out, w.put(pair))
		}
	}
	slices.SortStableFunc(out, func(a, b Change) int { return cmp.Compare(a.ModRevision, b.ModRevision) })
	return out
}

// update turns events into changes of the kinds that are watched.
func (w *Watch) update(events []kv.Event) Update {
	update := Update{Revision: w.revision}
	for _, event := range events {
		update.Revision = max(update.Revision, event.Pair.ModRevision)
		if event.Pair.ModRevision <= w.revision || !w.wants(event.Pair.Key) {
			continue
		}
		if event.Deleted {
			delete(w.known, event.Pair.Key)
			update.Changes = append(update.Changes, w.deletion(event.Pair.Key, event.Pair.ModRevision))
			continue
		}
		w.known[event.Pair.Key] = revisions{create: event.Pair.CreateRevision, mod: event.Pair.ModRevision}
		update.Changes = append(update.Changes, w.put(event.Pair))
	}
	return update
}

// wants reports whether the key is of a kind that is watched, also if the rest of it does not parse.
func (w *Watch) wants(key string) bool {
	for _, kind := range w.config.Kinds {
		if prefix := w.keys.Of(kind); key == prefix || kind != record.KindMeta && strings.HasPrefix(key, prefix) {
			return true
		}
	}
	return false
}

func (w *Watch) deletion(key string, revision int64) Change {
	ref, err := w.keys.Parse(key)
	return Change{Ref: ref, Key: key, Deleted: true, Err: err, ModRevision: revision}
}

// put decodes a record. One that does not parse is delivered as such, so that it stops no other.
func (w *Watch) put(pair kv.Pair) Change {
	ref, decoded, err := w.keys.Decode(pair.Key, pair.Value)
	return Change{
		Ref: ref, Key: pair.Key, Record: decoded, Err: err,
		CreateRevision: pair.CreateRevision, ModRevision: pair.ModRevision,
	}
}
