package etcd

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/sink"
)

const (
	// triesMax bounds how often one call starts over because others moved the head. Each time, one of them got on.
	triesMax = 1000
	// registryPage is how many registered prefixes one request reads.
	registryPage = 1000
)

// Config of a sink.
type Config struct {
	// Open connects to the target. It is called on first use, and again after it failed. Close closes what it returned.
	Open func(ctx context.Context) (kv.Store, error)
	// SourcePrefix is cut off from keys, and TargetPrefix put in its place.
	SourcePrefix []byte
	TargetPrefix []byte
	Name         string // the target as people are shown it in faults
	Identity     sink.Identity
	Logger       *zap.Logger
}

func (c *Config) validate() error {
	var faults []error
	if c.Open == nil {
		faults = append(faults, errors.New("sink etcd: Open is missing"))
	}
	if c.Identity.Cluster == "" || strings.Contains(c.Identity.Cluster, "/") || c.Identity.UID == "" {
		faults = append(faults, fmt.Errorf("sink etcd: identity %+v is not valid", c.Identity))
	}
	if err := c.Identity.Changefeed.Validate(); err != nil {
		faults = append(faults, err)
	}
	if prefixesOverlap(string(c.TargetPrefix), claimsRoot) || strings.HasPrefix(string(c.TargetPrefix), recordsRoot) {
		faults = append(faults, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "sink", Value: fmt.Sprintf("%.200q", c.TargetPrefix), Permanent: true,
			Detail: "is a prefix that holds records of Fencerow itself, " + claimsRoot + " or " + recordsRoot,
			Cure:   "choose a longer prefix, such as /copy/",
		})
	}
	if c.Logger == nil {
		c.Logger = zap.NewNop()
	}
	return errors.Join(faults...)
}

// Sink copies to a prefix of an etcd.
type Sink struct {
	config Config
	layout layout
	// gate holds one token: who has it may open the connection, or claim. Claims of one sink queue up here instead of
	// racing on the head.
	gate   chan struct{}
	store  kv.Store
	closed bool
}

var _ sink.Sink = (*Sink)(nil)

// New makes a sink. It connects on first use.
func New(config Config) (*Sink, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Sink{
		config: config, gate: make(chan struct{}, 1),
		layout: newLayout(config.Identity, string(config.SourcePrefix), string(config.TargetPrefix)),
	}, nil
}

// enter takes the gate.
func (s *Sink) enter(ctx context.Context) error {
	select {
	case s.gate <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("sink etcd: %w", context.Cause(ctx))
	}
}

func (s *Sink) leave() { <-s.gate }

// connect returns the store. The caller has the gate.
func (s *Sink) connect(ctx context.Context) (kv.Store, error) {
	if s.closed {
		return nil, failed("connect", kv.ErrClosed)
	}
	if s.store != nil {
		return s.store, nil
	}
	store, err := s.config.Open(ctx)
	if err != nil {
		return nil, failed("connect", err)
	}
	s.store = store
	return store, nil
}

// Raise implements [sink.Sink].
func (s *Sink) Raise(ctx context.Context, epoch fence.Epoch, known sink.Known) error {
	return s.alone(ctx, "raise the floor", func(store kv.Store) error { return s.raise(ctx, store, epoch, known) })
}

// Remove implements [sink.Sink].
func (s *Sink) Remove(ctx context.Context, epoch fence.Epoch) error {
	return s.alone(ctx, "remove the claims", func(store kv.Store) error { return s.remove(ctx, store, epoch) })
}

// Claim implements [sink.Sink].
func (s *Sink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	var w *writer
	err := s.alone(ctx, "claim", func(store kv.Store) error {
		var err error
		w, err = s.claim(ctx, store, claim)
		return err
	})
	if err != nil {
		return nil, err
	}
	return w, nil
}

// alone does one thing on the control side, again as long as others of other nodes come first.
func (s *Sink) alone(ctx context.Context, doing string, do func(kv.Store) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	store, err := s.connect(ctx)
	if err != nil {
		return named(err, s.config.Name)
	}
	for range triesMax {
		if err := do(store); !errors.Is(err, errRaced) {
			return named(err, s.config.Name)
		}
	}
	return named(failed(doing, errRaced), s.config.Name)
}

// commit executes a transaction of the control side.
func commit(ctx context.Context, store kv.Store, doing string, txn kv.Txn) (kv.Result, error) {
	result, err := store.Txn(ctx, txn)
	if err != nil {
		return kv.Result{}, failed(doing, err)
	}
	if !result.Succeeded {
		return kv.Result{}, errRaced
	}
	return result, nil
}

func (s *Sink) raise(ctx context.Context, store kv.Store, epoch fence.Epoch, known sink.Known) error {
	held, err := s.loadHead(ctx, store)
	if err != nil {
		return err
	}
	head, err := held.raise(s.config.Identity, epoch, known)
	if err != nil || head == held.head {
		return err
	}
	var registered registration
	if !held.head.Exists() || head.Succeeds(held.head.Head) {
		if registered, err = loadRegistration(ctx, store); err != nil {
			return err
		}
		if err := registered.check(s.layout); err != nil {
			return err
		}
	}
	_, err = commit(ctx, store, "raise the floor", held.raiseTxn(head, registered))
	return err
}

func (s *Sink) remove(ctx context.Context, store kv.Store, epoch fence.Epoch) error {
	held, err := s.loadHead(ctx, store)
	if err != nil {
		return err
	}
	head, err := held.head.Remove(s.config.Identity, epoch)
	if err != nil || head == held.head.Head {
		return err
	}
	_, err = commit(ctx, store, "remove the claims", held.remove(head))
	return err
}

// claim takes a span: it fences out who writes there, then reads how far they came, then stores the new claim.
func (s *Sink) claim(ctx context.Context, store kv.Store, claim sink.Claim) (*writer, error) {
	held, err := s.load(ctx, store)
	if err != nil {
		return nil, err
	}
	// Asked before anything is touched: a claim that is refused fences nobody out.
	if _, _, err := held.claim(s.config.Identity, claim); err != nil {
		return nil, err
	}
	for {
		all := held.held.Writers(claim.Span)
		if len(all) == 0 {
			break
		}
		writers := all[:min(len(all), fencedMax)]
		result, err := commit(ctx, store, "fence out a writer", held.fenceOut(writers))
		if err != nil {
			return nil, err
		}
		if err := held.fenced(writers, result); err != nil {
			return nil, err
		}
		if len(writers) == len(all) {
			break
		}
		txn, rest := held.retire(writers)
		if result, err = commit(ctx, store, "retire claims", txn); err != nil {
			return nil, err
		}
		held.held, held.headAt, held.rest = rest, result.Revision, true
	}
	return s.take(ctx, store, held, claim)
}

// take stores the claim.
func (s *Sink) take(ctx context.Context, store kv.Store, held *state, claim sink.Claim) (*writer, error) {
	n := held.head.NextClaim
	txn, after, err := held.claim(s.config.Identity, claim)
	if err != nil {
		return nil, err
	}
	result, err := commit(ctx, store, "claim", txn)
	if err != nil {
		return nil, err
	}
	w := newWriter(s.layout, store, n, result.Revision, after)
	w.name = s.config.Name
	return w, nil
}

// load reads everything of the changefeed at one revision.
func (s *Sink) load(ctx context.Context, store kv.Store) (*state, error) {
	result, err := store.Range(ctx, kv.Range{Key: s.layout.root, End: kv.PrefixEnd(s.layout.root)})
	if err != nil {
		return nil, failed("read the claims", err)
	}
	return decodeState(s.layout, result.Pairs)
}

// loadHead reads the head alone, so that claims that can't be read don't keep a changefeed from being removed.
func (s *Sink) loadHead(ctx context.Context, store kv.Store) (*state, error) {
	result, err := store.Range(ctx, kv.Range{Key: s.layout.head()})
	if err != nil {
		return nil, failed("read the head", err)
	}
	return decodeState(s.layout, result.Pairs)
}

// loadRegistration reads the prefixes in use, at one revision.
func loadRegistration(ctx context.Context, store kv.Store) (registration, error) {
	var out registration
	next, revision := targetsLock, int64(0)
	for {
		result, err := store.Range(ctx, kv.Range{
			Key: next, End: kv.PrefixEnd(targetsRoot), Limit: registryPage, Revision: revision,
		})
		if err != nil {
			return registration{}, failed("read the prefixes in use", err)
		}
		for _, pair := range result.Pairs {
			switch {
			case pair.Key == targetsLock:
				out.lockAt = pair.ModRevision
			case strings.HasPrefix(pair.Key, targetsRoot):
				out.targets = append(out.targets, pair)
			}
		}
		if !result.More || len(result.Pairs) == 0 {
			return out, nil
		}
		next = result.Pairs[len(result.Pairs)-1].Key + "\x00"
		if revision == 0 {
			revision = result.Revision
		}
	}
}

// Close implements [sink.Sink].
func (s *Sink) Close() error {
	s.gate <- struct{}{}
	defer s.leave()
	s.closed = true
	if s.store == nil {
		return nil
	}
	store := s.store
	s.store = nil
	if err := store.Close(); err != nil {
		return fmt.Errorf("sink etcd: close: %w", err)
	}
	return nil
}
