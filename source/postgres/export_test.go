//go:build databases

package postgres

import (
	"context"
	"time"
)

// Hasten has faults of the server borne for less long.
func (s *Source) Hasten(retry, takeover time.Duration) {
	s.patience.retry, s.patience.takeover = retry, takeover
}

// SlotName and AppendName are the names of what a source keeps at the server.
func (s *Source) SlotName() string   { return s.slotName() }
func (s *Source) AppendName() string { return s.appendName() }

// Keeping is the connection by which an owner looks after the publications. It returns what it does there again and again.
func (s *Source) Keeping(ctx context.Context) (revise func(context.Context) error, err error) {
	c, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	if err := s.sit(ctx, c, 0); err != nil {
		c.close()
		return nil, err
	}
	return func(ctx context.Context) error {
		defer c.close()
		return s.reviseTables(ctx, c)
	}, nil
}
