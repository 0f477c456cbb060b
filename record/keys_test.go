package record_test

import (
	"math"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

func TestKeysAreReadBack(t *testing.T) {
	keys := newKeys(t)
	odd := changefeed.ID{Namespace: "\x01ä%", Name: "a\\b\"\xff"}
	for key, want := range map[string]record.Ref{
		keys.Meta():             {Kind: record.KindMeta},
		keys.Node("i"):          {Kind: record.KindNode, Node: "i"},
		keys.Name("n"):          {Kind: record.KindName, Name: "n"},
		keys.Drain("n"):         {Kind: record.KindDrain, Name: "n"},
		keys.Candidate(-1):      {Kind: record.KindCandidate, Lease: -1},
		keys.Candidate(0x1f):    {Kind: record.KindCandidate, Lease: 0x1f},
		keys.Spec(odd):          {Kind: record.KindSpec, ID: odd},
		keys.Epoch(odd):         {Kind: record.KindEpoch, ID: odd},
		keys.Handoff(odd):       {Kind: record.KindHandoff, ID: odd},
		keys.Status(odd):        {Kind: record.KindStatus, ID: odd},
		keys.History(odd, 12):   {Kind: record.KindHistory, ID: odd, Epoch: 12},
		keys.Eviction("u", "i"): {Kind: record.KindEviction, UID: "u", Node: "i"},
	} {
		ref, err := keys.Parse(key)
		require.NoError(t, err, key)
		require.Equal(t, want, ref)
		require.Equal(t, keys.Prefix()+ref.String(), key)
		require.True(t, strings.HasPrefix(key, keys.Of(want.Kind)))
	}
}

func TestHistoryKeysSortByEpoch(t *testing.T) {
	keys := newKeys(t)
	var out []string
	for _, epoch := range []fence.Epoch{0, 9, 10, 1043, math.MaxUint64} {
		out = append(out, keys.History(orders(), epoch))
	}
	require.True(t, slices.IsSorted(out))
	require.Equal(t, "/cdc/default/history/default/orders/00000000000000001043", out[3])
}

func TestKeysThatAreNoneAreRefused(t *testing.T) {
	keys := newKeys(t)
	for _, key := range []string{
		"", "/cdc/default", "/cdc/default/", "/cdc/other/meta", "/cdc/default/meta/x", "/cdc/default/unknown/x",
		"/cdc/default/nodes", "/cdc/default/nodes/", "/cdc/default/nodes/a/b", "/cdc/default/specs/a", "/cdc/default/specs//a",
		"/cdc/default/specs/a/b/c", "/cdc/default/history/a/b/12", "/cdc/default/history/a/b/0000000000000000000x",
		"/cdc/default/history/a/b/99999999999999999999", "/cdc/default/coordinator/xyz", "/cdc/default/coordinator/01",
		"/cdc/default/evictions/u", "/cdc/default/candidates/1",
	} {
		_, err := keys.Parse(key)
		require.Error(t, err, key)
		require.Equal(t, changefeed.CodeRecordInvalid, changefeed.AsFault(err, "").Code)
	}
	_, err := record.Keys{}.Parse("meta")
	require.Error(t, err, "the zero value has no keys")
}

func TestAClusterNameIsOnePart(t *testing.T) {
	for _, name := range []string{"", "a/b", "a b", "..", strings.Repeat("x", 129)} {
		_, err := record.NewKeys(name)
		require.Error(t, err, name)
		require.Equal(t, "cluster", changefeed.AsFault(err, "").Field)
	}
}

func FuzzParseKey(f *testing.F) {
	for key := range golden() {
		f.Add(key)
	}
	f.Fuzz(func(t *testing.T, key string) {
		keys := newKeys(t)
		ref, err := keys.Parse(key)
		if err == nil {
			require.Equal(t, key, keys.Prefix()+ref.String())
		}
	})
}

// FuzzDecode holds that nothing panics, and that what was read is written and read again as the same.
func FuzzDecode(f *testing.F) {
	for key, value := range golden() {
		f.Add(key, []byte(value))
	}
	f.Add("/cdc/default/names/n1", []byte(`{"node":"x","node":"y","extra":{"a":1e400}}`))
	f.Fuzz(func(t *testing.T, key string, value []byte) {
		keys := newKeys(t)
		ref, decoded, err := keys.Decode(key, value)
		if err != nil {
			require.Equal(t, changefeed.CodeRecordInvalid, changefeed.AsFault(err, "").Code)
			return
		}
		first, err := record.Encode(ref, decoded)
		if err != nil {
			return // only a record at the limit of its size can grow beyond it
		}
		_, again, err := keys.Decode(key, first)
		require.NoError(t, err)
		second, err := record.Encode(ref, again)
		require.NoError(t, err)
		require.Equal(t, string(first), string(second))
	})
}
