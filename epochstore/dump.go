package epochstore

import (
	"context"
	"fmt"
)

// Raw is a record as it is stored, for people to look at.
type Raw struct {
	Key            string
	Value          []byte
	CreateRevision int64
	ModRevision    int64
}

// Dump reads every record of the cluster at one revision, those that don't parse too.
func (s *Store) Dump(ctx context.Context) (records []Raw, revision int64, err error) {
	pairs, revision, err := s.listAll(ctx, s.keys.Prefix(), 0)
	if err != nil {
		return nil, 0, fmt.Errorf("epochstore: dump: %w", err)
	}
	for _, pair := range pairs {
		records = append(records, Raw{
			Key: pair.Key, Value: pair.Value, CreateRevision: pair.CreateRevision, ModRevision: pair.ModRevision,
		})
	}
	return records, revision, nil
}
