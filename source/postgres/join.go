package postgres

import (
	"context"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"go.uber.org/zap"
)

// How a table joins that was made, came to match the patterns, or was renamed, after the slot.
//
// A publication publishes what is written after a table was added to it. So the rows that are there already are written into
// the log by ourselves, in the very transaction that adds the table, under a lock that keeps writers out: as one or more
// logical messages of ours, which carry what pgoutput would have sent for the rows' inserts. They take their place in the log
// like any other transaction, so whoever reads it, and reads it again after a crash, has each row once and in order. A truncate goes
// before them: what was copied under that name, of a table that was dropped, left out for a while or renamed, is not this one's.
//
// Everybody with a connection may write messages, also with our prefix. What one carries is believed only if its transaction is
// the one that added the table to our publication, which only who owns that can do.

const (
	// joinRowsMax and joinBytesMax bound how much a table may hold when it joins: it is locked meanwhile, and its rows go through
	// the log once more.
	joinRowsMax  = 200_000
	joinBytesMax = 256 << 20
	// joinMessageBytes is about how much one message carries.
	joinMessageBytes = 256 << 10
	joinFetchRows    = 1000
	joinLockMax      = "2s"
)

// reviseTables has the publications follow the tables that the patterns match now.
func (s *Source) reviseTables(ctx context.Context, c *connection) error {
	tables, err := s.candidates(ctx, c)
	if err != nil {
		return err
	}
	now, err := s.publications(ctx, c)
	if err != nil {
		return err
	}
	todo := s.revise(now, tables)
	kept, unnamed := now.named()
	if unnamed {
		todo.alter = append(todo.alter, kept.keep(quoteName(s.slotName())))
	}
	if len(todo.create)+len(todo.alter)+len(todo.join) == 0 {
		return nil
	}
	if len(tables) > 0 {
		if err := s.fit(tables); err != nil {
			return err
		}
	}
	if err := s.confirm(ctx); err != nil {
		return err
	}
	if statements := append(todo.create, todo.alter...); len(statements) > 0 {
		if err := c.exec(ctx, strings.Join(statements, "; ")); err != nil {
			return fmt.Errorf("revise the publications: %w", err)
		}
	}
	for _, table := range todo.join {
		err := s.join(ctx, c, table, now.members[table.oid], kept)
		switch code := codeOf(err); {
		case err == nil:
			kept = kept.with(table)
			s.logger.Info("a table joined", zap.Stringer("table", table))
		case code == codeMissingTable || code == codeDuplicate || code == codeLockTimeout:
			// Dropped meanwhile, or a writer holds it: the next look decides.
			s.logger.Info("a table has not joined yet", zap.Stringer("table", table), zap.Error(err))
		default:
			return err
		}
	}
	return nil
}

// join adds a table to its publication, with the rows that it holds. One that is a member leaves first. kept are the names of the others.
func (s *Source) join(ctx context.Context, c *connection, table listed, member *membership, kept names) (err error) {
	defer func() {
		if err != nil {
			_ = c.exec(ctx, "ROLLBACK") //nolint:errcheck // where the connection is gone, so is the transaction
		}
	}()
	begin := []string{
		"BEGIN", "SET LOCAL lock_timeout = '" + joinLockMax + "'",
		"LOCK TABLE " + quoteTable(table.schema, table.name) + " IN SHARE ROW EXCLUSIVE MODE",
	}
	if member != nil {
		begin = append(begin, s.leave(member)...)
	}
	begin = append(append(begin, s.add([]listed{table})...), kept.with(table).keep(quoteName(s.slotName())))
	if err := c.exec(ctx, strings.Join(begin, "; ")); err != nil {
		return fmt.Errorf("add table %s: %w", table, err)
	}
	described, err := describe(ctx, c, table.oid)
	if err != nil {
		return err
	}
	if described[table.oid] == nil {
		return fmt.Errorf("add table %s: %w", table, errNoAnswer)
	}
	if err := s.carry(ctx, c, table, described[table.oid]); err != nil {
		return err
	}
	if err := c.exec(ctx, "COMMIT"); err != nil {
		return fmt.Errorf("add table %s: %w", table, err)
	}
	return nil
}

// carry writes the rows of a table into the log.
func (s *Source) carry(ctx context.Context, c *connection, table listed, now *catalogTable) error {
	relation := now.relation()
	names := make([]string, len(relation.Columns))
	for i, column := range relation.Columns {
		names[i] = quoteName(column.Name)
	}
	declare := "DECLARE fencerow_join NO SCROLL CURSOR FOR SELECT " + strings.Join(names, ", ") + " FROM " + quoteTable(table.schema, table.name)
	if err := c.exec(ctx, declare); err != nil {
		return fmt.Errorf("read table %s: %w", table, err)
	}
	message := newCarrier(table.oid, now)
	var count, size int
	for {
		answer, err := c.query(ctx, "FETCH "+strconv.Itoa(joinFetchRows)+" FROM fencerow_join")
		if err != nil {
			return fmt.Errorf("read table %s: %w", table, err)
		}
		for _, row := range answer {
			count, size = count+1, size+message.row(row)
			if count > joinRowsMax || size > joinBytesMax {
				return s.tooLarge(table)
			}
			if len(message.out) >= joinMessageBytes {
				if err := message.emit(ctx, c); err != nil {
					return err
				}
			}
		}
		if len(answer) < joinFetchRows {
			break
		}
	}
	return message.emit(ctx, c)
}

func (s *Source) tooLarge(table listed) error {
	return s.hindrance(
		fmt.Sprintf("has the table %s, which came later than the changefeed, or was renamed since, and holds more than %d rows or %d MiB already", table, joinRowsMax, joinBytesMax>>20),
		"rename it back if it was renamed; else leave it out with --option "+OptionTables+"=…,!"+table.String()+" and copy it with a changefeed of its own, or create this one anew with --start snapshot", nil)
}

// carrier makes messages of ours: what pgoutput would send, each after its length. The description of the table goes first, in
// every message.
type carrier struct {
	oid   uint32
	start int // of the rows
	out   []byte
}

// newCarrier begins the first message, which empties the table.
func newCarrier(oid uint32, now *catalogTable) *carrier {
	body := binary.BigEndian.AppendUint32([]byte{kindRelation}, oid)
	body = append(append(body, now.schema...), 0)
	body = append(append(body, now.name...), 0, now.identity)
	var columns []byte
	var n uint16
	for _, column := range now.columns {
		if column.dropped || column.generated {
			continue
		}
		n++
		columns = append(columns, byte(now.flags(column)))
		columns = append(append(columns, column.name...), 0)
		columns = binary.BigEndian.AppendUint32(columns, column.typeOID)
		columns = binary.BigEndian.AppendUint32(columns, uint32(column.modifier))
	}
	body = append(binary.BigEndian.AppendUint16(body, n), columns...)
	out := append(binary.BigEndian.AppendUint32(nil, uint32(len(body))), body...)
	truncate := binary.BigEndian.AppendUint32(append(binary.BigEndian.AppendUint32([]byte{kindTruncate}, 1), 0), oid)
	start := len(out)
	out = append(binary.BigEndian.AppendUint32(out, uint32(len(truncate))), truncate...)
	return &carrier{oid: oid, start: start, out: out}
}

// flags are those of a column in the description: 1 for one of the identity.
func (t *catalogTable) flags(column catalogColumn) int {
	if t.identity == identityFull || slices.Contains(t.key, column.number) {
		return 1
	}
	return 0
}

// row adds a row, and returns how many bytes it took.
func (c *carrier) row(cells [][]byte) int {
	from := len(c.out)
	c.out = append(c.out, 0, 0, 0, 0, kindInsert)
	c.out = append(binary.BigEndian.AppendUint32(c.out, c.oid), tupleNew)
	c.out = binary.BigEndian.AppendUint16(c.out, uint16(len(cells)))
	for _, cell := range cells {
		if cell == nil {
			c.out = append(c.out, cellNull)
			continue
		}
		c.out = append(binary.BigEndian.AppendUint32(append(c.out, cellText), uint32(len(cell))), cell...)
	}
	binary.BigEndian.PutUint32(c.out[from:], uint32(len(c.out)-from-4))
	return len(c.out) - from
}

// emit writes the message, and begins another.
func (c *carrier) emit(ctx context.Context, to *connection) error {
	_, err := to.query(ctx, `SELECT pg_logical_emit_message(true, '`+messagePrefix+`', $1::bytea)`, `\x`+hex.EncodeToString(c.out))
	c.out = c.out[:c.start]
	if err != nil {
		return fmt.Errorf("write rows into the log: %w", err)
	}
	return nil
}

// joining returns what a message of ours carries, nil if it is another or carries nothing.
func joining(message []byte) ([][]byte, error) {
	if len(message) == 0 || message[0] != kindMessage {
		return nil, nil
	}
	m, err := parseMessage(message[1:])
	if err != nil || !m.transactional || m.prefix != messagePrefix {
		return nil, err
	}
	var out [][]byte
	c := cursor{data: m.content}
	for len(c.data) > 0 {
		one := c.next(int(c.uint32()))
		if _, ours := tableOf(one); c.bad || !ours {
			return nil, nil // somebody else's, in our name
		}
		out = append(out, one)
	}
	return out, nil
}

// truncateBytes is the length of a truncate of one table: kind, how many tables, flags, the table.
const truncateBytes = 1 + 4 + 1 + 4

// tableOf returns which table something is of that a message of ours carries; false if we carry no such thing.
func tableOf(carried []byte) (oid uint32, ours bool) {
	switch {
	case len(carried) == truncateBytes && carried[0] == kindTruncate && binary.BigEndian.Uint32(carried[1:]) == 1:
		return binary.BigEndian.Uint32(carried[truncateBytes-4:]), true
	case len(carried) >= 5 && (carried[0] == kindRelation || carried[0] == kindInsert):
		return binary.BigEndian.Uint32(carried[1:]), true
	default:
		return 0, false
	}
}
