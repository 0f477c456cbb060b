package kvtest

import (
	"fmt"
	"slices"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/kv"
)

// leaseOver lets a short lease end on both. Nothing else is done meanwhile, so the real one's delay makes no difference.
func (p *pair) leaseOver() {
	p.t.Helper()
	inReal, err := p.real.Grant(p.ctx, kv.LeaseTTLMin)
	require.NoError(p.t, err)
	keys := []string{p.prefix + "short/b", p.prefix + "short/a"}
	write := func(id kv.LeaseID) kv.Txn {
		return kv.Txn{Then: []kv.Op{kv.PutLeased(keys[0], nil, id), kv.PutLeased(keys[1], nil, id)}}
	}
	if _, err = p.real.Txn(p.ctx, write(inReal.ID)); class(err) == "lease not found" {
		return // the machine is too busy; another time
	}
	require.NoError(p.t, err)
	inMemory, err := p.memory.Grant(p.ctx, kv.LeaseTTLMin)
	require.NoError(p.t, err)
	_, err = p.memory.Txn(p.ctx, write(inMemory.ID))
	require.NoError(p.t, err)
	p.pass(inMemory.TTL)
	p.rangeMemoryIsEmpty(keys[1])
	poll := time.NewTicker(askAgain)
	defer poll.Stop()
	for {
		left, err := p.real.Range(p.ctx, kv.Range{Key: keys[1]})
		require.NoError(p.t, err)
		if left.Count == 0 {
			break
		}
		select {
		case <-poll.C:
		case <-p.ctx.Done():
			require.FailNow(p.t, "the lease did not end")
		}
	}
	p.know(inMemory.ID, inReal.ID)
	p.seen["lease over"]++
}

func (p *pair) rangeMemoryIsEmpty(key string) {
	p.t.Helper()
	left, err := p.memory.Range(p.ctx, kv.Range{Key: key})
	require.NoError(p.t, err)
	require.Zero(p.t, left.Count)
}

func (p *pair) randomKey() string {
	return fmt.Sprintf("%sk%d", p.prefix, p.random.IntN(compareKeys))
}

// randomSpan is one key, a range, a prefix, an empty or an endless range.
func (p *pair) randomSpan() (key, end string) {
	key = p.randomKey()
	switch p.random.IntN(6) {
	case 0:
		return key, p.randomKey() // may be empty
	case 1:
		return key, kv.PrefixEnd(key)
	case 2:
		return p.prefix, p.prefix + largePrefix
	default:
		return key, ""
	}
}

func (p *pair) randomRange() kv.Range {
	var r kv.Range
	r.Key, r.End = p.randomSpan()
	r.Limit = int64(max(p.random.IntN(12)-6, 0))
	r.KeysOnly = p.random.IntN(4) == 0
	if p.random.IntN(2) == 0 {
		oldest := p.compacted()
		r.Revision = max(oldest-2+p.random.Int64N(p.revision()-oldest+5), 1)
	}
	return r
}

func (p *pair) randomTxn() kv.Txn {
	var txn kv.Txn
	for range p.random.IntN(4) {
		txn.If = append(txn.If, p.randomCompare())
	}
	for range p.random.IntN(5) {
		txn.Then = append(txn.Then, p.randomOp())
	}
	for range p.random.IntN(3) {
		txn.Else = append(txn.Else, p.randomOp())
	}
	return txn
}

func (p *pair) randomOp() kv.Op {
	switch p.random.IntN(8) {
	case 0:
		op := kv.Op{Kind: kv.OpGet, Limit: int64(p.random.IntN(4))}
		op.Key, op.End = p.randomSpan()
		return op
	case 1, 2:
		op := kv.Op{Kind: kv.OpDelete}
		op.Key, op.End = p.randomSpan()
		if p.random.IntN(3) > 0 {
			op.End = ""
		}
		return op
	case 3:
		return kv.PutLeased(p.randomKey(), []byte("leased"), p.randomLease()[0])
	default:
		return kv.Put(p.randomKey(), fmt.Append(nil, p.random.IntN(5)))
	}
}

// randomCompare is true about as often as not.
func (p *pair) randomCompare() kv.Compare {
	c := kv.Compare{
		Key: p.randomKey(), Target: kv.ModRevision + kv.Target(p.random.IntN(4)),
		Relation: kv.Equal + kv.Relation(p.random.IntN(4)),
	}
	stored, err := p.memory.Range(p.ctx, kv.Range{Key: c.Key})
	require.NoError(p.t, err)
	var pair kv.Pair
	if len(stored.Pairs) > 0 {
		pair = stored.Pairs[0]
	}
	if c.Target != kv.Value && p.random.IntN(4) == 0 {
		c.Key, c.End = p.randomSpan()
		if c.Key == "" {
			c.End = ""
			c.Key = p.randomKey()
		}
	}
	switch c.Target {
	case kv.ModRevision:
		c.Number = pair.ModRevision
	case kv.CreateRevision:
		c.Number = pair.CreateRevision
	case kv.Version:
		c.Number = pair.Version + int64(p.random.IntN(3)) - 1
	default:
		c.Value = fmt.Append(nil, p.random.IntN(5))
	}
	if p.random.IntN(4) == 0 && (c.Target == kv.ModRevision || c.Target == kv.CreateRevision) {
		c.Number = max(c.Number-1, 0)
		if c.Number <= p.base {
			c.Number = 0 // below the beginning the two have no common numbers
		}
	}
	return c
}

// toReal gives a transaction the real one's numbers.
func (p *pair) toReal(txn kv.Txn) kv.Txn {
	translated := kv.Txn{If: slices.Clone(txn.If), Then: slices.Clone(txn.Then), Else: slices.Clone(txn.Else)}
	for i, c := range translated.If {
		if c.Number != 0 && (c.Target == kv.ModRevision || c.Target == kv.CreateRevision) {
			translated.If[i].Number += p.offset
		}
	}
	for _, ops := range [][]kv.Op{translated.Then, translated.Else} {
		for i, op := range ops {
			for _, ids := range p.leases {
				if op.Kind == kv.OpPut && op.Lease == ids[0] {
					ops[i].Lease = ids[1]
					break
				}
			}
		}
	}
	return translated
}

func (p *pair) fromRealHeader(actual, memory kv.Header) kv.Header {
	require.NotZero(p.t, actual.ClusterID)
	return kv.Header{ClusterID: memory.ClusterID, Revision: actual.Revision - p.offset}
}

// fromRealPairs gives pairs the memory's numbers.
func (p *pair) fromRealPairs(pairs []kv.Pair) []kv.Pair {
	for i := range pairs {
		pairs[i] = p.fromReal(pairs[i])
	}
	return pairs
}

func (p *pair) fromReal(pair kv.Pair) kv.Pair {
	if pair.CreateRevision != 0 {
		pair.CreateRevision -= p.offset
	}
	pair.ModRevision -= p.offset
	pair.Lease = p.known[pair.Lease]
	return pair
}
