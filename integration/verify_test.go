package integration

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

type verified struct {
	Rows        int64  `json:"rows"`
	From        string `json:"from"`
	To          string `json:"to"`
	SyncPoint   string `json:"sync_point"`
	Differences []struct {
		Kind    string   `json:"kind"`
		Key     string   `json:"key"`
		Columns []string `json:"columns"`
	} `json:"differences"`
	UnsettledCount int `json:"unsettled_count"`
}

// While eight writers go on and a node is killed, nothing is named that is as it should be; and what somebody did to the target
// is, each row of it.
func TestVerifyNamesWhatDiffersWhileChangesGoOn(t *testing.T) {
	w := newWorld(t, 500)
	const still = 300
	for i := range still {
		_, err := w.source.client.Put(t.Context(), fmt.Sprintf("%sstill/%03d", sourcePrefix, i), fmt.Sprint(i))
		require.NoError(t, err)
	}
	via := w.all[0]
	compare := func(want int) verified {
		t.Helper()
		r := cli(t, "verify", "copy", "--server", via.url(), "-o", "json")
		require.Equal(t, want, r.code, "%s\n%s", r.stdout, r.stderr)
		var out verified
		require.NoError(t, json.Unmarshal([]byte(r.stdout), &out), r.stdout)
		require.GreaterOrEqual(t, out.Rows, int64(still))
		require.Zero(t, out.UnsettledCount)
		return out
	}
	for range 3 {
		require.Empty(t, compare(0).Differences)
	}
	w.ownerOf("copy").Kill()
	via = w.alive()
	require.Empty(t, compare(0).Differences)

	_, err := w.target.client.Put(t.Context(), targetPrefix+"still/007", "seven")
	require.NoError(t, err)
	_, err = w.target.client.Delete(t.Context(), targetPrefix+"still/011")
	require.NoError(t, err)
	_, err = w.target.client.Put(t.Context(), targetPrefix+"stray", "x")
	require.NoError(t, err)
	found := map[string]string{}
	for _, one := range compare(1).Differences {
		found[one.Key] = one.Kind
	}
	require.Equal(t, map[string]string{
		sourcePrefix + "still/007": "different", sourcePrefix + "still/011": "missing", sourcePrefix + "stray": "extra",
	}, found)
	shown := cli(t, "verify", "copy", "--server", via.url(), "--limit", "1")
	require.Equal(t, 1, shown.code)
	require.Contains(t, shown.stdout, "there are more")
	require.Contains(t, shown.stderr, "the target is not what the source is")
	refused(t, 2, []string{"can't be compared"}, "verify", "files", "--server", via.url())
	refused(t, 4, []string{"does not exist"}, "verify", "nothing", "--server", via.url())
}
