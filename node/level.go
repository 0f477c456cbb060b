package node

import (
	"context"
	"errors"
	"strconv"

	"fencerow/changefeed"
	"fencerow/record"
)

// understood refuses a cluster whose records are newer than this binary: of a newer format, or of a feature level that it
// does not have, since nodes of that level count on what it can't do.
func understood(keys record.Keys, meta record.Meta) error {
	fault := &changefeed.Fault{Code: changefeed.CodeRecordInvalid, Field: keys.Meta(), Permanent: true}
	switch {
	case meta.Format > record.FormatCurrent:
		fault.Value, fault.Detail = "format "+strconv.Itoa(meta.Format), "is newer than this version knows"
	case meta.Level > record.LevelCurrent:
		fault.Value = "level " + strconv.Itoa(meta.Level)
		fault.Detail = "is above " + strconv.Itoa(record.LevelCurrent) + ", that of this version: the cluster was upgraded, and does not go back"
	default:
		return nil
	}
	fault.Cure = "run the newer cdc-node that the other nodes run"
	return fault
}

// outgrown reports whether the cluster was upgraded past this binary, which ends the process.
func outgrown(err error) bool {
	var fault *changefeed.Fault
	return errors.As(err, &fault) && fault.Code == changefeed.CodeRecordInvalid && fault.Permanent
}

// beforeEpochs reports whether the cluster is still being upgraded from a version without epochs (F14).
func beforeEpochs(meta record.Meta) bool { return meta.Level == record.LevelBeforeEpochs }

// stillUnderstood reads the level after the node joined: a raise that did not see the node's record came before.
func (l *life) stillUnderstood(ctx context.Context) error {
	meta, err := l.store.Meta(ctx)
	if err != nil || !meta.Exists() {
		return err
	}
	return understood(l.process.keys, *meta.Record)
}

// readMeta follows the cluster's feature level: hosts admit nothing without an epoch once it has risen.
func (l *life) readMeta(ctx context.Context) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case update := <-l.meta.Updates():
			for _, change := range update.Changes {
				meta, ok := change.Record.(*record.Meta)
				if change.Deleted || !ok {
					continue
				}
				if err := understood(l.process.keys, *meta); err != nil {
					return err
				}
				if !beforeEpochs(*meta) {
					l.dispatchers.Upgraded()
				}
			}
		}
	}
}
