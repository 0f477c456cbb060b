package dispatcher

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
)

func changesOf(keys ...string) []change.Change {
	out := make([]change.Change, len(keys))
	for i, key := range keys {
		out[i].Key = []byte(key)
	}
	return out
}

// second writes rate changes over one second, in ten batches, with keys as drawn.
func second(t *Traffic, now *changefeed.Time, rate int, draw func() string) {
	for range 10 {
		*now = now.Add(changefeed.Second / 10)
		keys := make([]string, rate/10)
		for i := range keys {
			keys[i] = draw()
		}
		t.Wrote(*now, changesOf(keys...))
	}
}

func TestTrafficFindsTheKeyThatHalvesIt(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	for name, c := range map[string]struct {
		draw       func() string
		low, high  string
		most, some uint8
	}{
		"even":                   {func() string { return fmt.Sprintf("k%03d", random.IntN(1000)) }, "k400", "k600", 60, 50},
		"most at the end":        {func() string { return fmt.Sprintf("k%03d", 1000-1000/(1+random.IntN(1000))) }, "k980", "k999", 70, 50},
		"three keys, one at 80%": {func() string { return []string{"a", "b", "b", "b", "b", "b", "b", "b", "b", "c"}[random.IntN(10)] }, "b", "c", 95, 80},
	} {
		t.Run(name, func(t *testing.T) {
			traffic, now := NewTraffic(SampleRate, 7), changefeed.Time(1)
			for range 30 {
				second(&traffic, &now, 500, c.draw)
			}
			half := traffic.Half()
			require.NotNil(t, half)
			require.GreaterOrEqual(t, string(half.Key), c.low)
			require.LessOrEqual(t, string(half.Key), c.high)
			require.LessOrEqual(t, half.Percent, c.most)
			require.GreaterOrEqual(t, half.Percent, c.some)
			require.InDelta(t, 500, traffic.Rate(), 60)
		})
	}
}

// One key has no half, and neither has a span with little traffic, which keeps no sample at all.
func TestTrafficHasNoHalf(t *testing.T) {
	one, now := NewTraffic(SampleRate, 7), changefeed.Time(1)
	for range 20 {
		second(&one, &now, 500, func() string { return "k" })
	}
	require.Nil(t, one.Half())
	little, now := NewTraffic(SampleRate, 7), changefeed.Time(1)
	n := 0
	for range 100 {
		second(&little, &now, 10, func() string { n++; return fmt.Sprint(n) })
	}
	require.Nil(t, little.Half())
	require.Nil(t, little.keys)
	require.InDelta(t, 10, little.Rate(), 2)
}

// The sample is about the last while: what was hot before is forgotten. It is bounded, and gone when the traffic is.
func TestTrafficForgets(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	traffic, now := NewTraffic(SampleRate, 7), changefeed.Time(1)
	for range 60 {
		second(&traffic, &now, 1000, func() string { return fmt.Sprintf("a%03d", random.IntN(1000)) })
	}
	for range 60 {
		second(&traffic, &now, 1000, func() string { return fmt.Sprintf("b%03d", random.IntN(1000)) })
	}
	half := traffic.Half()
	require.Greater(t, string(half.Key), "b300")
	require.Len(t, traffic.keys, sampleKeys)
	traffic.Wrote(now, changesOf(string(make([]byte, sampleKeyBytes+1))))
	for _, key := range traffic.keys {
		require.LessOrEqual(t, len(key), sampleKeyBytes)
	}
	for range 11 {
		second(&traffic, &now, 10, func() string { return "c" })
	}
	require.Nil(t, traffic.Half())
}
