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

// Answered returns what becomes of a statement that is to be answered within some time, if something happens right before it.
func (s *Source) Answered(ctx context.Context, within time.Duration, before func()) error {
	s.patience.answer = within
	c, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer c.close()
	before()
	_, err = c.query(ctx, "SELECT 1")
	return err
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
