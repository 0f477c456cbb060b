package sqlsink

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// Waves keep the order of each key, lose nothing, and have no key twice.
func TestWaves(t *testing.T) {
	var changes []change.Change
	for i := range 1000 {
		changes = append(changes, change.Change{Position: change.Position(i), Key: fmt.Appendf(nil, "%d", i*i%17)})
	}
	last, n := map[string]change.Position{}, 0
	for _, wave := range waves(changes) {
		in := map[string]bool{}
		for _, c := range wave {
			key := string(c.Key)
			require.False(t, in[key])
			in[key] = true
			if before, found := last[key]; found {
				require.Less(t, before, c.Position)
			}
			last[key] = c.Position
			n++
		}
	}
	require.Equal(t, len(changes), n)
	require.Empty(t, waves(nil))
}

// plain is a dialect that only names things.
type plain struct{ Dialect }

func (plain) Table(name string) string                         { return name }
func (plain) Quote(name string) string                         { return name }
func (plain) Upsert(string, []string) string                   { return " UPSERT" }
func (plain) Source(_ []Column, rows [][]any) (string, []any)  { return Values(rows) }
func (plain) Among(column string, bytes []any) (string, []any) { return In(column, bytes) }
func (plain) Hex(column string) string                         { return column }
func (plain) Type(kind ColumnKind) string                      { return fmt.Sprint("type", kind) }
func pair(key, value string) *change.KV                        { return &change.KV{Key: []byte(key), Value: []byte(value)} }

func describe(statements []Statement) []string {
	var out []string
	for _, statement := range statements {
		text, _, _ := strings.Cut(statement.Text, " (")
		out = append(out, fmt.Sprintf("%s, %d", text, len(statement.Args)))
	}
	return out
}

func TestChangesBecomeFewStatements(t *testing.T) {
	changes := []change.Change{
		{Position: 1, Op: change.OpCreate, Key: []byte("a"), After: pair("a", "1")},
		{Position: 2, Op: change.OpDelete, Key: []byte("b")},
		{Position: 3, Op: change.OpCreate, Key: []byte("c"), After: pair("c", "1")},
		{Position: 4, Op: change.OpDelete, Key: []byte("a")},
	}
	copied, err := layout{plain{}, "t", ModeCopy}.changes(changes)
	require.NoError(t, err)
	require.Equal(t, []string{"DELETE FROM t WHERE key IN, 1", "INSERT INTO t, 12", "DELETE FROM t WHERE key IN, 1"}, describe(copied))
	logged, err := layout{plain{}, "t", ModeLog}.changes(changes)
	require.NoError(t, err)
	require.Equal(t, []string{"INSERT INTO t, 36"}, describe(logged))
	require.NotContains(t, logged[0].Text, "UPSERT")

	_, err = layout{plain{}, "t", ModeCopy}.changes([]change.Change{{Op: change.OpUpdate, Key: []byte("a")}})
	require.Error(t, err, "a change without a row is refused, not written as nothing")
	page, err := layout{plain{}, "t", ModeCopy}.page(sink.Batch{Changes: changes[:1], Span: changefeed.Span{Start: []byte("a"), End: []byte("m")}, Snapshot: true})
	require.NoError(t, err)
	require.Equal(t, "DELETE FROM t WHERE key >= ? AND key < ? AND NOT (key IN (?))", page[0].Text)
}

// Each text has as many question marks as arguments.
func TestStatementsHaveTheirArguments(t *testing.T) {
	s := statements{dialect: plain{}, as: sink.Identity{Cluster: "c", Changefeed: changefeed.ID{Namespace: "n", Name: "f"}, UID: "u"}}
	held, err := sink.NewMap([]sink.Held{
		{Piece: sink.Piece{Span: changefeed.Span{End: []byte("m")}, Mark: change.At(4)}, Token: fence.Mint(2, 1), Incarnation: 7},
		{Piece: sink.Piece{Span: changefeed.Span{Start: []byte("m")}, Mark: change.At(9)}, Token: fence.Mint(2, 2)},
	})
	require.NoError(t, err)
	claim := sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(3, 1)}
	before := &state{head: headRow{Head: sink.Head{Identity: s.as, Floor: 3}, id: 1, next: 8}, held: held}
	after, err := held.Claim(before.head.Head, s.as, claim, 8)
	require.NoError(t, err)
	all, err := s.take(before, claim, after, "backend")
	require.NoError(t, err)
	require.Len(t, all, 3)
	move, err := s.move(1, 8, after.Pieces(8))
	require.NoError(t, err)
	require.True(t, move.One, "a write is compared with its own claim")
	all = append(all, move, s.lockHead(), s.readHead(), s.holderOf("t"), s.insertHead(before.head.Head, "t"), s.updateHead(1, before.head.Head, "t"),
		s.register("t"), s.unregister(1), s.readClaims(1), s.lockClaims(1, []sink.Incarnation{7, 8}), s.lockAll(1), s.readSyncs(1),
		s.putSync(1, 5, claim.Token))
	all = append(all, s.clear(1)...)
	for _, statement := range append(all, s.trimSyncs(1, make([]change.Position, sink.SyncPointsMax+2))...) {
		require.Equal(t, strings.Count(statement.Text, "?"), len(statement.Args), statement.Text)
	}
}

// What is written of a claim is read again as it was, and what can't be one is refused.
func TestClaimsAreReadAsTheyWereWritten(t *testing.T) {
	pieces := []sink.Piece{
		{Span: changefeed.Span{End: []byte("m")}, Mark: change.Mark{Position: 9, Index: 2}},
		{Span: changefeed.Span{Start: []byte("m")}, Mark: change.At(4)},
	}
	lowest, parts, err := encodeMarks(pieces)
	require.NoError(t, err)
	require.Equal(t, change.At(4), lowest)
	row := []string{"7", "2", "1", "", "", "4", "0", parts.(string), "backend"}
	got, err := readClaim(row)
	require.NoError(t, err)
	require.Equal(t, "backend", got.backend)
	require.Len(t, got.held, 2)
	for i, held := range got.held {
		require.Equal(t, fmt.Sprint(pieces[i]), fmt.Sprint(held.Piece))
		require.Equal(t, fence.Mint(2, 1), held.Token)
		require.Equal(t, sink.Incarnation(7), held.Incarnation)
	}
	for i, bad := range []string{"x", "-1", "", "6", "zz", "1.5", "x", `[{"start":"b"}]`} {
		broken := append([]string(nil), row...)
		if i == 3 {
			broken[i] = "6" // half a byte
		} else {
			broken[i] = bad
		}
		_, err := readClaim(broken)
		require.Error(t, err, "column %d as %q", i, bad)
	}
	_, err = readClaim(row[:5])
	require.Error(t, err)
	_, err = readHead([]string{"0", "c", "n", "f", "u", "1", "0", "t", "1", ""})
	require.Error(t, err)
}
