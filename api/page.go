package api

import (
	"fmt"
	"net/http"
	"strconv"

	"fencerow/api/shape"
	"fencerow/changefeed"
)

// window is which part of a list was asked for.
type window struct {
	limit int
	after string
}

// parseWindow reads ?limit= and ?after=.
func parseWindow(r *http.Request) (window, error) {
	query := r.URL.Query()
	out := window{limit: listDefault, after: query.Get("after")}
	text := query.Get("limit")
	if text == "" {
		return out, nil
	}
	limit, err := strconv.Atoi(text)
	if err != nil || limit < 1 || limit > listMax {
		return out, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "limit", Value: fmt.Sprintf("%.100q", text),
			Detail: "is out of bounds", Cure: fmt.Sprintf("give 1 to %d", listMax),
		}
	}
	out.limit = limit
	return out, nil
}

// page cuts from the items what follows the first skipped ones. next is how the page after an item is asked for.
func page[T any](items []T, skipped int, w window, next func(T) string) shape.List[T] {
	items = items[skipped:]
	if len(items) <= w.limit {
		return shape.List[T]{Items: items}
	}
	items = items[:w.limit]
	return shape.List[T]{Items: items, Next: next(items[len(items)-1])}
}

func badAfter(after string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "after", Value: fmt.Sprintf("%.100q", after), Detail: "does not name where a page begins",
		Cure: "give the next of the page before",
	}
}
