package postgres

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"

	"fencerow/change"
	"fencerow/source"
)

func TestPagesAreBounded(t *testing.T) {
	of := &table{relation: relation("t", intColumn("id", 1), textColumn("v", 0))}
	whole := partOf(of, of.span())
	settings := &snapshots{exporter: &exporter{Source: &Source{}}, keylessMax: 1 << 10}
	settings.SnapshotChunk = 10
	var given []source.Event
	give := func(event source.Event) error { given = append(given, event); return nil }
	pages := newPages(&whole, 7, settings, 2000, give)
	values := [][]byte{nil, nil}
	for i := range 100 {
		values[0], values[1] = fmt.Append(nil, i), nil
		if i%2 == 0 {
			values[1] = make([]byte, 20*(i%10))
		}
		require.NoError(t, pages.add(values))
		values[0][0] = 'x' // what was added is a copy
	}
	require.NoError(t, pages.finish())
	rows := 0
	for i, page := range given {
		require.Equal(t, change.At(7), page.To)
		require.LessOrEqual(t, len(page.Changes), 10)
		size := 0
		for _, one := range page.Changes[:len(page.Changes)-1] {
			size += one.Size()
		}
		require.Less(t, size, 2000)
		if i > 0 {
			require.Equal(t, given[i-1].Span.End, page.Span.Start)
		}
		for _, one := range page.Changes {
			require.True(t, page.Span.Contains(one.Key))
			cells := one.After.(*change.Tuple).Cells
			require.Equal(t, fmt.Sprint(rows), string(cells[0]))
			require.Equal(t, rows%2 == 0, cells[1] != nil)
			rows++
		}
	}
	require.Equal(t, 100, rows)
	require.Equal(t, whole.span.Start, given[0].Span.Start)
	require.Equal(t, whole.span.End, given[len(given)-1].Span.End)
}

func TestTheRateIsOfAllRows(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &snapshots{limiter: rate.NewLimiter(100, 100)}
		began := time.Now()
		for range 10 {
			require.NoError(t, s.pace(t.Context(), 250))
		}
		require.Equal(t, 24*time.Second, time.Since(began).Round(time.Second), "2500 rows, of which 100 at once")
	})
}

func TestEmptyTextThatComesFirstIsNotNull(t *testing.T) {
	of := &table{relation: relation("t", textColumn("note", 0), intColumn("id", 1), textColumn("more", 0))}
	whole := partOf(of, of.span())
	settings := &snapshots{exporter: &exporter{Source: &Source{}}}
	settings.SnapshotChunk = 10
	pages := newPages(&whole, 7, settings, 2000, func(page source.Event) error {
		require.Equal(t, [][]byte{{}, []byte("1"), nil}, page.Changes[0].After.(*change.Tuple).Cells)
		return nil
	})
	require.NoError(t, pages.add([][]byte{{}, []byte("1"), nil}))
	require.NoError(t, pages.finish())
}
