package message

import (
	"encoding/binary"
	"hash/fnv"

	"fencerow/changefeed"
	"fencerow/fence"
)

// Digest names a set of placements in constant size: a count, and a sum of hashes, so that a placement is added and
// taken away in constant time and the order does not matter.
type Digest struct {
	Count uint64
	Sum   uint64
}

// Add takes a placement into the set.
func (d *Digest) Add(span changefeed.Span, token fence.Token) {
	d.Count++
	d.Sum += hashPlacement(span, token)
}

// Remove takes a placement out of the set.
func (d *Digest) Remove(span changefeed.Span, token fence.Token) {
	d.Count--
	d.Sum -= hashPlacement(span, token)
}

func hashPlacement(span changefeed.Span, token fence.Token) uint64 {
	// Lengths keep ("ab", "c") and ("a", "bc") apart.
	h := fnv.New64a()
	var buffer [24]byte
	binary.BigEndian.PutUint64(buffer[:8], uint64(token.Epoch()))
	binary.BigEndian.PutUint64(buffer[8:16], uint64(token.Seq()))
	binary.BigEndian.PutUint64(buffer[16:], uint64(len(span.Start)))
	_, _ = h.Write(buffer[:])
	_, _ = h.Write(span.Start)
	_, _ = h.Write(span.End)
	return mix(h.Sum64())
}

// mix spreads the hash, so that sums of similar placements do not cancel out (the finaliser of MurmurHash3).
func mix(h uint64) uint64 {
	h ^= h >> 33
	h *= 0xff51afd7ed558ccd
	h ^= h >> 33
	h *= 0xc4ceb9fe1a85ec53
	return h ^ h>>33
}
