package kvmem

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"fencerow/kv"
)

type lease struct {
	ttl    time.Duration
	expiry time.Duration // on the machine's clock
	keys   map[string]struct{}
}

// detach takes a key off its lease.
func (m *Machine) detach(pair kv.Pair) {
	if l := m.leases[pair.Lease]; l != nil {
		delete(l.keys, pair.Key)
	}
}

// Grant gives a lease of at least ttl, in whole seconds. Ids count up, so that runs repeat.
func (m *Machine) Grant(ttl time.Duration) (kv.Lease, error) {
	seconds := ttl / time.Second
	if ttl%time.Second > 0 {
		seconds++
	}
	if seconds > leaseTTLMax {
		return kv.Lease{}, ErrTTLTooLarge
	}
	granted := max(seconds*time.Second, kv.LeaseTTLMin) //nolint:durationcheck // a count of seconds
	m.lastLease++
	m.leases[m.lastLease] = &lease{ttl: granted, expiry: m.now + granted, keys: map[string]struct{}{}}
	return kv.Lease{Header: m.header(), ID: m.lastLease, TTL: granted}, nil
}

// KeepAlive renews a lease from now on.
func (m *Machine) KeepAlive(id kv.LeaseID) (kv.Lease, error) {
	l := m.leases[id]
	if l == nil {
		return kv.Lease{}, fmt.Errorf("kvmem: keep alive: %w", kv.ErrLeaseNotFound)
	}
	l.expiry = m.now + l.ttl
	return kv.Lease{Header: m.header(), ID: id, TTL: l.ttl}, nil
}

// Revoke ends a lease and deletes its keys, in order and in one revision.
func (m *Machine) Revoke(id kv.LeaseID) error {
	l := m.leases[id]
	if l == nil {
		return fmt.Errorf("kvmem: revoke: %w", kv.ErrLeaseNotFound)
	}
	w := &writes{m: m, revision: m.revision}
	for _, key := range slices.Sorted(maps.Keys(l.keys)) {
		pair, found := m.at(key, m.revision)
		if found {
			w.remove([]kv.Pair{pair})
		}
	}
	m.revision = w.revision
	delete(m.leases, id)
	return nil
}

// Now returns the machine's clock.
func (m *Machine) Now() time.Duration { return m.now }

// Advance turns the clock to now, which never goes back, and ends the leases that are over, the earliest first. It
// returns those.
func (m *Machine) Advance(now time.Duration) []kv.LeaseID {
	m.now = max(m.now, now)
	var over []kv.LeaseID
	for id, l := range m.leases {
		if l.expiry <= m.now {
			over = append(over, id)
		}
	}
	slices.SortFunc(over, func(a, b kv.LeaseID) int {
		return cmp.Or(cmp.Compare(m.leases[a].expiry, m.leases[b].expiry), cmp.Compare(a, b))
	})
	for _, id := range over {
		_ = m.Revoke(id) //nolint:errcheck // it is there
	}
	return over
}

// NextExpiry returns when the next lease ends if nobody renews it; false if there is none.
func (m *Machine) NextExpiry() (time.Duration, bool) {
	next, found := time.Duration(0), false
	for _, l := range m.leases {
		if !found || l.expiry < next {
			next, found = l.expiry, true
		}
	}
	return next, found
}
