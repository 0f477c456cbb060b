package etcd

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/sink"
)

var identity = sink.Identity{
	Cluster: "c1", Changefeed: changefeed.ID{Namespace: "default", Name: "orders"}, UID: "uid-1",
}

// TestBounds compares the range of the target with every single key: a key of the source lies in the span if and only
// if its copy lies in the range.
func TestBounds(t *testing.T) {
	key := func() *rapid.Generator[string] { return rapid.StringMatching(`[ab\x00\xff]{0,3}`) }
	rapid.Check(t, func(t *rapid.T) {
		l := newLayout(identity, key().Draw(t, "source"), "/t/"+key().Draw(t, "target"))
		span := changefeed.Span{Start: []byte(key().Draw(t, "start")), End: []byte(key().Draw(t, "end"))}
		if !span.Valid() {
			t.Skip("empty")
		}
		start, end, found := l.bounds(span)
		for _, tail := range []string{"", "\x00", "a", "a\x00", "ab", "b", "bb", "\xff", "\xff\xff", "aab"} {
			source := []byte(l.source + tail)
			copied, err := l.key(source)
			require.NoError(t, err)
			require.Equal(t, source, l.back(copied))
			within := found && start <= copied && (end == kv.RangeEndInfinite || copied < end)
			require.Equal(t, span.Contains(source), within, "%q in %v, range [%q, %q)", source, span, start, end)
		}
	})
}

func TestKeysOutsideThePrefix(t *testing.T) {
	l := newLayout(identity, "/a/", "/b/")
	for _, key := range []string{"", "/a", "/b/x", "/A/"} {
		_, err := l.key([]byte(key))
		require.Error(t, err, key)
	}
	_, _, found := l.bounds(changefeed.Span{Start: []byte("/b")})
	require.False(t, found)
}

func TestPrefixesThatAreOurs(t *testing.T) {
	for prefix, refused := range map[string]bool{
		"": true, "/": true, "/cdc-claims/": true, "/cdc-claims/x/": true, "/cdc-": true, "/cdc/": true, "/cdc/default/": true,
		"/copy/": false, "copy/": false, "/cdc-copy/": false,
	} {
		_, err := New(Config{Open: noStore, TargetPrefix: []byte(prefix), Identity: identity})
		require.Equal(t, refused, err != nil, "%q: %v", prefix, err)
		if refused {
			require.Equal(t, changefeed.CodeRequestInvalid, changefeed.AsFault(err, "").Code)
		}
	}
	_, err := New(Config{})
	require.Error(t, err)
}

// TestBrokenRecords: what can't be read names its key, and never counts as nothing.
func TestBrokenRecords(t *testing.T) {
	l := newLayout(identity, "/a/", "/b/")
	head := headRecord{Head: sink.Head{Identity: identity, Floor: 1}, Target: "/b/", NextClaim: 3}
	claim := encodeClaim(sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(1, 1)})
	good := []kv.Pair{
		{Key: l.head(), Value: head.encode(), ModRevision: 9},
		{Key: l.claim(2), Value: claim},
		{Key: l.marks(2), Value: encodeMarks([]sink.Piece{{Span: changefeed.Whole(), Mark: change.At(4)}})},
	}
	s, err := decodeState(l, good)
	require.NoError(t, err)
	require.Equal(t, head, s.head)
	require.Len(t, s.held.Held(), 1)
	half := encodeMarks([]sink.Piece{{Span: changefeed.Span{End: []byte("m")}}})
	for name, pair := range map[string]kv.Pair{
		"not JSON":             {Key: l.head(), Value: []byte("{")},
		"an empty head":        {Key: l.head(), Value: []byte("{}")},
		"a claim of no number": {Key: l.claimsPrefix() + "x", Value: claim},
		"a claim without mark": {Key: l.claim(7), Value: claim},
		"a claim that isn't":   {Key: l.claim(2), Value: []byte("[]")},
		"marks with a gap":     {Key: l.marks(2), Value: half},
		"marks that aren't":    {Key: l.marks(2), Value: []byte("{}")},
		"a rest that isn't":    {Key: l.rest(), Value: []byte(`[{"start":"b","end":"a"}]`)},
		"an unknown key":       {Key: l.root + "more", Value: nil},
	} {
		t.Run(name, func(t *testing.T) {
			pairs := make([]kv.Pair, 0, len(good)+1)
			for _, p := range good {
				if p.Key != pair.Key {
					pairs = append(pairs, p)
				}
			}
			_, err := decodeState(l, append(pairs, pair))
			var fault *changefeed.Fault
			require.True(t, errors.As(err, &fault), "%v", err)
			require.Equal(t, changefeed.CodeRecordInvalid, fault.Code)
			require.True(t, strings.Contains(fault.Value, "/cdc-claims/c1/default/orders/"), fault.Value)
		})
	}
}

// TestTxnsFitTheLimits: the largest transactions of the control side are within etcd's 128 operations.
func TestTxnsFitTheLimits(t *testing.T) {
	l := newLayout(identity, "/a/", "/b/")
	s := &state{layout: l, head: headRecord{Head: sink.Head{Identity: identity, Floor: 1}, Target: "/b/", NextClaim: 100}, claims: map[sink.Incarnation][]byte{}, rest: true}
	var held []sink.Held
	var writers []sink.Incarnation
	for n := range fencedMax {
		span := changefeed.Span{Start: []byte{byte('A' + n)}, End: []byte{byte('B' + n)}}
		held = append(held, sink.Held{Piece: sink.Piece{Span: span}, Token: fence.Mint(1, 1), Incarnation: sink.Incarnation(n + 1)})
		writers = append(writers, sink.Incarnation(n+1))
	}
	var err error
	s.held, err = sink.NewMap(held)
	require.NoError(t, err)
	require.NoError(t, s.fenceOut(writers).Check())
	retire, _ := s.retire(writers)
	require.NoError(t, retire.Check())
	claim, _, err := s.claim(identity, sink.Claim{Span: changefeed.Span{Start: []byte("A~")}, Token: fence.Mint(1, 2)})
	require.NoError(t, err)
	require.NoError(t, claim.Check())
	ops := make([]kv.Op, dataOpsMax)
	require.NoError(t, dataTxn(l, 1, 1, ops, nil).Check())
}

func TestValueOf(t *testing.T) {
	_, err := valueOf(&change.Change{Op: change.OpUpdate})
	require.Error(t, err)
	for _, row := range []change.Row{&change.KV{Value: []byte("v")}, textRow("v")} {
		value, err := valueOf(&change.Change{Op: change.OpUpdate, After: row})
		require.NoError(t, err)
		require.Equal(t, "v", string(value))
	}
}

// textRow is a row that came over the wire as text.
type textRow string

func (r textRow) Columns(yield func(string, any) bool) {
	_ = yield("key", "k") && yield("value", string(r))
}
func (r textRow) Size() int { return len(r) }

func FuzzDecodeState(f *testing.F) {
	l := newLayout(identity, "/a/", "/b/")
	head := headRecord{Head: sink.Head{Identity: identity, Floor: 1}, Target: "/b/", NextClaim: 3}
	f.Add(head.encode(), []byte(`{"epoch":1,"seq":1,"start":""}`), []byte(`[{"start":"","position":"4"}]`), []byte(`[]`))
	f.Fuzz(func(t *testing.T, head, claim, marks, rest []byte) {
		s, err := decodeState(l, []kv.Pair{
			{Key: l.head(), Value: head}, {Key: l.claim(1), Value: claim}, {Key: l.marks(1), Value: marks}, {Key: l.rest(), Value: rest},
		})
		if err == nil {
			require.NoError(t, s.held.Validate())
			_, err = json.Marshal(s.held)
			require.NoError(t, err)
		}
	})
}

func noStore(context.Context) (kv.Store, error) { return nil, errors.New("no store") }
