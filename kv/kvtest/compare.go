package kvtest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/kv"
	"fencerow/kv/kvmem"
)

const (
	compareLimit  = 5 * time.Minute
	compareKeys   = 24 // few, so that commands meet
	compareLeases = 6
	longLease     = 1000 * time.Hour
	largePrefix   = "~large/" // sorts behind the others, and is watched but not read
	// commandsToProve are enough to see everything that is required to happen.
	commandsToProve = 10_000
)

// Compare executes the same random commands on both and requires the same answers, and at the end the same events. The
// second is the memory, whose client can lose answers and cut watch responses into fragments. Both clusters must be
// nobody else's. Revisions may differ by a constant, cluster and lease ids altogether.
func Compare(t *testing.T, commands int, seed uint64, actual, memory Subject) {
	t.Helper()
	t.Logf("seed %d", seed)
	ctx, cancel := context.WithTimeout(t.Context(), compareLimit)
	defer cancel()
	p := newPair(t, ctx, seed, actual, memory)
	p.live = p.follow(p.base)
	for range commands {
		p.step()
	}
	p.sameEvents(p.live)
	p.sameEvents(p.follow(p.compacted()))
	t.Logf("outcomes: %v", p.seen)
	if commands < commandsToProve {
		return
	}
	// A run in which something never happened proves nothing about it.
	for _, kind := range []string{
		"txn done", "txn else", "txn duplicate key", "txn lease not found", "range", "range compacted",
		"range future revision", "grant", "keep alive", "keep alive lease not found", "revoke", "revoke lease not found",
		"compact", "compact compacted", "compact future revision", "lost request", "lost answer", "watch", "large txn",
		"lease over",
	} {
		require.Positive(t, p.seen[kind], "never seen: %s", kind)
	}
}

// pair is the two stores, and what is known of how their numbers relate.
type pair struct {
	t      *testing.T
	ctx    context.Context //nolint:containedctx // of one run
	random *rand.Rand
	seen   map[string]int

	real   Store
	memory Store
	pass   func(time.Duration)
	prefix string

	base   int64                     // the memory's revision when all began
	offset int64                     // a revision of the real one minus the memory's
	leases [][2]kv.LeaseID           // of the memory, of the real one
	known  map[kv.LeaseID]kv.LeaseID // the memory's by the real one's, for ever

	live      stream // from beginning to end
	followers sync.WaitGroup
}

func newPair(t *testing.T, ctx context.Context, seed uint64, actual, memory Subject) *pair {
	t.Helper()
	p := &pair{
		t: t, ctx: ctx, random: rand.New(rand.NewPCG(seed, 0)), seen: map[string]int{}, pass: memory.Pass, //nolint:gosec // repeatable
		prefix: fmt.Sprintf("compare%04d/", prefixes.Add(1)), known: map[kv.LeaseID]kv.LeaseID{},
	}
	p.know(0, 0)         // no lease
	p.know(1<<60, 1<<60) // none that was ever granted
	var err error
	p.real, err = actual.Open()
	require.NoError(t, err)
	p.memory, err = memory.Open()
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.real.Close())
		require.NoError(t, p.memory.Close())
		p.followers.Wait()
	})
	first := kv.Txn{Then: []kv.Op{kv.Put(p.prefix, nil)}}
	inMemory, err := p.memory.Txn(ctx, first)
	require.NoError(t, err)
	inReal, err := p.real.Txn(ctx, first)
	require.NoError(t, err)
	p.base, p.offset = inMemory.Revision, inReal.Revision-inMemory.Revision
	return p
}

func (p *pair) compacted() int64 {
	var compacted int64
	p.server().Inspect(func(m *kvmem.Machine) *kvmem.Machine {
		compacted = max(m.Compacted(), p.base)
		return nil
	})
	return compacted
}

func (p *pair) server() *kvmem.Server {
	memory, isMemory := p.memory.(*kvmem.Store)
	require.True(p.t, isMemory, "the second subject is the memory")
	return memory.Server()
}

func (p *pair) revision() int64 {
	var revision int64
	p.server().Inspect(func(m *kvmem.Machine) *kvmem.Machine {
		revision = m.Revision()
		return nil
	})
	return revision
}

func (p *pair) saw(what string, err error) {
	if name := class(err); name != "" {
		what += " " + name
	}
	p.seen[what]++
}

// step executes one command.
func (p *pair) step() {
	switch n := p.random.IntN(1000); {
	case n < 600:
		p.txn(p.randomTxn())
	case n < 850:
		p.rangeBoth(p.randomRange())
	case n < 880:
		p.grant()
	case n < 920:
		p.keepAlive()
	case n < 935:
		p.revoke()
	case n < 940:
		p.compact()
	case n < 970:
		p.lose()
	case n < 980:
		p.memoryFragments()
	case n < 982:
		p.sameEvents(p.follow(p.compacted() + p.random.Int64N(max(p.revision()-p.compacted(), 1))))
		p.seen["watch"]++
	case n < 983:
		p.largeTxn()
	default:
		p.txn(kv.Txn{Then: []kv.Op{kv.DeletePrefix(p.randomKey())}})
	}
	if p.seen["lease over"] == 0 && p.random.IntN(500) == 0 {
		p.leaseOver()
	}
}

func (p *pair) txn(txn kv.Txn) {
	p.t.Helper()
	inMemory, memoryErr := p.memory.Txn(p.ctx, txn)
	inReal, realErr := p.real.Txn(p.ctx, p.toReal(txn))
	require.Equal(p.t, class(realErr), class(memoryErr), "%+v", txn)
	p.sameResult(inReal, inMemory, realErr)
	switch {
	case memoryErr != nil:
		p.saw("txn", memoryErr)
	case inMemory.Succeeded:
		p.saw("txn done", nil)
	default:
		p.saw("txn else", nil)
	}
}

func (p *pair) sameResult(inReal, inMemory kv.Result, err error) {
	p.t.Helper()
	if err != nil {
		return
	}
	inReal.Header = p.fromRealHeader(inReal.Header, inMemory.Header)
	for i := range inReal.Responses {
		inReal.Responses[i].Pairs = p.fromRealPairs(inReal.Responses[i].Pairs)
		// An operation without pairs may say so in either way.
		if len(inReal.Responses[i].Pairs) == 0 && len(inMemory.Responses[i].Pairs) == 0 {
			inReal.Responses[i].Pairs, inMemory.Responses[i].Pairs = nil, nil
		}
	}
	require.Equal(p.t, inReal, inMemory)
}

// lose loses a transaction's request or its answer; of the real one the request is not sent, or the answer thrown away.
func (p *pair) lose() {
	memory, isMemory := p.memory.(*kvmem.Store)
	require.True(p.t, isMemory)
	txn := p.randomTxn()
	fault := []kvmem.Fault{kvmem.LoseRequest, kvmem.LoseAnswer}[p.random.IntN(2)]
	memory.FailNextTxn(fault)
	_, err := p.memory.Txn(p.ctx, txn)
	require.Equal(p.t, "unknown", class(err))
	if fault == kvmem.LoseRequest {
		p.seen["lost request"]++
		return
	}
	_, err = p.real.Txn(p.ctx, p.toReal(txn))
	require.NotEqual(p.t, "unknown", class(err))
	p.seen["lost answer"]++
}

func (p *pair) memoryFragments() {
	if memory, isMemory := p.memory.(*kvmem.Store); isMemory {
		memory.FragmentWatches(p.random.IntN(5))
	}
}

func (p *pair) largeTxn() {
	var txn kv.Txn
	for i := range kv.TxnOpsMax {
		value := make([]byte, 7000)
		value[0] = byte(p.random.IntN(256))
		txn.Then = append(txn.Then, kv.Put(fmt.Sprintf("%s%03d", p.prefix+largePrefix, i), value))
	}
	p.txn(txn)
	p.seen["large txn"]++
}

func (p *pair) rangeBoth(r kv.Range) {
	p.t.Helper()
	inMemory, memoryErr := p.memory.Range(p.ctx, r)
	translated := r
	if r.Revision > 0 {
		translated.Revision += p.offset
	}
	inReal, realErr := p.real.Range(p.ctx, translated)
	p.saw("range", memoryErr)
	require.Equal(p.t, class(realErr), class(memoryErr), "%+v", r)
	if realErr != nil {
		return
	}
	inReal.Header = p.fromRealHeader(inReal.Header, inMemory.Header)
	inReal.Pairs = p.fromRealPairs(inReal.Pairs)
	require.Equal(p.t, inReal, inMemory, "%+v", r)
}

func (p *pair) grant() {
	if len(p.leases) >= compareLeases {
		p.leases = slices.Delete(p.leases, 2, 3)
	}
	inMemory, err := p.memory.Grant(p.ctx, longLease)
	require.NoError(p.t, err)
	inReal, err := p.real.Grant(p.ctx, longLease)
	require.NoError(p.t, err)
	require.Equal(p.t, inReal.TTL, inMemory.TTL)
	require.Equal(p.t, inReal.Revision-p.offset, inMemory.Revision)
	p.know(inMemory.ID, inReal.ID)
	p.saw("grant", nil)
}

func (p *pair) know(memory, actual kv.LeaseID) {
	p.leases = append(p.leases, [2]kv.LeaseID{memory, actual})
	p.known[actual] = memory
}

func (p *pair) randomLease() [2]kv.LeaseID { return p.leases[p.random.IntN(len(p.leases))] }

func (p *pair) keepAlive() {
	lease := p.randomLease()
	if lease[0] == 0 {
		return
	}
	inMemory, memoryErr := p.memory.KeepAlive(p.ctx, lease[0])
	inReal, realErr := p.real.KeepAlive(p.ctx, lease[1])
	require.Equal(p.t, class(realErr), class(memoryErr))
	require.Equal(p.t, inReal.TTL, inMemory.TTL)
	p.saw("keep alive", memoryErr)
}

func (p *pair) revoke() {
	lease := p.randomLease()
	if lease[0] == 0 {
		return
	}
	memoryErr, realErr := p.memory.Revoke(p.ctx, lease[0]), p.real.Revoke(p.ctx, lease[1])
	require.Equal(p.t, class(realErr), class(memoryErr))
	p.saw("revoke", memoryErr)
}

func (p *pair) compact() {
	p.sameEvents(p.live) // a watch that is behind would end by the compaction
	revision := max(p.revision()-p.random.Int64N(40), p.base)
	switch p.random.IntN(3) {
	case 0:
		revision = p.revision() + 1
	case 1:
		revision = p.compacted()
	}
	memoryErr := p.memory.Compact(p.ctx, revision)
	realErr := p.real.Compact(p.ctx, revision+p.offset)
	require.Equal(p.t, class(realErr), class(memoryErr), "compact %d", revision)
	p.saw("compact", memoryErr)
}
