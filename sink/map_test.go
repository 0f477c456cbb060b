package sink_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// cells is the size of the toy key space: key i is the byte 'a'+i.
const cells = 12

func border(i int) []byte {
	if i == 0 || i == cells {
		return nil
	}
	return []byte{byte('a' + i)}
}

func spanOf(from, to int) changefeed.Span {
	return changefeed.Span{Start: border(from), End: border(to)}
}

// cell is what the obvious implementation keeps for every single key.
type cell struct {
	claimed     bool
	mark        change.Mark
	token       fence.Token
	incarnation sink.Incarnation
}

// table is the obvious implementation of the map: one cell per key.
type table [cells]cell

func (m *table) writers() map[sink.Incarnation][]int {
	out := make(map[sink.Incarnation][]int)
	for i, c := range m {
		if c.incarnation != 0 {
			out[c.incarnation] = append(out[c.incarnation], i)
		}
	}
	return out
}

func (m *table) claim(head sink.Head, as sink.Identity, from, to int, claim sink.Claim, fresh sink.Incarnation) error {
	switch {
	case !head.Exists():
		return &changefeed.Fault{Code: changefeed.CodeSinkLost}
	case head.Identity != as:
		return &changefeed.Fault{Code: changefeed.CodeSinkInUse}
	case head.Removed:
		return fence.ErrStale
	}
	holds := true
	for _, c := range m[from:to] {
		holds = holds && c.claimed && c.token == claim.Token && c.incarnation != 0
	}
	if claim.Token.Epoch() < head.Floor && !holds {
		return fence.ErrStale
	}
	for _, c := range m[from:to] {
		if c.claimed && claim.Token.Compare(c.token) < 0 {
			return fence.ErrStale
		}
		if c.claimed && c.mark.Whole() < claim.Floor {
			return &changefeed.Fault{Code: changefeed.CodeSinkBehind}
		}
	}
	for _, keys := range m.writers() {
		for _, i := range keys {
			if i >= from && i < to {
				for _, k := range keys {
					m[k].incarnation = 0
				}
				break
			}
		}
	}
	for i := from; i < to; i++ {
		if !m[i].claimed {
			m[i].mark = claim.From
		}
		m[i].claimed, m[i].token, m[i].incarnation = true, claim.Token, fresh
	}
	return nil
}

func (m *table) advance(incarnation sink.Incarnation, from, to int, mark change.Mark) error {
	keys := m.writers()[incarnation]
	if len(keys) == 0 {
		return fence.ErrStale
	}
	if from < keys[0] || to > keys[len(keys)-1]+1 {
		return errors.New("outside")
	}
	for i := from; i < to; i++ {
		if m[i].mark.Before(mark) {
			m[i].mark = mark
		}
	}
	return nil
}

func (m *table) requireSame(t require.TestingT, held []sink.Held) {
	var seen table
	for n, piece := range held {
		require.True(t, piece.Span.Valid())
		for i := range cells {
			if !piece.Span.Contains([]byte{byte('a' + i)}) {
				continue
			}
			require.False(t, seen[i].claimed, "two pieces hold key %d", i)
			seen[i] = cell{claimed: true, mark: piece.Mark, token: piece.Token, incarnation: piece.Incarnation}
		}
		if n > 0 && string(held[n-1].Span.End) == string(piece.Span.Start) {
			a, b := held[n-1], piece
			require.False(t, a.Mark == b.Mark && a.Token == b.Token && a.Incarnation == b.Incarnation, "not coalesced")
		}
	}
	require.Equal(t, *m, seen)
}

func codeOf(err error) string {
	var fault *changefeed.Fault
	switch {
	case err == nil:
		return ""
	case errors.Is(err, fence.ErrStale):
		return "stale"
	case errors.As(err, &fault):
		return string(fault.Code)
	default:
		return "other"
	}
}

var me = sink.Identity{Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "u1"}

func drawMark(t *rapid.T, label string) change.Mark {
	mark := change.Mark{Position: change.Position(rapid.IntRange(0, 9).Draw(t, label))}
	if mark.Position > 0 {
		mark.Index = uint32(rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, label+"-index"))
	}
	return mark
}

func drawSpan(t *rapid.T) (from, to int) {
	from = rapid.IntRange(0, cells-1).Draw(t, "from")
	return from, rapid.IntRange(from+1, cells).Draw(t, "to")
}

// TestMapIsTheTable compares the map with the obvious implementation, step by step, also over its own encoding.
func TestMapIsTheTable(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var (
			model table
			m     sink.Map
			head  = sink.Head{Identity: me, Floor: 1}
			fresh sink.Incarnation
		)
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			from, to := drawSpan(t)
			switch rapid.IntRange(0, 7).Draw(t, "step") {
			case 0, 1, 2:
				fresh++
				claim := sink.Claim{
					Span:  spanOf(from, to),
					Token: fence.Mint(fence.Epoch(rapid.IntRange(1, 4).Draw(t, "epoch")), fence.Seq(rapid.IntRange(1, 4).Draw(t, "seq"))),
					From:  drawMark(t, "claim-from"),
				}
				if rapid.IntRange(0, 4).Draw(t, "with-floor") == 0 {
					claim.Floor = change.Position(rapid.IntRange(0, 4).Draw(t, "floor"))
				}
				next, err := m.Claim(head, me, claim, fresh)
				require.Equal(t, codeOf(model.claim(head, me, from, to, claim, fresh)), codeOf(err))
				if err == nil {
					m = next
				}
			case 3:
				head.Floor = max(head.Floor, fence.Epoch(rapid.IntRange(1, 4).Draw(t, "raise")))
			case 4:
				data, err := json.Marshal(m)
				require.NoError(t, err)
				var read sink.Map
				require.NoError(t, json.Unmarshal(data, &read))
				require.Equal(t, fmt.Sprint(m.Held()), fmt.Sprint(read.Held()))
				m = read
			default:
				incarnation := sink.Incarnation(rapid.Uint64Range(0, uint64(fresh)+1).Draw(t, "incarnation"))
				mark := drawMark(t, "mark")
				next, err := m.Advance(incarnation, spanOf(from, to), mark)
				require.Equal(t, codeOf(model.advance(incarnation, from, to, mark)), codeOf(err))
				if err == nil {
					m = next
				}
			}
			require.NoError(t, m.Validate())
			model.requireSame(t, m.Held())
		}
	})
}

func claimOf(epoch, seq, from, to int) sink.Claim {
	return sink.Claim{Span: spanOf(from, to), Token: fence.Mint(fence.Epoch(epoch), fence.Seq(seq))}
}

func mustClaim(t *testing.T, m sink.Map, head sink.Head, claim sink.Claim, fresh sink.Incarnation) sink.Map {
	t.Helper()
	out, err := m.Claim(head, me, claim, fresh)
	require.NoError(t, err)
	return out
}

// TestClaimRefuses has one case for each part of F22.
func TestClaimRefuses(t *testing.T) {
	head := sink.Head{Identity: me, Floor: 3}
	other, reborn := me, me
	other.Cluster, reborn.UID = "c2", "u2"
	held := mustClaim(t, sink.Map{}, head, claimOf(3, 5, 2, 8), 1)
	old := mustClaim(t, sink.Map{}, sink.Head{Identity: me, Floor: 2}, claimOf(2, 1, 2, 8), 1)
	tests := []struct {
		name  string
		m     sink.Map
		head  sink.Head
		as    sink.Identity
		claim sink.Claim
		want  string
	}{
		{"an epoch at the floor is taken", sink.Map{}, head, me, claimOf(3, 1, 0, 4), ""},
		{"an epoch below the floor", sink.Map{}, head, me, claimOf(2, 1, 0, 4), "stale"},
		{"below the floor, but that token holds the span", old, head, me, claimOf(2, 1, 2, 8), ""},
		{"below the floor, and that token holds a part", old, head, me, claimOf(2, 1, 2, 9), "stale"},
		{"below the floor, and that token lost its writer", old.Release(1), head, me, claimOf(2, 1, 2, 8), "stale"},
		{"below a higher token of an overlapping piece", held, head, me, claimOf(3, 4, 0, 3), "stale"},
		{"the same token again", held, head, me, claimOf(3, 5, 2, 8), ""},
		{"a lower token beside the piece", held, head, me, claimOf(3, 4, 0, 2), ""},
		{"a removed head", sink.Map{}, sink.Head{Identity: me, Floor: 3, Removed: true}, me, claimOf(3, 1, 0, 4), "stale"},
		{"a missing head", sink.Map{}, sink.Head{}, me, claimOf(3, 1, 0, 4), string(changefeed.CodeSinkLost)},
		{"another cluster", sink.Map{}, head, other, claimOf(3, 1, 0, 4), string(changefeed.CodeSinkInUse)},
		{"another creation that came later", sink.Map{}, head, reborn, claimOf(2, 1, 0, 4), "stale"},
		{"another creation that did not raise", sink.Map{}, head, reborn, claimOf(4, 1, 0, 4), string(changefeed.CodeSinkInUse)},
		{"the zero token", sink.Map{}, head, me, sink.Claim{Span: spanOf(0, 4)}, "stale"},
		{"an empty span", sink.Map{}, head, me, sink.Claim{Span: changefeed.Span{Start: []byte("b"), End: []byte("a")}, Token: fence.Mint(3, 1)}, "other"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := test.m.Claim(test.head, test.as, test.claim, 9)
			require.Equal(t, test.want, codeOf(err), "%v", err)
		})
	}
}

// TestClaimBelowTheFloorNamesTheCure: an owner that the records still name was set back with its etcd (hazard 15).
func TestClaimBelowTheFloorNamesTheCure(t *testing.T) {
	head := sink.Head{Identity: me, Floor: 30}
	_, claimErr := sink.Map{}.Claim(head, me, claimOf(7, 1, 0, 4), 1)
	_, raiseErr := head.Raise(me, 7, sink.KnownCheckpoint)
	for _, err := range []error{claimErr, raiseErr} {
		require.ErrorIs(t, err, fence.ErrStale)
		var fault *changefeed.Fault
		require.ErrorAs(t, err, &fault)
		require.Equal(t, changefeed.CodeEpochBehindSink, fault.Code)
		require.Contains(t, fault.Cure, "epoch bump NAME --above 30")
	}
}

// TestBehindCheckpoint: positions that went back are never silently gone on from.
func TestBehindCheckpoint(t *testing.T) {
	head := sink.Head{Identity: me, Floor: 1}
	first := claimOf(1, 1, 0, 6)
	first.From = change.At(40)
	m := mustClaim(t, sink.Map{}, head, first, 1)
	second := claimOf(1, 2, 3, 9)
	second.From, second.Floor = change.At(50), 41
	_, err := m.Claim(head, me, second, 2)
	require.Equal(t, string(changefeed.CodeSinkBehind), codeOf(err))
	second.Floor = 40
	_, err = m.Claim(head, me, second, 2)
	require.NoError(t, err)
	partial, err := m.Advance(1, spanOf(0, 6), change.Mark{Position: 50, Index: 3})
	require.NoError(t, err)
	second.Floor = 50
	_, err = partial.Claim(head, me, second, 2)
	require.Equal(t, string(changefeed.CodeSinkBehind), codeOf(err), "position 50 is not done entirely")
}

// TestAdvanceIsComparedWithTheIncarnation: F23 in the map. The token is the same, the claim isn't.
func TestAdvanceIsComparedWithTheIncarnation(t *testing.T) {
	head := sink.Head{Identity: me, Floor: 1}
	m := mustClaim(t, sink.Map{}, head, claimOf(1, 1, 0, 6), 1)
	m = mustClaim(t, m, head, claimOf(1, 1, 0, 6), 2)
	_, err := m.Advance(1, spanOf(0, 6), change.At(5))
	require.ErrorIs(t, err, fence.ErrStale)
	_, err = m.Advance(0, spanOf(0, 6), change.At(5))
	require.ErrorIs(t, err, fence.ErrStale)
	_, err = m.Advance(2, spanOf(0, 7), change.At(5))
	require.Error(t, err)
	require.NotErrorIs(t, err, fence.ErrStale)
	m, err = m.Advance(2, spanOf(0, 6), change.At(5))
	require.NoError(t, err)
	require.Equal(t, []sink.Piece{{Span: spanOf(0, 6), Mark: change.At(5)}}, m.Pieces(2))
}

// TestSnapshotPages: pages move the border between two pieces, and at the end one piece is left.
func TestSnapshotPages(t *testing.T) {
	head := sink.Head{Identity: me, Floor: 1}
	m := mustClaim(t, sink.Map{}, head, claimOf(1, 1, 0, cells), 1)
	for i := range cells {
		var err error
		m, err = m.Advance(1, spanOf(i, i+1), change.At(7))
		require.NoError(t, err)
		require.LessOrEqual(t, len(m.Held()), 2)
	}
	require.Equal(t, []sink.Piece{{Span: changefeed.Whole(), Mark: change.At(7)}}, m.Pieces(1))
}

func TestHeadRaise(t *testing.T) {
	reborn, foreign, renamed := me, me, me
	reborn.UID, foreign.Cluster, renamed.Changefeed.Name = "u2", "c2", "bills"
	head := sink.Head{Identity: me, Floor: 5}
	removed := sink.Head{Identity: me, Floor: 5, Removed: true}
	tests := []struct {
		name  string
		head  sink.Head
		as    sink.Identity
		epoch fence.Epoch
		known sink.Known
		want  sink.Head
		code  string
	}{
		{"a missing head is created", sink.Head{}, me, 5, sink.KnownNothing, head, ""},
		{"a missing head although a checkpoint is stored", sink.Head{}, me, 5, sink.KnownCheckpoint, sink.Head{}, "sink.lost"},
		{"the same epoch again", head, me, 5, sink.KnownCheckpoint, head, ""},
		{"a higher epoch", head, me, 6, sink.KnownNothing, sink.Head{Identity: me, Floor: 6}, ""},
		{"a lower epoch", head, me, 4, sink.KnownNothing, sink.Head{}, "stale"},
		{"epoch 0", sink.Head{}, me, 0, sink.KnownNothing, sink.Head{}, "stale"},
		{"a removed head stays removed", removed, me, 6, sink.KnownNothing, sink.Head{}, "stale"},
		{"a newer creation takes a removed head", removed, reborn, 6, sink.KnownNothing, sink.Head{Identity: reborn, Floor: 6}, ""},
		{"a newer creation takes over a head that was left", head, reborn, 6, sink.KnownNothing, sink.Head{Identity: reborn, Floor: 6}, ""},
		{"a newer creation with a checkpoint", head, reborn, 6, sink.KnownCheckpoint, sink.Head{}, "sink.lost"},
		{"another creation at the same epoch", head, reborn, 5, sink.KnownNothing, sink.Head{}, "sink.in_use"},
		{"an older creation", head, reborn, 4, sink.KnownNothing, sink.Head{}, "stale"},
		{"another cluster", head, foreign, 6, sink.KnownNothing, sink.Head{}, "sink.in_use"},
		{"another changefeed", removed, renamed, 6, sink.KnownNothing, sink.Head{}, "sink.in_use"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.head.Raise(test.as, test.epoch, test.known)
			require.Equal(t, test.code, codeOf(err), "%v", err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestHeadRemove(t *testing.T) {
	reborn, foreign := me, me
	reborn.UID, foreign.Cluster = "u2", "c2"
	head := sink.Head{Identity: me, Floor: 5}
	removed := sink.Head{Identity: me, Floor: 5, Removed: true}
	tests := []struct {
		name  string
		head  sink.Head
		as    sink.Identity
		epoch fence.Epoch
		want  sink.Head
		code  string
	}{
		{"a head", head, me, 5, removed, ""},
		{"what was removed", removed, me, 9, removed, ""},
		{"what was removed, by an older owner", removed, me, 4, removed, ""},
		{"a missing head", sink.Head{}, me, 5, removed, ""},
		{"an older owner", head, me, 4, sink.Head{}, "stale"},
		{"a newer creation has it", head, reborn, 4, head, ""},
		{"an older creation has it", head, reborn, 6, sink.Head{Identity: reborn, Floor: 6, Removed: true}, ""},
		{"another cluster has it", head, foreign, 6, sink.Head{}, "sink.in_use"},
		{"epoch 0", head, me, 0, sink.Head{}, "stale"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, err := test.head.Remove(test.as, test.epoch)
			require.Equal(t, test.code, codeOf(err), "%v", err)
			require.Equal(t, test.want, got)
		})
	}
}

func TestHeadJSON(t *testing.T) {
	for _, head := range []sink.Head{{Identity: me, Floor: 5}, {Identity: me, Floor: 1 << 50, Removed: true}} {
		data, err := json.Marshal(head)
		require.NoError(t, err)
		var read sink.Head
		require.NoError(t, json.Unmarshal(data, &read))
		require.Equal(t, head, read)
	}
	for _, bad := range []string{`{}`, `null`, `[]`, `{"cluster":"c","uid":"u","namespace":"a","name":"b"}`, `{"cluster":"c","uid":"u","namespace":"a","name":"b/c","floor":1}`} {
		var read sink.Head
		require.Error(t, json.Unmarshal([]byte(bad), &read), bad)
	}
}

func FuzzMapJSON(f *testing.F) {
	f.Add([]byte(`[{"start":"","end":"m","position":"7","epoch":1,"seq":2,"incarnation":3},{"start":"m","position":"0","epoch":1,"seq":1}]`))
	f.Add([]byte(`[{"start":{"base64":"/w=="},"position":"7","index":4,"epoch":1,"seq":2}]`))
	f.Fuzz(func(t *testing.T, data []byte) {
		var m sink.Map
		if json.Unmarshal(data, &m) != nil {
			return
		}
		require.NoError(t, m.Validate())
		again, err := json.Marshal(m)
		require.NoError(t, err)
		var read sink.Map
		require.NoError(t, json.Unmarshal(again, &read), string(again))
		require.Equal(t, fmt.Sprint(m.Held()), fmt.Sprint(read.Held()))
	})
}
