//go:build databases

package databases

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// slots watches how far the source's slots were confirmed, against the checkpoints that are stored.
type slots struct {
	samples int
	seen    map[string]bool
}

// slotTick is how often it looks: a slot that is confirmed too early is so until the checkpoint follows.
const slotTick = 20 * time.Millisecond

// watchSlots looks until ctx ends. First at the slots, then at the checkpoints: these only rise, so that a slot that is found
// above its checkpoint was so when it was looked at.
func (w *world) watchSlots(ctx context.Context) slots {
	out := slots{seen: map[string]bool{}}
	ticker := time.NewTicker(slotTick)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return out
		case <-ticker.C:
		}
		if err := w.sampleSlots(ctx, &out); err != nil && ctx.Err() == nil {
			w.object("the slots could not be looked at: %v", err)
			return out
		}
	}
}

func (w *world) sampleSlots(ctx context.Context, out *slots) error {
	confirmed := map[string]int64{}
	rows, err := w.source.QueryContext(ctx, "SELECT slot_name, (confirmed_flush_lsn - '0/0'::pg_lsn)::bigint FROM pg_replication_slots "+
		"WHERE slot_type = 'logical' AND NOT temporary AND confirmed_flush_lsn IS NOT NULL")
	if err != nil {
		return err
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var name string
		var at int64
		if err := rows.Scan(&name, &at); err != nil {
			return err
		}
		confirmed[name] = at
	}
	if err := rows.Err(); err != nil {
		return err
	}
	stored, err := w.etcd.Client.Get(ctx, "/cdc/"+clusterName+"/status/", clientv3.WithPrefix())
	if err != nil {
		return err
	}
	for _, pair := range stored.Kvs {
		var status struct {
			UID        string `json:"uid"`
			Checkpoint int64  `json:"checkpoint,string"`
		}
		if err := json.Unmarshal(pair.Value, &status); err != nil {
			return fmt.Errorf("%s: %w", pair.Key, err)
		}
		for name, at := range confirmed {
			if !strings.Contains(plain(name), plain(status.UID)) {
				continue
			}
			out.samples++
			out.seen[name] = true
			// What is committed below it is forgotten; what is committed at the checkpoint itself is done.
			if at > status.Checkpoint+1 {
				w.object("slot %s is confirmed up to %d, and the stored checkpoint is %d", name, at, status.Checkpoint)
			}
		}
	}
	return nil
}

// plain is a name as slots and uids share it.
func plain(name string) string {
	return strings.NewReplacer("-", "", "_", "").Replace(strings.ToLower(name))
}
