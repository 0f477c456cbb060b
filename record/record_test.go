package record_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/record"
)

func newKeys(t testing.TB) record.Keys {
	t.Helper()
	keys, err := record.NewKeys("default")
	require.NoError(t, err)
	return keys
}

func orders() changefeed.ID { return changefeed.ID{Namespace: "default", Name: "orders"} }

// golden are the bytes that people and scripts rely on: every field, in its order.
func golden() map[string]string {
	return map[string]string{
		"/cdc/default/meta":           `{"format":1,"level":1,"cluster_id":"c1","epoch_floor":0,"created":"2026-01-02T03:04:05Z"}`,
		"/cdc/default/nodes/id-1":     `{"id":"id-1","name":"n1","http":"h:1","peer":"p:2","version":"1.0","level":1,"started":"2026-01-02T03:04:05Z","liveness":"alive","unreachable":["id-2"]}`,
		"/cdc/default/names/n1":       `{"node":"id-1"}`,
		"/cdc/default/drains/n1":      `{"at":"2026-01-02T03:04:05Z","by":"ops"}`,
		"/cdc/default/coordinator/1f": `{"node":"id-1"}`,
		"/cdc/default/specs/default/orders": `{"uid":"u1","namespace":"default","name":"orders","source":"etcd://h/p/?a=1&b=<2>","sink":"blackhole:","start":"now",` +
			`"start_position":"7","options":{"a":"1","b":"2"},"desired":"running","created":"2026-01-02T03:04:05Z","updated":"2026-01-02T03:04:05Z","move":{"to":"id-2","id":"m1"}}`,
		"/cdc/default/epochs/default/orders":   `{"uid":"u1","epoch":1043,"owner":"id-1","owner_name":"n1","term":12,"spec_revision":"998","reason":"owner_lost","nonce":"x","at":"2026-01-02T03:04:05Z"}`,
		"/cdc/default/handoffs/default/orders": `{"uid":"u1","epoch":1043,"to":"id-2","to_name":"n2","reason":"moved","at":"2026-01-02T03:04:05Z"}`,
		"/cdc/default/status/default/orders": `{"uid":"u1","epoch":1043,"state":"stalled","checkpoint":"20817","resolved":"18446744073709551615","source_id":"s","spans":3,` +
			`"stalled":{"reason":"r","node":"id-2","start":"a","end":{"base64":"/w=="},"since":"2026-01-02T03:04:05Z"},` +
			`"error":{"code":"sink.full","message":"m","since":"2026-01-02T03:04:05Z","next_try":"2026-01-02T03:04:05Z"},"at":"2026-01-02T03:04:05Z"}`,
		"/cdc/default/history/default/orders/00000000000000001043": `{"uid":"u1","epoch":1043,"owner":"id-1","owner_name":"n1","term":12,"spec_revision":"998","reason":"owner_lost","nonce":"x","at":"2026-01-02T03:04:05Z",` +
			`"until":"2026-01-02T03:04:05Z","final_checkpoint":"20817","ended":"moved","unanswered":true}`,
		"/cdc/default/evictions/u1/id-2": `{"epoch":1043,"seq":2,"at":"2026-01-02T03:04:05Z","acknowledged_at":"2026-01-02T03:04:05Z",` +
			`"finals":[{"start":"a","end":{"base64":"/w=="},"epoch":1042,"seq":7,"position":"20817","index":3}]}`,
	}
}

func TestRecordsKeepTheirBytes(t *testing.T) {
	keys := newKeys(t)
	for key, value := range golden() {
		ref, decoded, err := keys.Decode(key, []byte(value))
		require.NoError(t, err, key)
		encoded, err := record.Encode(ref, decoded)
		require.NoError(t, err, key)
		require.Equal(t, value, string(encoded), key)
		require.Equal(t, "/cdc/default/"+ref.String(), key)
	}
}

// Older versions keep what they do not know.
func TestUnknownFieldsSurvive(t *testing.T) {
	keys := newKeys(t)
	for key, value := range golden() {
		extended := strings.TrimSuffix(value, "}") + `,"zeta":{"a":[1,2.50]},"älpha":"<&>"}`
		ref, decoded, err := keys.Decode(key, []byte(extended))
		require.NoError(t, err, key)
		encoded, err := record.Encode(ref, decoded)
		require.NoError(t, err, key)
		require.JSONEq(t, extended, string(encoded))
		require.True(t, strings.HasPrefix(string(encoded), strings.TrimSuffix(value, "}")), "known fields come first")
	}
}

func TestAbsentIsOmittedAndEmptyIsEmpty(t *testing.T) {
	at := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	spec, err := record.Encode(record.Ref{Kind: record.KindSpec, ID: orders()}, &record.Spec{
		UID: "u", Namespace: "default", Name: "orders", Source: "s:", Sink: "k:", Start: "snapshot",
		Desired: changefeed.DesiredPaused, Created: at, Updated: at,
	})
	require.NoError(t, err)
	require.Equal(t, `{"uid":"u","namespace":"default","name":"orders","source":"s:","sink":"k:","start":"snapshot","options":{},`+
		`"desired":"paused","created":"2026-01-02T03:04:05Z","updated":"2026-01-02T03:04:05Z"}`, string(spec))
	node, err := record.Encode(record.Ref{Kind: record.KindNode, Node: "i"}, &record.Node{
		ID: "i", Name: "n", Liveness: record.Alive, Started: at,
	})
	require.NoError(t, err)
	require.Contains(t, string(node), `"unreachable":[]`)
	status, err := record.Encode(record.Ref{Kind: record.KindStatus, ID: orders()}, &record.Status{
		UID: "u", Epoch: 1, State: changefeed.StateRunning, Checkpoint: change.Position(5), At: at,
	})
	require.NoError(t, err)
	require.NotContains(t, string(status), "stalled")
	require.Contains(t, string(status), `"checkpoint":"5"`)
}

func TestBadRecordsNameTheKeyAndTheFault(t *testing.T) {
	keys := newKeys(t)
	spec, epoch := keys.Spec(orders()), keys.Epoch(orders())
	edit := func(key, old, replacement string) string {
		value := golden()[key]
		require.Contains(t, value, old)
		return strings.Replace(value, old, replacement, 1)
	}
	for name, c := range map[string]struct{ key, value, says string }{
		"not JSON":               {epoch, `{"uid":`, "not a JSON object"},
		"null":                   {epoch, `null`, "has no uid"},
		"a list":                 {epoch, `[]`, "not a JSON object"},
		"empty":                  {epoch, ``, "not a JSON object"},
		"too large":              {epoch, `{"uid":"` + strings.Repeat("a", record.ValueBytesMax) + `"}`, "more than"},
		"epoch above 2^53":       {epoch, edit(epoch, "1043", "9007199254740992"), "above 2^53"},
		"epoch negative":         {epoch, edit(epoch, "1043", "-1"), "does not parse"},
		"epoch with a fraction":  {epoch, edit(epoch, "1043", "10.5"), "does not parse"},
		"field in another case":  {epoch, edit(epoch, `"uid"`, `"UID"`), "is written"},
		"no nonce":               {epoch, edit(epoch, `"nonce":"x"`, `"nonce":""`), "nonce"},
		"term above 2^53":        {epoch, edit(epoch, `"term":12`, `"term":9007199254740992`), "term"},
		"owner with a slash":     {epoch, edit(epoch, `"owner":"id-1"`, `"owner":"a/b"`), "/ in its owner"},
		"another name":           {spec, edit(spec, `"name":"orders"`, `"name":"other"`), "another changefeed"},
		"unknown desired state":  {spec, edit(spec, `"running"`, `"flying"`), "flying"},
		"position not decimal":   {spec, edit(spec, `"start_position":"7"`, `"start_position":"x"`), "does not parse"},
		"position as a number":   {spec, edit(spec, `"start_position":"7"`, `"start_position":7`), "does not parse"},
		"no cluster id":          {keys.Meta(), edit(keys.Meta(), `"c1"`, `""`), "cluster_id"},
		"newer format":           {keys.Meta(), edit(keys.Meta(), `"format":1`, `"format":2`), "newer version"},
		"another node":           {keys.Node("id-9"), golden()[keys.Node("id-1")], "another node"},
		"history's other epoch":  {keys.History(orders(), 9), golden()[keys.History(orders(), 1043)], "another epoch"},
		"seq above 2^53":         {keys.Eviction("u1", "id-2"), edit(keys.Eviction("u1", "id-2"), `"seq":2`, `"seq":9007199254740992`), "seq"},
		"unknown state":          {keys.Status(orders()), edit(keys.Status(orders()), `"state":"stalled"`, `"state":"odd"`), "odd"},
		"outside of the cluster": {"/cdc/other/meta", "{}", "lies outside"},
	} {
		_, decoded, err := keys.Decode(c.key, []byte(c.value))
		require.Error(t, err, name)
		require.Nil(t, decoded, name)
		fault := changefeed.AsFault(err, "")
		require.Equal(t, changefeed.CodeRecordInvalid, fault.Code, name)
		require.Contains(t, err.Error(), c.says, name)
		require.Contains(t, err.Error(), c.key, name)
	}
}

func TestWhatCouldNotBeReadIsNotWritten(t *testing.T) {
	_, err := record.Encode(record.Ref{Kind: record.KindEpoch, ID: orders()}, &record.Epoch{UID: "u"})
	require.Equal(t, changefeed.CodeRecordInvalid, changefeed.AsFault(err, "").Code)
	_, err = record.Encode(record.Ref{Kind: record.KindName, Name: "n"}, &record.Name{
		Node: "x", Extra: record.Extra{"big": json.RawMessage(`"` + strings.Repeat("a", record.ValueBytesMax) + `"`)},
	})
	require.ErrorContains(t, err, "more than")
	_, err = record.Encode(record.Ref{Kind: record.KindName, Name: "n"}, &record.Name{
		Node: "x", Extra: record.Extra{"bad": json.RawMessage(`{`)},
	})
	require.Error(t, err)
	_, err = record.Encode(record.Ref{Kind: record.KindDrain, Name: "n"}, &record.Drain{At: time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC)})
	require.Error(t, err, "a year that RFC 3339 has not")
	value, err := record.Encode(record.Ref{Kind: record.KindName, Name: "n"}, &record.Name{
		Node: "x", Extra: record.Extra{"node": json.RawMessage(`"y"`)},
	})
	require.NoError(t, err)
	require.JSONEq(t, `{"node":"x"}`, string(value), "no field twice")
}

func TestDecodeAsWantsTheKind(t *testing.T) {
	keys := newKeys(t)
	_, err := record.DecodeAs[record.Spec](keys, keys.Name("n1"), []byte(`{"node":"x"}`))
	require.ErrorContains(t, err, "another kind")
	name, err := record.DecodeAs[record.Name](keys, keys.Name("n1"), []byte(`{"node":"x"}`))
	require.NoError(t, err)
	require.Equal(t, changefeed.NodeID("x"), name.Node)
}

// fence:F14
func TestARecordOfAVersionWithoutEpochsIsRead(t *testing.T) {
	keys := newKeys(t)
	key := keys.Epoch(orders())
	_, decoded, err := keys.Decode(key, []byte(strings.Replace(golden()[key], "1043", "0", 1)))
	require.NoError(t, err)
	epoch, ok := decoded.(*record.Epoch)
	require.True(t, ok)
	gate := fence.NewLegacyGate()
	require.True(t, gate.Observe(epoch.Claimant()))
	require.NoError(t, gate.Admit(epoch.Claimant()))
	gate = fence.Gate{}
	require.False(t, gate.Observe(epoch.Claimant()))
	require.ErrorIs(t, gate.Admit(epoch.Claimant()), fence.RefusedZero)
}
