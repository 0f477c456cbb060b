package sink

import (
	"context"

	"fencerow/change"
	"fencerow/fence"
)

// Inspector is a sink that can say what it keeps beside its data. Inspect changes nothing that anybody relies on, so
// that it may be asked while others write.
type Inspector interface {
	Inspect(ctx context.Context) (Kept, error)
}

// Kept is what a sink keeps of a changefeed. A Head that does not exist says that it keeps nothing.
type Kept struct {
	Head Head
	Map  Map
	// Live says that the marks in Map are those of now. Else they are lower bounds: a writer's own are found elsewhere.
	Live bool
	// Others are the heads of all changefeeds, of any cluster, that are known to use the same target system.
	Others []Head
}

// Highest returns the highest epoch that the sink has seen.
func (k Kept) Highest() fence.Epoch {
	highest := k.Head.Floor
	for _, held := range k.Map.Held() {
		if epoch := held.Token.Epoch(); highest.OlderThan(epoch) {
			highest = epoch
		}
	}
	return highest
}

// Mark returns up to where everything that was ever claimed is done, and false if nothing was, or only parts between
// which something is missing.
func (k Kept) Mark() (change.Position, bool) {
	held := k.Map.Held()
	if len(held) == 0 {
		return 0, false
	}
	lowest := held[0].Mark
	for i := 1; i < len(held); i++ {
		if string(held[i-1].Span.End) != string(held[i].Span.Start) {
			return 0, false
		}
		lowest = change.Earlier(lowest, held[i].Mark)
	}
	return lowest.Whole(), true
}
