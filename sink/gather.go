package sink

import (
	"context"
	"errors"
)

// ErrTogether says that pages can't be written in one step. None of them is durable.
var ErrTogether = errors.New("sink: these pages can't be written together")

// Gathering is a writer that can take page after page of a snapshot in one atomic step, where beginning a step costs more than what it
// writes, as where a server fills a table by one statement.
type Gathering interface {
	Writer
	// Gathers reports whether that is so here.
	Gathers() bool
	// TakesLines reports whether Gather takes pages whose rows are lines.
	TakesLines() bool
	// Gather takes a page of a snapshot as Write does, except that nothing of it need be durable before Settle, or a Write, which settles
	// what was gathered first. It may return before the page was sent; what is wrong with it a later call says then. Until it is
	// settled, other writers of a part of the span may wait for it: the caller settles within a few seconds.
	//
	// open says whether anything is left to be settled; else all of it is durable. nil: taken. ErrTogether: what was gathered can't be
	// written in one step, none of it is durable, and the writer is done with; it is to be read again, and written page by page. Others
	// are as for Write, for all that was gathered.
	Gather(ctx context.Context, page Batch) (open bool, err error)
	// Settle makes durable what was gathered, with the marks of all its pages; nil if there is nothing. Errors are as for Gather.
	Settle(ctx context.Context) error
}
