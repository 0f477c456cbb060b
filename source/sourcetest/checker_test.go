package sourcetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
)

func valueOf(row change.Row) string { return string(row.(*change.KV).Value) }

func span(start, end string) changefeed.Span {
	return changefeed.Span{Start: []byte(start), End: []byte(end)}
}

func changed(position change.Position, index uint32, key, value string) change.Change {
	return change.Change{
		Position: position, Index: index, Op: change.OpUpdate, Key: []byte(key), After: &change.KV{Value: []byte(value)},
	}
}

func row(position change.Position, index uint32, key, value string) change.Change {
	c := changed(position, index, key, value)
	c.Op = change.OpRead
	return c
}

var truth = Log{
	{Position: 5, Key: "a", Value: "1"},
	{Position: 6, Key: "b", Value: "2"},
	{Position: 6, Key: "c", Value: "3"},
	{Position: 7, Key: "a", Value: "4"},
	{Position: 8, Key: "b", Deleted: true},
}

func good() []source.Event {
	all := span("a", "z")
	deleted := change.Change{Position: 8, Op: change.OpDelete, Key: []byte("b")}
	return []source.Event{
		{Span: all, To: change.At(5), Changes: []change.Change{changed(5, 0, "a", "1")}},
		{Span: all, To: change.At(6), Changes: []change.Change{changed(6, 0, "b", "2"), changed(6, 1, "c", "3")}},
		{Span: all, To: change.At(7), Changes: []change.Change{changed(7, 0, "a", "4")}, Resolved: 8},
		{Span: all, To: change.At(8), Changes: []change.Change{deleted}},
		{Span: all, To: change.At(9)},
	}
}

func judge(mark change.Mark, events []source.Event) error {
	checker := NewChecker([]source.Piece{{Span: span("a", "z"), Mark: mark}}, valueOf)
	for _, event := range events {
		checker.Add(event)
	}
	return checker.Finish(truth)
}

func TestCheckerTakesWhatIsRight(t *testing.T) {
	require.NoError(t, judge(change.At(4), good()))
	require.NoError(t, judge(change.At(5), good()[1:]))
	page := source.Event{
		Span: span("a", "c"), To: change.At(7), Snapshot: true,
		Changes: []change.Change{row(7, 0, "a", "4"), row(7, 1, "b", "2")},
	}
	rest := source.Event{Span: span("c", "z"), To: change.At(7), Snapshot: true, Changes: []change.Change{row(7, 2, "c", "3")}}
	require.NoError(t, judge(change.Mark{}, append([]source.Event{page, rest}, good()[3:]...)))
}

// Hazard 73: a checker that can't fail.
func TestCheckerObjects(t *testing.T) {
	for name, spoil := range map[string]func([]source.Event) []source.Event{
		"a change is missing":          func(e []source.Event) []source.Event { e[2].Changes = nil; return e },
		"an event is missing":          func(e []source.Event) []source.Event { return append(e[:2], e[3:]...) },
		"an event is repeated":         func(e []source.Event) []source.Event { return append(e[:2], e[1:]...) },
		"events are swapped":           func(e []source.Event) []source.Event { e[0], e[1] = e[1], e[0]; return e },
		"a position is parted":         func(e []source.Event) []source.Event { e[1].Changes = e[1].Changes[:1]; return e },
		"changes are swapped":          func(e []source.Event) []source.Event { c := e[1].Changes; c[0], c[1] = c[1], c[0]; return e },
		"an index is wrong":            func(e []source.Event) []source.Event { e[2].Changes[0].Index = 1; return e },
		"a position is wrong":          func(e []source.Event) []source.Event { e[2].Changes[0].Position = 6; return e },
		"a key is wrong":               func(e []source.Event) []source.Event { e[2].Changes[0].Key = []byte("d"); return e },
		"a key is outside":             func(e []source.Event) []source.Event { e[2].Changes[0].Key = []byte("z"); return e },
		"a value is wrong":             func(e []source.Event) []source.Event { e[2].Changes[0] = changed(7, 0, "a", "5"); return e },
		"a delete is an update":        func(e []source.Event) []source.Event { e[3].Changes[0] = changed(8, 0, "b", ""); return e },
		"a change beyond the mark":     func(e []source.Event) []source.Event { e[2].To = change.At(6); return e },
		"a mark beyond the changes":    func(e []source.Event) []source.Event { e[0].To = change.At(6); return e },
		"resolved below what is given": func(e []source.Event) []source.Event { e[2].Resolved = 6; return e },
		"a part that is no page":       func(e []source.Event) []source.Event { e[2].Span = span("a", "b"); return e },
		"a span outside the request":   func(e []source.Event) []source.Event { e[2].Span = span("a", ""); return e },
		"a change too many": func(e []source.Event) []source.Event {
			e[4].Changes = []change.Change{changed(9, 0, "a", "9")}
			return e
		},
		"a page that misses a row": func(e []source.Event) []source.Event {
			page := source.Event{Span: span("a", "z"), To: change.At(7), Snapshot: true, Changes: []change.Change{row(7, 0, "a", "4")}}
			return append([]source.Event{page}, e[3:]...)
		},
		"a page with a row too many": func(e []source.Event) []source.Event {
			page := source.Event{Span: span("a", "b"), To: change.At(4), Snapshot: true, Changes: []change.Change{row(4, 0, "a", "1")}}
			return append([]source.Event{page}, e...)
		},
		"a read outside a snapshot": func(e []source.Event) []source.Event { e[2].Changes[0].Op = change.OpRead; return e },
	} {
		t.Run(name, func(t *testing.T) {
			require.Error(t, judge(change.At(4), spoil(good())))
		})
	}
}
