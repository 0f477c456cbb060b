package sqlsink

import (
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// statements writes what one changefeed says to its target. It is pure.
type statements struct {
	dialect Dialect
	as      sink.Identity
}

// lockHead keeps every other claim, raise and removal of this changefeed out until the transaction ends.
func (s statements) lockHead() Statement {
	text := "SELECT id FROM " + s.dialect.Table("heads") + " WHERE cluster = ? AND namespace = ? AND name = ? FOR UPDATE"
	return query(text, s.name()...)
}

func (s statements) name() []any {
	return []any{s.as.Cluster, s.as.Changefeed.Namespace, s.as.Changefeed.Name}
}

// headColumns are what readHead decodes.
const headColumns = "h.id, h.cluster, h.namespace, h.name, h.uid, h.floor, CASE WHEN h.removed THEN 1 ELSE 0 END, h.target, " +
	"h.next_claim, h.rest"

func (s statements) readHead() Statement {
	text := "SELECT " + headColumns + " FROM " + s.dialect.Table("heads") +
		" h WHERE h.cluster = ? AND h.namespace = ? AND h.name = ?"
	return query(text, s.name()...)
}

// readHeads reads the heads of all changefeeds that have a table in this database.
func (s statements) readHeads() Statement {
	return query("SELECT " + headColumns + " FROM " + s.dialect.Table("targets") + " t JOIN " + s.dialect.Table("heads") +
		" h ON h.id = t.head ORDER BY t.target")
}

// holderOf reads the head of whoever has a table of data.
func (s statements) holderOf(target string) Statement {
	return query("SELECT "+headColumns+" FROM "+s.dialect.Table("targets")+" t JOIN "+s.dialect.Table("heads")+
		" h ON h.id = t.head WHERE t.target = ?", target)
}

func (s statements) insertHead(head sink.Head, target string) Statement {
	return exec("INSERT INTO "+s.dialect.Table("heads")+
		" (cluster, namespace, name, uid, floor, removed, target, next_claim) VALUES (?, ?, ?, ?, ?, ?, ?, 1)",
		head.Identity.Cluster, head.Identity.Changefeed.Namespace, head.Identity.Changefeed.Name,
		string(head.Identity.UID), int64(head.Floor), boolean(head.Removed), target)
}

func (s statements) updateHead(id int64, head sink.Head, target string) Statement {
	return exec("UPDATE "+s.dialect.Table("heads")+" SET uid = ?, floor = ?, removed = ?, target = ? WHERE id = ?",
		string(head.Identity.UID), int64(head.Floor), boolean(head.Removed), target, id)
}

// boolean is a word that every server takes for a truth value.
func boolean(value bool) string { //nolint:revive // it is the value, not a switch
	if value {
		return "1"
	}
	return "0"
}

// register notes whose a table of data is. A table has one changefeed: its name is the key.
func (s statements) register(target string) Statement {
	return exec("INSERT INTO "+s.dialect.Table("targets")+" (target, head) SELECT ?, id FROM "+s.dialect.Table("heads")+
		" WHERE cluster = ? AND namespace = ? AND name = ?", append([]any{target}, s.name()...)...)
}

func (s statements) unregister(head int64) Statement {
	return exec("DELETE FROM "+s.dialect.Table("targets")+" WHERE head = ?", head)
}

// clear forgets what was kept of claims and sync points.
func (s statements) clear(head int64) []Statement {
	return []Statement{
		exec("DELETE FROM "+s.dialect.Table("claims")+" WHERE head = ?", head),
		exec("DELETE FROM "+s.dialect.Table("syncs")+" WHERE head = ?", head),
		exec("UPDATE "+s.dialect.Table("heads")+" SET rest = NULL WHERE id = ?", head),
	}
}

// readClaims reads the claims of a changefeed.
func (s statements) readClaims(head int64) Statement {
	return s.claimsWhere("head = ?", head)
}

// readClaimsUpTo reads a writer's own claim, and those of others that are not above a position.
func (s statements) readClaimsUpTo(head int64, own sink.Incarnation, at change.Position) Statement {
	return s.claimsWhere("head = ? AND (incarnation = ? OR position <= ?)", head, int64(own), at.String())
}

func (s statements) claimsWhere(condition string, args ...any) Statement {
	hex := s.dialect.Hex
	return query("SELECT incarnation, epoch, seq, "+hex("span_start")+", "+hex("span_end")+
		", position, position_index, parts, backend FROM "+s.dialect.Table("claims")+" WHERE "+condition+" ORDER BY incarnation", args...)
}

// lockClaims waits for the transactions that are open under these claims, and keeps new ones out.
func (s statements) lockClaims(head int64, of []sink.Incarnation) Statement {
	return query("SELECT incarnation FROM "+s.dialect.Table("claims")+" WHERE head = ? AND incarnation IN ("+marks(len(of))+
		") ORDER BY incarnation FOR UPDATE", numbers(head, of)...)
}

// lockAll waits for all transactions that are open under claims of this changefeed, and keeps new ones out.
func (s statements) lockAll(head int64) Statement {
	return query("SELECT incarnation FROM "+s.dialect.Table("claims")+" WHERE head = ? ORDER BY incarnation FOR UPDATE", head)
}

// marks returns n question marks.
func marks(n int) string { return strings.TrimSuffix(strings.Repeat("?, ", n), ", ") }

func numbers(head int64, of []sink.Incarnation) []any {
	out := []any{head}
	for _, n := range of {
		out = append(out, int64(n))
	}
	return out
}

// take supersedes claims, and stores the new one: the last act of a claim's transaction.
//
// Crash after it, or an answer that is lost: the claim stands, with nobody to write under it. A claim of the same token
// supersedes it like any other.
func (s statements) take(before *state, claim sink.Claim, after sink.Map, backend string) ([]Statement, error) {
	n := before.head.next
	lowest, parts, err := encodeMarks(after.Pieces(n))
	if err != nil {
		return nil, err
	}
	rest, err := encodeRest(after)
	if err != nil {
		return nil, err
	}
	var out []Statement
	if superseded := before.held.Writers(claim.Span); len(superseded) > 0 {
		out = append(out, exec("DELETE FROM "+s.dialect.Table("claims")+" WHERE head = ? AND incarnation IN ("+
			marks(len(superseded))+")", numbers(before.head.id, superseded)...))
	}
	return append(out,
		exec("INSERT INTO "+s.dialect.Table("claims")+
			" (head, incarnation, epoch, seq, span_start, span_end, position, position_index, parts, backend)"+
			" VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
			before.head.id, int64(n), int64(claim.Token.Epoch()), int64(claim.Token.Seq()), someBytes(claim.Span.Start),
			someBytes(claim.Span.End), lowest.Position.String(), int64(lowest.Index), parts, backend),
		exec("UPDATE "+s.dialect.Table("heads")+" SET next_claim = ?, rest = ? WHERE id = ?", int64(n)+1, rest, before.head.id),
	), nil
}

// someBytes keeps an empty border from being NULL.
func someBytes(key []byte) []byte {
	if key == nil {
		return []byte{}
	}
	return key
}

// move is the first statement of a data transaction: it moves the marks of the writer's own claim, which has to be there.
func (s statements) move(head int64, n sink.Incarnation, pieces []sink.Piece) (Statement, error) {
	lowest, parts, err := encodeMarks(pieces)
	if err != nil {
		return Statement{}, err
	}
	out := exec("UPDATE "+s.dialect.Table("claims")+" SET position = ?, position_index = ?, parts = ? WHERE head = ? AND incarnation = ?",
		lowest.Position.String(), int64(lowest.Index), parts, head, int64(n))
	out.One = true
	return out, nil
}

func (s statements) readSyncs(head int64) Statement {
	return query("SELECT position FROM "+s.dialect.Table("syncs")+" WHERE head = ? ORDER BY position", head)
}

func (s statements) putSync(head int64, at change.Position, token fence.Token) Statement {
	return exec("INSERT INTO "+s.dialect.Table("syncs")+" (head, position, epoch, seq) VALUES (?, ?, ?, ?)",
		head, at.String(), int64(token.Epoch()), int64(token.Seq()))
}

// trimSyncs forgets sync points, in order, that are more than are kept beside a new one.
func (s statements) trimSyncs(head int64, held []change.Position) []Statement {
	old := held[:max(len(held)+1-sink.SyncPointsMax, 0)]
	if len(old) == 0 {
		return nil
	}
	return []Statement{exec("DELETE FROM "+s.dialect.Table("syncs")+" WHERE head = ? AND position <= ?", head, old[len(old)-1].String())}
}

// rangeOf returns a condition for the keys of a span.
func rangeOf(column string, span changefeed.Span) (string, []any) {
	text, args := column+" >= ?", []any{someBytes(span.Start)}
	if len(span.End) > 0 {
		text, args = text+" AND "+column+" < ?", append(args, span.End)
	}
	return text, args
}
