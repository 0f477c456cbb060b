package kvmem

import (
	"context"
	"fmt"
	"time"

	"fencerow/kv"
)

// TimeToLive returns a lease with the time that it lives on as TTL, in whole seconds rounded down, without renewing it.
func (m *Machine) TimeToLive(id kv.LeaseID) (kv.Lease, error) {
	l := m.leases[id]
	if l == nil {
		return kv.Lease{}, fmt.Errorf("kvmem: time to live: %w", kv.ErrLeaseNotFound)
	}
	return kv.Lease{Header: m.header(), ID: id, TTL: (l.expiry - m.now).Truncate(time.Second)}, nil
}

// TimeToLive returns how long a lease lives on.
func (s *Store) TimeToLive(ctx context.Context, id kv.LeaseID) (kv.Lease, error) {
	if err := s.begin(ctx, "time to live"); err != nil {
		return kv.Lease{}, err
	}
	s.server.mu.Lock()
	defer s.server.mu.Unlock()
	s.server.turned()
	return s.server.machine.TimeToLive(id)
}
