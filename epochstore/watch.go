package epochstore

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/internal/wait"
	"fencerow/kv"
	"fencerow/record"
)

// Figures of a watch.
const (
	progressEvery  = time.Second            // how often a watch is asked how far it is
	silenceMax     = 4 * time.Second        // without a sign of life a watch is started anew
	progressMax    = 250 * time.Millisecond // how long asking may take
	unansweredMax  = 2 * time.Second        // after that the store is read to learn how far the watch is
	watchRetryMin  = 50 * time.Millisecond
	watchRetryMax  = 2 * time.Second
	watchRetryGrow = 2
)

// AgeUnknown is the age of a watch that has not listed yet.
const AgeUnknown = time.Duration(math.MaxInt64)

// WatchConfig says what is watched.
type WatchConfig struct {
	Kinds  []record.Kind
	Clock  func() changefeed.Time // [BootTime], except in tests
	Logger *zap.Logger
}

// Change is one record that was put or deleted.
type Change struct {
	Ref     record.Ref // its Kind is 0 if the key does not parse
	Key     string
	Deleted bool
	// Record is a pointer to the type of the kind; nil if it was deleted or does not parse.
	Record record.Record
	// Err says what is wrong with a record that does not parse.
	Err            error
	CreateRevision int64
	ModRevision    int64 // of the put, or of the deletion
}

// Update is what became known at once. A revision of the store is never split over two updates.
type Update struct {
	// Snapshot says that Changes are all records there are. The first update is one; later there are only differences.
	Snapshot bool
	Changes  []Change
	// Revision is the store's revision up to which everything was delivered with this update. An update without
	// changes only brings this.
	Revision int64
}

// Watch delivers the records of some kinds: all of them first, then every change, whatever happens to the stream: it
// goes on from the next revision, and if that was compacted away it lists again and delivers the difference, deletions
// and re-creations included. It has a stream of its own, asks for progress, and starts a stream anew that is silent.
type Watch struct {
	store   kv.Store
	keys    record.Keys
	config  WatchConfig
	kinds   map[record.Kind]bool
	updates chan Update

	// owned by Run
	known    map[string]revisions
	revision int64

	proven    atomic.Int64 // changefeed.Time at or after which the delivered state was current; 0: never
	delivered atomic.Int64
}

type revisions struct{ create, mod int64 }

// Watch makes a watch; the caller runs it and reads its updates.
func (s *Store) Watch(config WatchConfig) *Watch {
	w := &Watch{
		store: s.kv, keys: s.keys, config: config, kinds: map[record.Kind]bool{}, updates: make(chan Update),
		known: map[string]revisions{},
	}
	for _, kind := range config.Kinds {
		w.kinds[kind] = true
	}
	return w
}

// Updates delivers what became known. It is never closed.
func (w *Watch) Updates() <-chan Update { return w.updates }

// Revision returns the revision up to which everything was taken from Updates; 0 before the first.
func (w *Watch) Revision() int64 { return w.delivered.Load() }

// Age returns how old the state that was taken from Updates may be: the time since the sending of the last request
// whose answer says that nothing was missing. Treat what is old as unknown.
func (w *Watch) Age() time.Duration {
	proven := w.proven.Load()
	if proven == 0 {
		return AgeUnknown
	}
	return w.config.Clock().Sub(changefeed.Time(proven))
}

// errCompacted says that the watch must list again.
var errCompacted = errors.New("history was compacted")

// Run lists and watches until ctx ends, and returns ctx's cause.
func (w *Watch) Run(ctx context.Context) error {
	pause := watchRetryMin
	listed := false
	for {
		err := w.round(ctx, &listed, func() { pause = watchRetryMin })
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		w.config.Logger.Debug("watch starts anew", zap.Int64("revision", w.revision), zap.Error(err))
		if errors.Is(err, errCompacted) {
			listed = false
		}
		if !wait.For(ctx, pause) {
			return context.Cause(ctx)
		}
		pause = min(pause*watchRetryGrow, watchRetryMax)
	}
}

// round lists, if that is due, and follows one stream to its end. alive is called when there was an answer.
func (w *Watch) round(ctx context.Context, listed *bool, alive func()) error {
	asked := w.config.Clock()
	if !*listed {
		if err := w.list(ctx, asked); err != nil {
			return err
		}
		*listed = true
	} else if _, err := w.look(ctx); err != nil {
		return err
	}
	alive()
	return w.follow(ctx)
}

// look is a linearizable read of nothing much: it fails if etcd can't be reached, and a Guard sees its revision.
func (w *Watch) look(ctx context.Context) (proof, error) {
	ctx, cancel := context.WithTimeout(ctx, silenceMax)
	defer cancel()
	asked := w.config.Clock()
	result, err := w.store.Range(ctx, kv.Range{Key: w.keys.Meta(), KeysOnly: true})
	return proof{revision: result.Revision, asked: asked}, err
}

// proof says that whoever knows everything up to a revision knows everything up to a moment. The zero value proves nothing.
type proof struct {
	revision int64
	asked    changefeed.Time
}

// list reads all records at one revision, and delivers them, or the difference to what is known.
func (w *Watch) list(ctx context.Context, asked changefeed.Time) error {
	store := Store{kv: w.store, keys: w.keys}
	var pairs []kv.Pair
	var revision int64
	for _, kind := range w.config.Kinds {
		bounded, cancel := context.WithTimeout(ctx, listMax)
		page, at, err := store.listAll(bounded, w.keys.Of(kind), revision)
		cancel()
		if err != nil {
			return fmt.Errorf("list: %w", err)
		}
		pairs, revision = append(pairs, page...), at
	}
	update, err := w.listed(pairs, revision)
	if err != nil {
		return err
	}
	return w.deliver(ctx, update, asked)
}

// listMax bounds the listing of one kind.
const listMax = 30 * time.Second

// follow delivers the events of one stream. It returns errCompacted if the watch must list again.
func (w *Watch) follow(ctx context.Context) error {
	var looks sync.WaitGroup
	defer looks.Wait()
	streaming, cancel := context.WithCancel(ctx)
	defer cancel()
	key, end := w.scope()
	stream := w.store.Watch(streaming, kv.WatchRequest{Key: key, End: end, From: w.revision + 1})
	ticker := time.NewTicker(progressEvery)
	defer ticker.Stop()
	f := follower{watch: w, stream: stream, heard: w.config.Clock(), looked: make(chan proof, 1)}
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case response, open := <-stream.Responses():
			if !open {
				return errors.New("the stream ended")
			}
			if err := f.take(ctx, response); err != nil {
				return err
			}
		case <-ticker.C:
			if err := f.tick(ctx); err != nil {
				return err
			}
			if f.mustLook() {
				f.looking = true
				looks.Go(func() { f.look(streaming) })
			}
		case f.mark = <-f.looked:
			f.looking = false
			f.prove()
		}
	}
}

// scope returns the range that is watched: that of the one kind, or everything.
func (w *Watch) scope() (key, end string) {
	if len(w.config.Kinds) > 1 {
		return w.keys.Prefix(), kv.PrefixEnd(w.keys.Prefix())
	}
	prefix := w.keys.Of(w.config.Kinds[0])
	if w.config.Kinds[0] == record.KindMeta {
		return prefix, ""
	}
	return prefix, kv.PrefixEnd(prefix)
}

// follower reads one stream.
type follower struct {
	watch   *Watch
	stream  kv.Watch
	pending []kv.Event      // of a revision whose rest is still to come
	asked   changefeed.Time // when the oldest request for progress without answer was sent; 0: none
	heard   changefeed.Time // last sign of life that says something new, or that nothing is new
	looking bool            // the store is being read
	looked  chan proof
	mark    proof // proves something as soon as the watch is there
}

// mustLook reports whether the store is to be read. etcd drops a request for progress that meets a watch which is behind,
// as one of a busy store on a busy machine is again and again; what it delivers says how far it is, but not when that was.
func (f *follower) mustLook() bool {
	unanswered := f.asked != 0 && f.watch.config.Clock().Sub(f.asked) >= unansweredMax
	return unanswered && !f.looking && f.mark.revision == 0
}

// look reads the store. An error proves nothing: it is tried again with the next tick.
func (f *follower) look(ctx context.Context) {
	found, err := f.watch.look(ctx)
	if err != nil {
		f.watch.config.Logger.Debug("the store was not read", zap.Error(err))
		found = proof{}
	}
	f.looked <- found
}

// prove takes in that the watch has got to where the store was when it was read.
func (f *follower) prove() {
	if f.mark.revision != 0 && f.watch.revision >= f.mark.revision {
		f.watch.prove(f.mark.asked)
		f.mark = proof{}
	}
}

// take takes in a response of the stream.
func (f *follower) take(ctx context.Context, response kv.WatchResponse) error {
	w := f.watch
	switch {
	case response.Compacted > 0 || errors.Is(response.Err, kv.ErrCompacted):
		return errCompacted
	case response.Err != nil:
		return response.Err
	case len(response.Events) > 0 || response.Fragment:
		f.heard = w.config.Clock()
		f.pending = append(f.pending, response.Events...)
		if response.Fragment || len(f.pending) == 0 {
			return nil
		}
		update := w.update(f.pending)
		f.pending = nil
		err := w.deliver(ctx, update, 0)
		f.prove()
		return err
	case len(f.pending) > 0 || response.Revision < w.revision:
		return nil // it says nothing about the rest, or comes from a member that lags behind
	default:
		f.heard = w.config.Clock()
		asked := f.asked
		f.asked = 0
		return w.deliver(ctx, Update{Revision: response.Revision}, asked)
	}
}

// tick asks for progress, and gives the stream up if it is silent.
func (f *follower) tick(ctx context.Context) error {
	now := f.watch.config.Clock()
	if silent := now.Sub(f.heard); silent > silenceMax {
		return fmt.Errorf("the stream was silent for %s", silent)
	}
	if f.asked == 0 {
		f.asked = now
	}
	bounded, cancel := context.WithTimeout(ctx, progressMax)
	defer cancel()
	if err := f.stream.RequestProgress(bounded); err != nil && ctx.Err() == nil {
		f.watch.config.Logger.Debug("no progress asked for", zap.Error(err))
	}
	return nil
}

// deliver hands an update over, and waits until it was taken. proven is when it was current; 0 if that is not known.
func (w *Watch) deliver(ctx context.Context, update Update, proven changefeed.Time) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case w.updates <- update:
	}
	w.revision = update.Revision
	w.delivered.Store(update.Revision)
	w.prove(proven)
	return nil
}

// prove takes in that what was delivered was current at a moment, or later; 0 says nothing.
func (w *Watch) prove(at changefeed.Time) {
	if int64(at) > w.proven.Load() {
		w.proven.Store(int64(at))
	}
}
