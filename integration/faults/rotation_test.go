package faults

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// What CI injects in one run comes to every fault in every phase, wherever the seed begins.
func TestARotationComesToEverything(t *testing.T) {
	const ofCI = 60
	for seed := range uint64(3) {
		plans, err := rotation(ofCI, seed, "")
		require.NoError(t, err)
		seen := map[string]int{}
		for _, p := range plans {
			seen[p.String()]++
		}
		require.Len(t, seen, len(faults)*len(phases))
	}
	_, err := rotation(ofCI, 0, "earthquake")
	require.Error(t, err)
}

// A fault counts as effective by what was seen only: a batch on its way when it fell, or an attempt after a successor's claim.
func TestWhatHadNothingToDoIsNotEffective(t *testing.T) {
	r := &report{outcomes: []outcome{
		{recovery: time.Second}, {inFlight: 1}, {late: map[int]int{23: 1}}, {problem: "none came there"},
	}}
	require.Equal(t, 2, r.effective())
	require.Contains(t, r.String(), "faults injected 4, effective 2")
}

// The binary that people run has no failpoints.
func TestTheBuildOfTheProductHasNoFailpoints(t *testing.T) {
	t.Parallel()
	const sign = "CDC_FAILPOINTS"
	plain := filepath.Join(t.TempDir(), "cdc-node")
	out, err := exec.Command("go", "build", "-o", plain, "fencerow/cmd/cdc-node").CombinedOutput()
	require.NoError(t, err, "%s", out)
	for path, has := range map[string]bool{plain: false, binary: true} {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.Equal(t, has, bytes.Contains(text, []byte(sign)), path)
	}
}
