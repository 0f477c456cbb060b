package sim

import (
	"fmt"
	"math/rand/v2"
	"time"

	"fencerow/changefeed"
	"fencerow/dispatcher"
	"fencerow/record"
)

// Names of the simulated world.
const (
	clusterID    = "sim"
	sourcePrefix = "s/"
	sourceName   = "the-source"
)

// keySpace is what the source holds.
var keySpace = changefeed.Span{Start: []byte(sourcePrefix), End: []byte("s0")}

func targetPrefix(id changefeed.ID) string { return "t/" + id.Name + "/" }

// Plan is what one seed does to one cluster. It is drawn from the seed alone.
type Plan struct {
	Seed   uint64
	Steps  int // inputs and answers before the faults end
	Keys   record.Keys
	Nodes  int
	Feeds  int
	SrcKey int // keys of the source

	TTL            time.Duration
	StatusInterval time.Duration
	StatusRefresh  time.Duration
	SilenceLimit   time.Duration
	AnswerWait     time.Duration // of a request to etcd or to the target
	DelayMin       time.Duration
	DelayMax       time.Duration
	LateMax        time.Duration
	LagMax         time.Duration
	Fragment       int // events of a watch response; 0: no limit
	ChangeEvery    time.Duration
	WishEvery      time.Duration
	BatchChanges   int
	HeadsMax       int
	Memory         dispatcher.MemoryBounds
	Level          int     // feature level that the cluster begins at
	Upgraded       bool    // a version without epochs has left a changefeed
	Rows           []bool  // by changefeed: its target is like a database
	Serial         bool    // the source has one log
	Plain          float64 // the part of the changefeeds whose sink has no claims
	Retries        int     // of a pump, before it fails
	SyncEvery      string  // option of the changefeeds whose sink takes it; "": none

	Enabled [faultKinds]bool
	Rates   [faultKinds]float64       // of faults of single messages and requests
	Every   [faultKinds]time.Duration // between faults that last
	Spare   map[string]bool           // names of wishes that operators don't have
}

// settleMax is how long the cluster may take to catch up once faults have ended: the longest delay of an error's next
// try, and the time to work.
const settleMax = 15 * time.Minute

// draw picks a plan.
func draw(seed uint64, steps int) Plan {
	rng := rand.New(rand.NewPCG(seed, 1))
	keys, err := record.NewKeys(clusterID)
	if err != nil {
		panic(fmt.Sprintf("sim: %v", err)) //nolint:forbidigo // a constant name
	}
	p := Plan{Seed: seed, Steps: steps, Keys: keys, Spare: map[string]bool{}, Plain: 0.3}
	pick := func(choices ...time.Duration) time.Duration { return choices[rng.IntN(len(choices))] }
	p.Nodes, p.Feeds = []int{1, 2, 2, 3, 3, 3, 4, 5}[rng.IntN(8)], 1+rng.IntN(3)
	p.SrcKey = 2 + rng.IntN(12)
	p.TTL = pick(2*time.Second, 3*time.Second, 5*time.Second)
	p.StatusInterval = pick(200*time.Millisecond, time.Second)
	p.StatusRefresh = pick(2*time.Second, 5*time.Second)
	p.SilenceLimit = 3 * max(p.TTL, p.StatusRefresh)
	p.AnswerWait = pick(500*time.Millisecond, 2*time.Second, 5*time.Second)
	p.DelayMin = pick(100*time.Microsecond, time.Millisecond)
	p.DelayMax = p.DelayMin + pick(time.Millisecond, 10*time.Millisecond, 60*time.Millisecond)
	p.LateMax = pick(300*time.Millisecond, 3*time.Second, 20*time.Second)
	p.LagMax = pick(200*time.Millisecond, 2*time.Second, 8*time.Second)
	p.Fragment = []int{0, 0, 1, 3}[rng.IntN(4)]
	p.ChangeEvery = pick(100*time.Millisecond, 300*time.Millisecond, time.Second)
	p.WishEvery = pick(time.Second, 4*time.Second, 15*time.Second)
	p.BatchChanges = []int{1, 3, 100}[rng.IntN(3)]
	p.Retries = []int{1, 3, 10}[rng.IntN(3)]
	// Small bounds, so that what is above them is met.
	p.HeadsMax = []int{2, 8, 512}[rng.IntN(3)]
	p.Memory = dispatcher.MemoryBounds{Stopped: []int{2, 16, 0}[rng.IntN(3)], Finals: []int{2, 16, 0}[rng.IntN(3)]}
	p.Level = []int{record.LevelCurrent, record.LevelCurrent, record.LevelCurrent, record.LevelBeforeEpochs}[rng.IntN(4)]
	p.Upgraded = p.Level == record.LevelBeforeEpochs && seed%2 == 0
	for range p.Feeds {
		p.Rows = append(p.Rows, rng.IntN(4) == 0)
	}
	for kind := range LateEviction {
		p.Enabled[kind] = rng.IntN(10) < 4
		p.Rates[kind] = []float64{0.005, 0.02, 0.08}[rng.IntN(3)]
		p.Every[kind] = pick(3*time.Second, 8*time.Second, 20*time.Second)
	}
	p.SyncEvery = []string{"", "", "1s", "1s", "2s", "5s"}[seed%6]
	if seed%5 < 2 { // by the seed itself, so that it moves no other draw
		p.Enabled[LateEviction], p.Enabled[Isolate], p.Plain = true, true, 0.6
	}
	p.Enabled[Restore] = rng.IntN(10) == 0 // what follows a restore leaves little else to see
	if p.Enabled[Restore] {
		p.Enabled[Damage] = false // a backup of what is damaged stays so
	}
	p.Serial = seed%7 == 5 && !p.Upgraded && !p.Enabled[Restore] // what was forgotten does not come back with a backup of the records
	if rng.IntN(20) == 0 {                                       // a quiet seed shows what is wrong without any fault
		p.Enabled = [faultKinds]bool{}
	}
	return p
}
