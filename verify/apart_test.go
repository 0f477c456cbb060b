package verify

import (
	"context"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// turned is a source that has its rows in an order of its own: by the last letter of their keys first.
type turned struct{ half }

func backwards(text string) string {
	letters := []byte(text)
	slices.Reverse(letters)
	return string(letters)
}

func (t turned) in(chunk Chunk) []Row {
	rows := t.half.in(Chunk{})
	slices.SortFunc(rows, func(a, b Row) int { return strings.Compare(backwards(a.Key), backwards(b.Key)) })
	return slices.DeleteFunc(rows, func(row Row) bool {
		key := backwards(row.Key)
		return key < backwards(chunk.From) || chunk.To != "" && key >= backwards(chunk.To)
	})
}

func (t turned) Next(_ context.Context, after Chunk, _ int) (Page, error) {
	t.w.turn()
	chunk := Chunk{From: after.To}
	rows := t.in(chunk)
	if size := 1 + t.w.random.IntN(10); len(rows) > size {
		chunk.To = rows[size].Key
	}
	return Page{Chunk: chunk, More: chunk.To != "", Apart: true}, nil
}

func (t turned) List(_ context.Context, chunk Chunk, rowsMax int) ([]Row, error) {
	t.w.turn()
	rows := t.in(chunk)
	return rows[:min(len(rows), rowsMax)], nil
}

// Keys implements [Keyed].
func (h half) Keys(_ context.Context, _, after string, rowsMax int) ([]string, error) {
	h.w.turn()
	keys := slices.DeleteFunc(slices.Sorted(maps.Keys(h.rows())), func(key string) bool { return key <= after })
	return keys[:min(len(keys), rowsMax)], nil
}

// unsummed is a target that must not be asked for ranges.
type unsummed struct{ half }

func (unsummed) Sum(context.Context, Chunk) (Sum, error) {
	panic("a range of keys holds other rows here")
}

func (unsummed) List(context.Context, Chunk, int) ([]Row, error) {
	panic("a range of keys holds other rows here")
}

// TestRowsThatTheSidesHaveInOtherOrders are compared by their keys, and what only the target has is found.
func TestRowsThatTheSidesHaveInOtherOrders(t *testing.T) {
	for seed := range uint64(200) {
		w := newWorld(seed)
		w.plant()
		source, target := w.sides()
		report, err := Run(t.Context(), w.config(turned{source}, unsummed{target}))
		require.NoError(t, err)
		named := map[string]bool{}
		for _, one := range report.Differences {
			named[one.Key] = true
		}
		require.Equal(t, w.planted, named, "seed %d", seed)
	}
}

// lump is a side whose table has no keys: it is one row.
type lump struct{ half }

func (l lump) row() Row {
	var values, versions []string
	for _, row := range l.in(Chunk{}) {
		values, versions = append(values, row.Digest), append(versions, row.Key+row.Version)
	}
	slices.Sort(values)
	row := Row{Whole: true, Version: strings.Join(versions, " "), Digest: strings.Join(values, " ")}
	if l.bare {
		row.Version = ""
	}
	return row
}

func (l lump) Next(context.Context, Chunk, int) (Page, error) {
	l.w.turn()
	row := l.row()
	return Page{Sum: Sum{Digest: row.Digest}}, nil
}

func (l lump) Sum(context.Context, Chunk) (Sum, error) {
	l.w.turn()
	return Sum{Digest: l.row().Digest}, nil
}

func (l lump) List(context.Context, Chunk, int) ([]Row, error) {
	l.w.turn()
	return []Row{l.row()}, nil
}

func (l lump) Look(ctx context.Context, _ string, _ []string) ([]Row, error) {
	return l.List(ctx, Chunk{}, 1)
}

// TestATableWithoutKeysIsComparedAsAWhole: nothing is said of it that is not so, whatever comes and goes meanwhile, and what was done to
// it is found once it stands still.
func TestATableWithoutKeysIsComparedAsAWhole(t *testing.T) {
	found, unsettled := 0, 0
	for seed := range uint64(600) {
		w := newWorld(seed)
		if seed%3 == 0 {
			w.plant()
			w.busy = 0
		}
		source, target := w.sides()
		report, err := Run(t.Context(), w.config(lump{source}, lump{target}))
		require.NoError(t, err)
		unsettled += report.UnsettledCount
		if seed%3 > 0 {
			require.Empty(t, report.Differences, "seed %d", seed)
			continue
		}
		require.Equal(t, []Difference{{Kind: Different}}, report.Differences, "seed %d", seed)
		found++
	}
	require.Equal(t, 200, found)
	require.Positive(t, unsettled)
}

// shelf is a side with some tables that stand still, of which it can't go on with some.
type shelf struct {
	half
	tables map[string]string // value of the one row of each
	leave  map[string]string // what is asked when it can't: next, sum or look
}

func (s *shelf) ask(table, what string) error {
	if s.leave[table] == what {
		return &Leave{Why: "it was " + what}
	}
	return nil
}

func (s *shelf) rowOf(table string) Row {
	return Row{Key: "k", Version: s.tables[table], Digest: s.tables[table]}
}

func (s *shelf) Next(_ context.Context, after Chunk, _ int) (Page, error) {
	names := slices.Sorted(maps.Keys(s.tables))
	at := slices.Index(names, after.Table) + 1
	if at == len(names) {
		return Page{}, ErrEnd
	}
	page := Page{Chunk: Chunk{Table: names[at]}, Sum: sumOf([]Row{s.rowOf(names[at])}), More: true}
	return page, s.ask(names[at], "next")
}

func (s *shelf) Sum(_ context.Context, chunk Chunk) (Sum, error) {
	return sumOf([]Row{s.rowOf(chunk.Table)}), s.ask(chunk.Table, "sum")
}

func (s *shelf) List(_ context.Context, chunk Chunk, _ int) ([]Row, error) {
	return []Row{s.rowOf(chunk.Table)}, nil
}

func (s *shelf) Look(_ context.Context, table string, _ []string) ([]Row, error) {
	return []Row{s.rowOf(table)}, s.ask(table, "look")
}

// TestATableThatCantBeReadIsLeft, and the others are compared.
func TestATableThatCantBeReadIsLeft(t *testing.T) {
	w := newWorld(1)
	w.busy = 0
	half, _ := w.sides()
	source, target := map[string]string{}, map[string]string{}
	for i := range 6 {
		source["t"+strconv.Itoa(i)], target["t"+strconv.Itoa(i)] = "same", "same"
	}
	target["t2"], target["t5"] = "other", "other"
	report, err := Run(t.Context(), w.config(
		&shelf{half: half, tables: source, leave: map[string]string{"t0": "next", "t3": "next"}},
		&shelf{half: half, tables: target, leave: map[string]string{"t1": "sum", "t2": "look"}},
	))
	require.NoError(t, err)
	require.Equal(t, []Difference{{Kind: Different, Table: "t5", Key: "k"}}, report.Differences)
	require.ElementsMatch(t, []Left{
		{Table: "t0", Why: "it was next"}, {Table: "t3", Why: "it was next"}, {Table: "t1", Why: "it was sum"}, {Table: "t2", Why: "it was look"},
	}, report.Left)
	require.Zero(t, report.UnsettledCount)
}
