package postgres

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	"go.uber.org/zap"

	"fencerow/change"
)

// book reads the catalog when the log tells of a table. It connects when it is first asked.
type book struct {
	source *Source
	c      *connection
	over   uint32 // a transaction whose effects others see
}

func (b *book) open(ctx context.Context) (err error) {
	if b.c == nil {
		b.c, err = b.source.connect(ctx)
	}
	return err
}

// Bounds of how long a transaction of the log is waited for, and how often it is looked for.
const (
	settledMax   = 10 * time.Second
	settledEvery = 5 * time.Millisecond
)

// settled connects, and waits until everybody sees what a transaction of the log did. The server writes that it commits before it shows it
// to others, and sends us what it wrote; where commits wait for a synchronous standby there may be long between the two. The catalog
// would tell us of before. It shows a transaction first, and releases its locks then.
func (b *book) settled(ctx context.Context, xid uint32) error {
	if err := b.open(ctx); err != nil || b.over == xid {
		return err
	}
	limit := time.NewTimer(settledMax)
	defer limit.Stop()
	again := time.NewTicker(settledEvery)
	defer again.Stop()
	number := strconv.FormatUint(uint64(xid), 10)
	for {
		held, err := b.c.query(ctx, `SELECT FROM pg_locks WHERE locktype = 'transactionid' AND mode = 'ExclusiveLock' AND transactionid = $1::xid`, number)
		if err != nil {
			return fmt.Errorf("look whether a transaction is over: %w", err)
		}
		if len(held) == 0 {
			b.over = xid
			return nil
		}
		select {
		case <-again.C:
		case <-limit.C:
			return b.source.hindrance("has transaction "+number+" in its log, and has not shown it to others for "+settledMax.String(),
				"see whether its commits wait for a synchronous standby: synchronous_standby_names, and wait_event SyncRep in pg_stat_activity", nil)
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// read says what the rows of a table are like that a transaction describes.
func (b *book) read(ctx context.Context, m relationMessage, typeNames map[uint32]string, xid uint32) (*change.Relation, error) {
	if err := b.settled(ctx, xid); err != nil {
		return nil, err
	}
	tables, err := describe(ctx, b.c, m.oid)
	if err != nil {
		return nil, err
	}
	types, err := typesOf(ctx, b.c, m.columns)
	if err != nil {
		return nil, err
	}
	for i, column := range m.columns {
		if types[i] == typeGone {
			types[i] = cmp.Or(typeNames[column.typeOID], typeGone)
		}
	}
	return relationOf(m, tables[m.oid], types), nil
}

// confirmed returns what a message carries if the transaction with this number is the one that added its table to a publication
// of ours; nil if it isn't.
func (b *book) confirmed(ctx context.Context, carried [][]byte, xid uint32) ([][]byte, error) {
	oid, _ := tableOf(carried[0])
	for _, one := range carried {
		if of, ours := tableOf(one); !ours || of != oid {
			return nil, nil
		}
	}
	if err := b.settled(ctx, xid); err != nil {
		return nil, err
	}
	answer, err := b.c.query(ctx, `SELECT FROM pg_publication p JOIN pg_publication_rel r ON r.prpubid = p.oid
		WHERE p.pubname IN ($1, $2) AND r.prrelid = $3::oid AND r.xmin::text = $4`,
		b.source.slotName(), b.source.appendName(), strconv.FormatUint(uint64(oid), 10), strconv.FormatUint(uint64(xid), 10))
	if err != nil {
		return nil, fmt.Errorf("look who wrote a message: %w", err)
	}
	if len(answer) == 0 {
		b.source.logger.Warn("left out rows that a message brings, since it is not of the transaction that added their table",
			zap.Stringer("source", b.source.server.URI), zap.Uint32("table", oid))
		return nil, nil
	}
	return carried, nil
}

func (b *book) close() {
	if b.c != nil {
		b.c.close()
	}
}
