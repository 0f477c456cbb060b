package sinktest

import (
	"errors"
	"math/rand/v2"
	"sync"
	"sync/atomic"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// randomSpan returns any span of the toy key space.
func randomSpan(random *rand.Rand) changefeed.Span {
	from, to := random.IntN(worldKeys+1)-1, random.IntN(worldKeys+1)-1
	for to >= 0 && from >= to {
		from, to = random.IntN(worldKeys+1)-1, random.IntN(worldKeys+1)-1
	}
	return span(from, to)
}

// testRandom interleaves many claimers step by step in one goroutine: claims, re-claims, late writes, raises.
func testRandom(w *world) {
	rounds, steps := 20, 120
	if w.harness.Short {
		rounds = 4
	}
	refused := 0
	for round := range rounds {
		one := newWorld(w.T, w.harness)
		random := rand.New(rand.NewPCG(uint64(round), 99))
		epoch := fence.Epoch(2)
		nodes := []sink.Sink{one.open(), one.open(), one.open()}
		one.raise(nodes[0], epoch)
		var pumps []*pump
		var claims []sink.Claim
		for range steps {
			node := nodes[random.IntN(len(nodes))]
			switch action := random.IntN(20); {
			case action == 0:
				epoch++
				one.raise(node, epoch)
			case action < 4 || len(pumps) == 0:
				c := one.next(epoch, randomSpan(random))
				c.From = change.At(1)
				claims = append(claims, c)
				pumps = append(pumps, one.claim(node, c))
			case action < 6:
				p, err := claim(w.ctx(), node, one.source, claims[random.IntN(len(claims))])
				if err == nil {
					pumps = append(pumps, p)
					continue
				}
				require.ErrorIs(w, err, fence.ErrStale)
				refused++
			default:
				i := random.IntN(len(pumps))
				err := pumps[i].advance(w.ctx(), min(one.source.head, pumps[i].lowest()+change.Position(random.IntN(60))))
				if err != nil {
					require.ErrorIs(w, err, fence.ErrStale)
					pumps = append(pumps[:i], pumps[i+1:]...)
					refused++
				}
			}
		}
		one.finish(epoch+1, 0)
	}
	require.Positive(w, refused, "no fence refused anything")
}

// testConcurrent lets claimers race on the target, each with a sink of its own.
func testConcurrent(w *world) {
	const claimers = 4
	turns := 60
	if w.harness.Short {
		turns = 15
	}
	w.raise(w.open(), 2)
	var (
		mu      sync.Mutex
		refused atomic.Int64
		group   sync.WaitGroup
		failed  = make(chan error, claimers)
	)
	next := func(random *rand.Rand) sink.Claim {
		mu.Lock()
		defer mu.Unlock()
		c := w.next(2, randomSpan(random))
		c.From = change.At(1)
		return c
	}
	for i := range claimers {
		s := w.open()
		random := rand.New(rand.NewPCG(uint64(i), 5))
		group.Go(func() {
			for range turns {
				err := w.turn(s, next(random), random)
				if errors.Is(err, fence.ErrStale) {
					refused.Add(1)
				} else if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	group.Wait()
	close(failed)
	for err := range failed {
		require.NoError(w, err)
	}
	require.Positive(w, refused.Load(), "no fence refused anything")
	w.finish(3, 0)
}

// turn is one claim and a few writes under it.
func (w *world) turn(s sink.Sink, c sink.Claim, random *rand.Rand) error {
	p, err := claim(w.ctx(), s, w.source, c)
	if err != nil {
		return err
	}
	for range random.IntN(8) {
		if err := p.advance(w.ctx(), min(w.source.head, p.lowest()+change.Position(random.IntN(15)))); err != nil {
			return err
		}
	}
	return p.writer.Close()
}
