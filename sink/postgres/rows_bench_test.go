//go:build databases

package postgres_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
)

// BenchmarkRows measures what a writer does of each kind of change, in batches as a backlog fills them.
func BenchmarkRows(b *testing.B) {
	const rows = 50_000
	accounts := relation("accounts", intKey("aid", 1), change.Column{Name: "bid", Type: "integer", Kind: change.KindInt, Null: true},
		change.Column{Name: "abalance", Type: "integer", Kind: change.KindInt, Null: true}, text("filler"))
	history := relation("history", change.Column{Name: "tid", Type: "integer", Kind: change.KindInt, Null: true}, text("filler"))
	filler := strings.Repeat(" ", 84)
	kinds := []struct {
		name string
		fill func(f *feed, round int)
	}{
		{"insert", func(f *feed, round int) {
			for i := range rows {
				f.create(accounts, strconv.Itoa((round+1)*rows+i), "1", "0", filler)
			}
		}},
		{"append", func(f *feed, _ int) {
			for i := range rows {
				f.create(history, strconv.Itoa(i), filler)
			}
		}},
		{"update", func(f *feed, round int) {
			for i := range rows {
				f.update(accounts, strconv.Itoa(i*7919%rows), "1", strconv.Itoa(round), filler)
			}
		}},
		{"patch", func(f *feed, round int) {
			for i := range rows {
				f.add(change.OpUpdate, nil, &change.Tuple{
					Of: accounts, Cells: cells(strconv.Itoa(i*7919%rows), "1", strconv.Itoa(round), null), Unchanged: []bool{3: true},
				})
			}
		}},
		{"delete", func(f *feed, round int) {
			for i := range rows {
				f.create(accounts, strconv.Itoa((round+1)*rows+i), "1", "0", filler)
			}
			for i := range rows {
				f.remove(accounts, strconv.Itoa(i), null, null, null)
			}
		}},
		{"mix", func(f *feed, round int) {
			for i := range rows / 4 {
				f.update(accounts, strconv.Itoa(i*7919%rows), "1", strconv.Itoa(round), filler)
				f.update(accounts, strconv.Itoa(i%10), "1", strconv.Itoa(i), filler)
				f.update(accounts, strconv.Itoa(i%100), "1", strconv.Itoa(i), filler)
				f.create(history, strconv.Itoa(i), filler)
			}
		}},
	}
	for _, kind := range kinds {
		b.Run(kind.name, func(b *testing.B) {
			x := newTables(b, nil)
			w := x.claim(b, changefeed.Whole(), change.At(1))
			f := &x.feed
			for i := range rows {
				f.create(accounts, strconv.Itoa(i), "1", "0", filler)
			}
			require.NoError(b, w.Write(b.Context(), f.batch()))
			x.exec(b, "ANALYZE")
			n := 0
			b.ResetTimer()
			for round := range b.N {
				b.StopTimer()
				kind.fill(f, round)
				batch := f.batch()
				n += len(batch.Changes)
				b.StartTimer()
				require.NoError(b, w.Write(b.Context(), batch))
			}
			b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "changes/s")
		})
	}
	b.Run("page", func(b *testing.B) {
		x := newTables(b, nil)
		w := x.claim(b, changefeed.Whole(), change.Mark{})
		f := &x.feed
		start, _ := change.TableSpan("public", "accounts")
		var border []byte
		b.ResetTimer()
		for round := range b.N {
			b.StopTimer()
			for i := range rows {
				f.create(accounts, strconv.Itoa(round*rows+i), "1", "0", filler)
			}
			end := append(slices.Clip(start), fmt.Sprintf("%019d", (round+1)*rows)...)
			page := sink.Batch{Changes: f.changes, Span: changefeed.Span{Start: border, End: end}, To: change.At(9), Snapshot: true}
			border = end
			for i := range page.Changes {
				page.Changes[i].Op = change.OpRead
			}
			f.changes = nil
			b.StartTimer()
			require.NoError(b, w.Write(b.Context(), page))
		}
		b.ReportMetric(float64(rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
	})
}
