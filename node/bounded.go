package node

import (
	"context"
	"time"

	"fencerow/epochstore"
)

// bounded is a session as maintainers ask it.
type bounded struct{ *epochstore.Session }

// Bound returns a context that ends no later than the session's deadline as it stands now.
func (b bounded) Bound(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, release := b.Context(ctx)
	limited, cancel := context.WithTimeout(ctx, max(b.Remaining(), time.Nanosecond))
	return limited, func() {
		cancel()
		release()
	}
}
