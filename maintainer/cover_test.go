package maintainer

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
)

// Whatever is carved out, in whatever order, the cover has no gap and no overlap, and what was carved stays.
func TestCarvingKeepsTheCoverWhole(t *testing.T) {
	for seed := range uint64(200) {
		random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // not a secret
		v := newCover(changefeed.Whole(), change.At(7))
		var carved []changefeed.Span
		for range 40 {
			from := random.IntN(20)
			item := changefeed.Span{Start: borderAt(from), End: borderAt(from + 1 + random.IntN(4))}
			if from+1 > 19 {
				item.End = nil
			}
			free := true
			for _, other := range carved {
				free = free && !other.Overlaps(item)
			}
			made := v.carve(item)
			require.Equal(t, free, made != nil, "seed %d, %v over %v", seed, item, carved)
			if made != nil {
				require.True(t, made.span.Equal(item))
				require.False(t, made.unknown)
				require.Same(t, made, v.find(item))
				carved = append(carved, item)
			}
			next := []byte{}
			unsettled := 0
			v.each(func(one *cell) bool {
				require.Equal(t, string(next), string(one.span.Start), "seed %d", seed)
				next = one.span.End
				require.Same(t, one, v.unsettled[one.index])
				unsettled++
				return true
			})
			require.Empty(t, next)
			require.Len(t, v.unsettled, unsettled)
		}
	}
}

func borderAt(i int) []byte {
	if i == 0 {
		return nil
	}
	return fmt.Appendf(nil, "%02d", i)
}
