package verify

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

// world is a source, a target, and a feed between them that runs a little whenever anybody looks.
type world struct {
	random   *rand.Rand
	position change.Position
	source   map[string]cell // as all reads see it
	hidden   []write         // committed, and brought to the target perhaps, but not seen by reads yet
	log      []write
	brought  int // of log, to the target
	target   map[string]cell
	stamp    int
	busy     int // writes at each look, at most
	plain    bool
	planted  map[string]bool
}

type cell struct {
	value   string
	version string
}

type write struct {
	key     string
	value   string // "" deletes
	at      change.Position
	deleted bool
}

const worldKeys = 60

func newWorld(seed uint64) *world {
	w := &world{random: rand.New(rand.NewPCG(seed, 7)), source: map[string]cell{}, target: map[string]cell{}, planted: map[string]bool{}}
	for range 300 {
		w.write()
	}
	w.show()
	w.bring(len(w.log))
	w.busy = w.random.IntN(8)
	w.plain = w.random.IntN(3) == 0
	return w
}

// plant damages rows of the target that nobody writes any more.
func (w *world) plant() {
	for i := range 1 + w.random.IntN(6) {
		key := fmt.Sprintf("still-%02d", w.random.IntN(10))
		kind := (i + w.random.IntN(3)) % 3
		if _, found := w.source[key]; found && kind == 0 {
			delete(w.target, key)
		} else if found && kind == 1 {
			w.target[key] = cell{value: "other", version: w.next()}
		} else {
			key = "stray-" + strconv.Itoa(i)
			w.target[key] = cell{value: "stray", version: w.next()}
		}
		w.planted[key] = true
	}
}

func (w *world) next() string {
	w.stamp++
	return strconv.Itoa(w.stamp)
}

// write commits one change.
func (w *world) write() {
	w.position++
	one := write{key: fmt.Sprintf("key-%02d", w.random.IntN(worldKeys)), value: strconv.Itoa(w.random.IntN(3)), at: w.position}
	if len(w.log) < 10 {
		one.key = fmt.Sprintf("still-%02d", len(w.log))
	} else if w.random.IntN(3) == 0 {
		one.value, one.deleted = "", true
	}
	w.log = append(w.log, one)
	w.hidden = append(w.hidden, one)
}

// show makes what was committed visible.
func (w *world) show() {
	for _, one := range w.hidden {
		if one.deleted {
			delete(w.source, one.key)
		} else {
			w.source[one.key] = cell{value: one.value, version: one.at.String()}
		}
	}
	w.hidden = nil
}

func (w *world) bring(n int) {
	for _, one := range w.log[w.brought:min(w.brought+n, len(w.log))] {
		w.brought++
		if one.deleted {
			delete(w.target, one.key)
		} else {
			w.target[one.key] = cell{value: one.value, version: w.next()}
		}
	}
}

// go on: writes, some become visible, some are brought.
func (w *world) turn() {
	for range w.random.IntN(w.busy + 1) {
		w.write()
	}
	if w.random.IntN(2) == 0 {
		w.show()
	}
	w.bring(w.random.IntN(2*w.busy + 2))
}

// half is one side of a world.
type half struct {
	w    *world
	rows func() map[string]cell
	bare bool // it does not tell writes apart
}

func (h half) in(chunk Chunk) []Row {
	var out []Row
	rows := h.rows()
	for _, key := range slices.Sorted(maps.Keys(rows)) {
		if key >= chunk.From && (chunk.To == "" || key < chunk.To) {
			out = append(out, h.row(key, rows[key]))
		}
	}
	return out
}

func (h half) row(key string, c cell) Row {
	row := Row{Key: key, Version: c.version, Digest: c.value, Columns: map[string]string{"v": c.value, "same": ""}}
	if h.bare {
		row.Version = ""
	}
	return row
}

func sumOf(rows []Row) Sum {
	sum := Sum{Rows: int64(len(rows))}
	for _, row := range rows {
		sum.Digest += row.Key + "=" + row.Digest + ";"
	}
	return sum
}

func (h half) Sum(_ context.Context, chunk Chunk) (Sum, error) {
	h.w.turn()
	return sumOf(h.in(chunk)), nil
}

func (h half) List(_ context.Context, chunk Chunk, rowsMax int) ([]Row, error) {
	h.w.turn()
	rows := h.in(chunk)
	return rows[:min(len(rows), rowsMax)], nil
}

// Look sees each row at another moment.
func (h half) Look(_ context.Context, _ string, keys []string) ([]Row, error) {
	var out []Row
	for _, key := range keys {
		h.w.turn()
		if c, found := h.rows()[key]; found {
			out = append(out, h.row(key, c))
		}
	}
	return out, nil
}

func (h half) Next(_ context.Context, after Chunk, _ int) (Page, error) {
	h.w.turn()
	chunk := Chunk{From: after.To}
	rows := h.in(chunk)
	if size := 1 + h.w.random.IntN(10); len(rows) > size {
		chunk.To, rows = rows[size].Key, rows[:size]
	}
	return Page{Chunk: chunk, Sum: sumOf(rows), More: chunk.To != ""}, nil
}

func (h half) Total(context.Context) (int64, error) { return int64(len(h.w.source)), nil }

func (h half) Head(context.Context) (change.Position, error) {
	h.w.turn()
	return h.w.position, nil
}

func (h half) Settle(context.Context) error {
	h.w.show()
	h.w.turn()
	return nil
}

// remembering is a source that knows its history.
type remembering struct{ half }

func (r remembering) Was(_ context.Context, key RowKey, from, upTo change.Position, tell func(Row, bool)) error {
	state := write{deleted: true}
	tellState := func() { tell(r.row(key.Key, cell{value: state.value, version: state.at.String()}), !state.deleted) }
	toldFirst := false
	for _, one := range r.w.log {
		if one.at > from && !toldFirst {
			toldFirst = true
			tellState()
		}
		if one.key == key.Key && one.at <= upTo {
			state = one
			if one.at > from {
				tellState()
			}
		}
	}
	if !toldFirst {
		tellState()
	}
	return nil
}

func (w *world) sides() (source, target half) {
	return half{w: w, rows: func() map[string]cell { return w.source }}, half{w: w, rows: func() map[string]cell { return w.target }, bare: w.plain}
}

// config compares the two halves.
func (w *world) config(source Source, target Side) Config {
	return Config{
		Source: source, Target: target, Limit: 50, Poll: time.Microsecond,
		Reached: func(context.Context) (change.Position, error) {
			w.turn()
			if w.brought == len(w.log) {
				return w.position, nil
			}
			return w.log[w.brought].at - 1, nil
		},
		Pace: func(context.Context, int) error { return nil },
	}
}

// TestWhatIsNamedIsWhatWasPlanted, from many seeds: rows are written, hidden for a while and brought at every look, and
// exactly the rows that were damaged are named.
func TestWhatIsNamedIsWhatWasPlanted(t *testing.T) {
	kinds, retried := map[Kind]int{}, 0
	for seed := range uint64(400) {
		w := newWorld(seed)
		w.plant()
		half, target := w.sides()
		var source Source = half
		if seed%2 == 0 {
			source = remembering{half}
		}
		config := w.config(source, target)
		config.Tell = func(p Progress) {
			if p.Pending > len(w.planted) {
				retried++
			}
		}
		report, err := Run(t.Context(), config)
		require.NoError(t, err)
		named := map[string]bool{}
		for _, one := range report.Differences {
			named[one.Key] = true
			kinds[one.Kind]++
			require.True(t, w.planted[one.Key], "seed %d: %+v was not damaged", seed, one)
			if one.Kind == Different {
				require.Equal(t, []string{"v"}, one.Columns)
			}
		}
		for key := range w.planted {
			require.True(t, named[key], "seed %d: %s was damaged, and not named: %+v", seed, key, report)
		}
		if seed%2 == 0 {
			require.Zero(t, report.UnsettledCount, "seed %d: who remembers settles everything", seed)
		}
		require.False(t, report.Limited)
	}
	require.Len(t, kinds, 3)
	require.Positive(t, retried)
}

// TestWithoutSettlingThereAreFalseAlarms: the test above would notice.
func TestWithoutSettlingThereAreFalseAlarms(t *testing.T) {
	for seed := range uint64(3000) {
		w := newWorld(seed)
		source, target := w.sides()
		report, err := Run(t.Context(), w.config(hasty{source}, target))
		require.NoError(t, err)
		if len(report.Differences) > 0 {
			return
		}
	}
	t.Fatal("no false alarm")
}

type hasty struct{ half }

func (h hasty) Settle(context.Context) error { return nil }

// restless is a source with a row that is another one at every look.
type restless struct{ half }

func (r restless) Look(ctx context.Context, table string, keys []string) ([]Row, error) {
	version := r.w.next()
	r.w.source["still-00"] = cell{value: "v" + version, version: version}
	return r.half.Look(ctx, table, keys)
}

func TestARowThatChangesAllTheTimeIsSaidToBeUnsettled(t *testing.T) {
	w := newWorld(3)
	w.busy = 0
	source, target := w.sides()
	w.source["still-00"] = cell{value: "v", version: "v"}
	report, err := Run(t.Context(), w.config(restless{source}, target))
	require.NoError(t, err)
	require.Empty(t, report.Differences)
	require.Equal(t, []Unsettled{{Key: "still-00", Why: "changed each time that it was looked at"}}, report.Unsettled)
	require.Equal(t, 1, report.UnsettledCount)
}

func TestATargetThatStandsStillIsSaidSo(t *testing.T) {
	w := newWorld(1)
	w.busy = 3
	source, target := w.sides()
	config := w.config(source, target)
	config.Reached = func(context.Context) (change.Position, error) { return 5, nil }
	config.ReachMax = time.Millisecond
	w.plant()
	report, err := Run(t.Context(), config)
	require.NoError(t, err)
	require.Empty(t, report.Differences)
	require.Positive(t, report.UnsettledCount)
	require.Contains(t, report.Unsettled[0].Why, "did not come to position")
}

func TestMoreDifferencesThanAreNamedEndIt(t *testing.T) {
	w := newWorld(2)
	w.busy = 0
	for key := range w.target {
		w.target[key] = cell{value: "other", version: w.next()}
	}
	source, target := w.sides()
	config := w.config(source, target)
	config.Limit = 7
	report, err := Run(t.Context(), config)
	require.NoError(t, err)
	require.Len(t, report.Differences, 7)
	require.True(t, report.Limited)
}

func TestJudge(t *testing.T) {
	row := func(version, digest string) seen {
		return seen{there: true, row: Row{Version: version, Digest: digest}}
	}
	for name, test := range map[string]struct {
		before         suspect
		target, source seen
		want           verdict
	}{
		"the target has what the source had":            {suspect{source: row("1", "a")}, row("9", "a"), row("2", "b"), verdictSame},
		"the target has what the source has":            {suspect{source: row("1", "a")}, row("9", "b"), row("2", "b"), verdictSame},
		"both have none":                                {suspect{source: row("1", "a")}, seen{}, seen{}, verdictSame},
		"one version, another row":                      {suspect{source: row("1", "a")}, row("9", "c"), row("1", "a"), verdictDiffers},
		"one version, no row":                           {suspect{source: row("1", "a")}, seen{}, row("1", "a"), verdictDiffers},
		"two versions":                                  {suspect{source: row("1", "a")}, row("9", "c"), row("2", "b"), verdictAgain},
		"none, and the first look at the target":        {suspect{}, row("9", "c"), seen{}, verdictAgain},
		"none, and the same row in the target":          {suspect{known: true, target: row("9", "c")}, row("9", "c"), seen{}, verdictDiffers},
		"none, and another row in the target":           {suspect{known: true, target: row("8", "c")}, row("9", "c"), seen{}, verdictAgain},
		"none, and now a row in the target":             {suspect{known: true}, row("9", "c"), seen{}, verdictAgain},
		"none, and writes can't be told apart, twice":   {suspect{known: true, target: row("", "c"), held: 1}, row("", "c"), seen{}, verdictAgain},
		"none, and writes can't be told apart, at last": {suspect{known: true, target: row("", "c"), held: 2}, row("", "c"), seen{}, verdictDiffers},
		"gone meanwhile":                                {suspect{source: row("1", "a")}, row("9", "c"), seen{}, verdictAgain},
		"come meanwhile":                                {suspect{known: true, target: row("9", "c")}, row("9", "c"), row("3", "d"), verdictAgain},
	} {
		t.Run(name, func(t *testing.T) {
			got, _ := judge(test.before, test.target, test.source)
			require.Equal(t, test.want, got)
		})
	}
}
