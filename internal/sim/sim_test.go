package sim

import (
	"bufio"
	"bytes"
	"flag"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

var seedsFlag = flag.Int("sim.seeds", 200, "seeds that TestSeeds runs")

// TestSeeds runs seeds side by side. No invariant breaks, and every kind of fault took effect. Hazards 70 and 71.
func TestSeeds(t *testing.T) {
	reports := runMany(t, 1, *seedsFlag)
	var total Census
	for i := range reports {
		report := &reports[i]
		total.Add(&report.Census)
		if report.Err != nil {
			t.Errorf("seed %d: %v\nreplay: go run ./internal/sim/cmd/sim -seed %d -v", report.Seed, report.Err, report.Seed)
		}
		require.GreaterOrEqual(t, report.Steps, StepsMin, "seed %d", report.Seed)
	}
	var out bytes.Buffer
	total.Print(&out)
	t.Log("\n" + out.String())
	require.Empty(t, total.Unproven(uint64(*seedsFlag)))
}

func runMany(t *testing.T, first, count int) []Report {
	t.Helper()
	reports := make([]Report, count)
	next := make(chan int)
	var group sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		group.Go(func() {
			for i := range next {
				reports[i] = Run(uint64(first+i), Options{})
			}
		})
	}
	for i := range count {
		next <- i
	}
	close(next)
	group.Wait()
	return reports
}

// TestCorpus replays every seed that ever failed.
func TestCorpus(t *testing.T) {
	file, err := os.Open("testdata/corpus.txt")
	require.NoError(t, err)
	defer func() { require.NoError(t, file.Close()) }()
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		seed, err := strconv.ParseUint(fields[0], 10, 64)
		require.NoError(t, err)
		require.NoError(t, Run(seed, Options{}).Err, "seed %d", seed)
	}
	require.NoError(t, lines.Err())
}

// TestOneSeedIsOneTrace: what a seed does depends on nothing else, neither on the order of maps nor on how many threads
// there are.
func TestOneSeedIsOneTrace(t *testing.T) {
	before := runtime.GOMAXPROCS(0)
	defer runtime.GOMAXPROCS(before)
	for seed := uint64(1); seed <= 6; seed++ {
		var first, second bytes.Buffer
		runtime.GOMAXPROCS(1)
		one := Run(seed, Options{Out: &first})
		runtime.GOMAXPROCS(4)
		two := Run(seed, Options{Out: &second})
		require.Equal(t, one.Trace, two.Trace)
		require.Equal(t, first.Len(), second.Len())
		require.True(t, bytes.Equal(first.Bytes(), second.Bytes()), "seed %d told two stories", seed)
		require.Equal(t, one.Census, Run(seed, Options{}).Census, "seed %d goes another way when nobody listens", seed)
	}
}
