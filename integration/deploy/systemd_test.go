package deploy

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// systemd takes the unit as it is, with the binary where this test has it, and says that it is confined.
func TestTheUnitIsTaken(t *testing.T) {
	analyze := needed(t, "systemd-analyze")
	text, err := os.ReadFile("../../deploy/systemd/cdc-node.service")
	require.NoError(t, err)
	installed := "/usr/local/bin/cdc-node"
	require.Contains(t, string(text), "ExecStart="+installed+" server ")
	unit := strings.ReplaceAll(string(text), installed, released(t, "cdc-node-linux-amd64"))
	path := filepath.Join(t.TempDir(), "cdc-node.service")
	require.NoError(t, os.WriteFile(path, []byte(unit), 0o644))
	verify := func() string {
		out, err := exec.CommandContext(t.Context(), analyze, "--man=no", "--recursive-errors=no", "verify", path).CombinedOutput()
		if err != nil {
			return err.Error() + ": " + string(out)
		}
		return string(out)
	}
	require.Empty(t, verify())
	out, err := exec.CommandContext(t.Context(), analyze, "--offline=true", "--threshold=20", "security", path).CombinedOutput()
	require.NoError(t, err, "more exposed than 2.0 of 10: %s", out)

	// That it objects at all:
	require.NoError(t, os.WriteFile(path, []byte(strings.Replace(unit, "Restart=", "Restarts=", 1)), 0o644))
	require.Contains(t, verify(), "Restarts")
}

// The unit waits longer than a clean stop may take, and gives flags that there are.
func TestTheUnitFitsTheBinary(t *testing.T) {
	text, err := os.ReadFile("../../deploy/systemd/cdc-node.service")
	require.NoError(t, err)
	found := regexp.MustCompile(`(?m)^TimeoutStopSec=(\d+)$`).FindStringSubmatch(string(text))
	require.NotNil(t, found)
	limit, err := time.ParseDuration(found[1] + "s")
	require.NoError(t, err)
	require.Greater(t, limit, stopTimeout(t))
	start := regexp.MustCompile(`(?m)^ExecStart=.*$`).FindString(string(text))
	for _, flag := range regexp.MustCompile(` --([a-z-]+) `).FindAllStringSubmatch(start, -1) {
		require.Contains(t, serverFlags(t), flag[1])
	}
}
