package kvetcd

import (
	"context"
	"fmt"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/kv"
)

// TimeToLive returns a lease with the time that it lives on as TTL, in whole seconds rounded down, without renewing it.
func (s *Store) TimeToLive(ctx context.Context, id kv.LeaseID) (kv.Lease, error) {
	if err := s.begin(ctx); err != nil {
		return kv.Lease{}, fmt.Errorf("kvetcd: time to live: %w", err)
	}
	answer, err := s.client.TimeToLive(ctx, clientv3.LeaseID(id))
	if err != nil {
		return kv.Lease{}, readError("time to live", err)
	}
	if answer.TTL < 0 {
		return kv.Lease{}, fmt.Errorf("kvetcd: time to live: %w", kv.ErrLeaseNotFound)
	}
	return kv.Lease{
		Header: decodeHeader(answer.ResponseHeader), ID: id, TTL: time.Duration(answer.TTL) * time.Second,
	}, nil
}
