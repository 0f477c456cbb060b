package verifysql

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/verify"
)

// server has one table with a number as its key, and understands the statements that are made for it.
type server struct {
	rows   map[int]string // "NULL" is NULL
	loses  int            // answers that break off
	reads  []string
	absent bool
}

var (
	borders = regexp.MustCompile(`k(>|<=)(\d+)`)
	listed  = regexp.MustCompile(`\(k\) IN \((.*?)\)(?: |$)`)
	limits  = regexp.MustCompile(`LIMIT (\d+)$`)
)

func (s *server) Read(_ context.Context, text string, begin func(), row func([][]byte) error) error {
	s.reads = append(s.reads, text)
	meets, most := conditions(text)
	for {
		begin()
		given := 0
		for _, key := range slices.Sorted(maps.Keys(s.rows)) {
			if given == most || s.loses > 0 && given == 2 {
				break
			}
			if !meets(key) {
				continue
			}
			given++
			if err := row(s.cells(text, key)); err != nil {
				return err
			}
		}
		if s.loses == 0 {
			return nil
		}
		s.loses--
	}
}

// conditions reads what stands behind WHERE and LIMIT.
func conditions(text string) (meets func(int) bool, most int) {
	most = -1
	if found := limits.FindStringSubmatch(text); found != nil {
		most, _ = strconv.Atoi(found[1])
	}
	found := borders.FindAllStringSubmatch(text, -1)
	keys := map[string]bool{}
	in := listed.FindStringSubmatch(text)
	if in != nil {
		for key := range strings.SplitSeq(in[1], ", ") {
			keys[key] = true
		}
	}
	return func(key int) bool {
		for _, border := range found {
			if n, _ := strconv.Atoi(border[2]); (border[1] == ">") != (key > n) {
				return false
			}
		}
		return in == nil || keys["("+strconv.Itoa(key)+")"]
	}, most
}

func (s *server) cells(text string, key int) [][]byte {
	cells := [][]byte{[]byte("v" + s.rows[key])}
	if strings.Contains(text, "text(k)") {
		cells = append(cells, []byte(strconv.Itoa(key)))
	}
	switch {
	case !strings.Contains(text, "value"):
	case s.rows[key] == "NULL":
		cells = append(cells, nil)
	default:
		cells = append(cells, []byte(s.rows[key]))
	}
	return cells
}

func (s *server) Compare(columns []string, than string, values []string) string {
	return columns[0] + than + values[0]
}
func (s *server) Among(columns []string, rows [][]string) string { return In(columns, rows) }
func (s *server) TimedOut(error) bool                            { return false }
func (s *server) NoValue(error) bool                             { return false }

// side is a side of the server, whose values are in capitals, or not.
func (s *server) side(form func(string) string, keys int) *Side {
	table := Table{
		Name: "t", From: "t", Version: "version",
		Columns: []Column{{Name: "value", Expression: "value", Form: func(cell []byte) ([]byte, error) {
			return []byte(form(string(cell))), nil
		}}},
	}
	if keys > 0 {
		table.Key = []Key{{Name: "k", Text: "text(k)", Literal: func(text string) (string, error) {
			if text == "13" {
				return "", errors.New("is unlucky")
			}
			return text, nil
		}}}
	}
	if s.absent {
		table.Absent = func(context.Context) (bool, error) { return s.absent, nil }
	}
	return &Side{Server: s, Tables: []Table{table}}
}

// source is a side that stands still.
type source struct{ *Side }

func (source) Total(context.Context) (int64, error)          { return 0, nil }
func (source) Head(context.Context) (change.Position, error) { return 1, nil }
func (source) Settle(context.Context) error                  { return nil }

func compare(t *testing.T, ours, theirs *Side) verify.Report {
	t.Helper()
	report, err := verify.Run(t.Context(), verify.Config{
		Source: source{ours}, Target: theirs, Pace: func(context.Context, int) error { return nil },
		Reached: func(context.Context) (change.Position, error) { return 1, nil },
	})
	require.NoError(t, err)
	return report
}

func filled(form func(string) string) map[int]string {
	out := map[int]string{}
	for i := range 2500 {
		out[i] = form("a" + strconv.Itoa(i))
	}
	out[7] = "NULL"
	return out
}

func asIs(text string) string { return text }

// Values that the two write in different ways are the same, rows that differ are named with their columns, and an answer that broke off
// is not counted twice.
func TestSidesThatWriteValuesInTheirOwnWay(t *testing.T) {
	for _, apart := range []bool{false, true} {
		ours, theirs := &server{rows: filled(asIs), loses: 2}, &server{rows: filled(strings.ToUpper), loses: 2}
		left, right := ours.side(asIs, 1), theirs.side(strings.ToLower, 1)
		left.Tables[0].Apart, right.Tables[0].Apart = apart, apart
		left.Tables[0].Columns[0].Form = func(cell []byte) ([]byte, error) {
			if string(cell) == "refused" {
				return nil, errors.New("is refused")
			}
			return cell, nil
		}
		require.Empty(t, compare(t, left, right).Differences)
		theirs.rows[1], theirs.rows[7], theirs.rows[5000] = "other", "", "stray"
		ours.rows[9], theirs.rows[9] = "refused", "refused"
		delete(theirs.rows, 2400)
		report := compare(t, left, right)
		require.Equal(t, int64(2500), report.Rows)
		require.ElementsMatch(t, []verify.Difference{
			{Kind: verify.Different, Table: "t", Key: `["1"]`, Columns: []string{"value"}},
			{Kind: verify.Different, Table: "t", Key: `["7"]`, Columns: []string{"value"}},
			{Kind: verify.Different, Table: "t", Key: `["9"]`, Columns: []string{"value"}},
			{Kind: verify.Extra, Table: "t", Key: `["5000"]`},
			{Kind: verify.Missing, Table: "t", Key: `["2400"]`},
		}, report.Differences, "apart: %v", apart)
	}
}

func TestAPageIsShortWhereRowsAreWide(t *testing.T) {
	wide := &server{rows: map[int]string{}}
	for i := range 300 {
		wide.rows[i] = strings.Repeat("x", 100<<10)
	}
	side, chunk := wide.side(asIs, 1), verify.Chunk{}
	for rows := int64(0); rows < 300; {
		page, err := side.Next(t.Context(), chunk, verify.ChunkRows)
		require.NoError(t, err)
		require.LessOrEqual(t, page.Sum.Rows, int64(pageRowsFirst))
		if chunk.Table != "" {
			require.LessOrEqual(t, page.Sum.Rows*(100<<10), int64(pageBytes))
		}
		rows, chunk = rows+page.Sum.Rows, page.Chunk
	}
	require.Greater(t, len(wide.reads), 3)
}

func TestATableWithoutAKeyIsAMultiset(t *testing.T) {
	ours, theirs := &server{rows: map[int]string{1: "a", 2: "b", 3: "b"}}, &server{rows: map[int]string{7: "b", 8: "a", 9: "b"}}
	require.Empty(t, compare(t, ours.side(asIs, 0), theirs.side(asIs, 0)).Differences)
	theirs.rows[8] = "b"
	require.Equal(t, []verify.Difference{{Kind: verify.Different, Table: "t"}}, compare(t, ours.side(asIs, 0), theirs.side(asIs, 0)).Differences)
	for i := range verify.WholeRowsMax + 1 {
		ours.rows[i] = "a"
	}
	report := compare(t, ours.side(asIs, 0), theirs.side(asIs, 0))
	require.Len(t, report.Left, 1)
	require.Contains(t, report.Left[0].Why, "more than 200000 rows")
}

// A table that the target has not is one without rows, until it is made: then nothing more is said of it.
func TestATableThatIsNotThere(t *testing.T) {
	ours, theirs := &server{rows: map[int]string{}}, &server{absent: true}
	require.Empty(t, compare(t, ours.side(asIs, 1), theirs.side(asIs, 1)).Differences)
	require.Empty(t, compare(t, ours.side(asIs, 0), theirs.side(asIs, 0)).Differences)
	ours.rows[1] = "a"
	require.Equal(t, []verify.Difference{{Kind: verify.Missing, Table: "t", Key: `["1"]`}}, compare(t, ours.side(asIs, 1), theirs.side(asIs, 1)).Differences)
	made := theirs.side(asIs, 1)
	theirs.absent = false
	report := compare(t, ours.side(asIs, 1), made)
	require.Empty(t, report.Differences)
	require.Len(t, report.Left, 1)
}

func TestAKeyThatTheTargetCantHave(t *testing.T) {
	side := (&server{rows: map[int]string{13: "a", 14: "b"}}).side(asIs, 1)
	rows, err := side.Look(t.Context(), "t", []string{`["13"]`, `["14"]`})
	require.NoError(t, err)
	require.Len(t, rows, 1, "it can't be there")
	_, err = side.Sum(t.Context(), verify.Chunk{Table: "t", From: `["13"]`})
	leave, ok := errors.AsType[*verify.Leave](err)
	require.True(t, ok, err)
	require.Contains(t, leave.Why, "is unlucky")
}

func TestKeysThatAreNoValuesAreFoundOneByOne(t *testing.T) {
	var asked []int
	bad := errors.New("no number")
	rows, err := Bisect([]string{"1", "2", "x", "4", "5"}, func(err error) bool { return errors.Is(err, bad) }, func(keys []string) ([]verify.Row, error) {
		asked = append(asked, len(keys))
		var out []verify.Row
		for _, key := range keys {
			if key == "x" {
				return nil, fmt.Errorf("look: %w", bad)
			}
			out = append(out, verify.Row{Key: key})
		}
		return out, nil
	})
	require.NoError(t, err)
	require.Equal(t, []verify.Row{{Key: "1"}, {Key: "2"}, {Key: "4"}, {Key: "5"}}, rows)
	require.Equal(t, []int{5, 2, 3, 1, 2}, asked)
}
