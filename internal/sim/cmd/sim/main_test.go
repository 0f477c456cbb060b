package main

import (
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// One seed tells one story, byte for byte: also built with the race detector, and with any number of threads.
func TestTheStoryIsTheSameWithTheRaceDetector(t *testing.T) {
	if testing.Short() {
		t.Skip("builds two programs")
	}
	folder := t.TempDir()
	build := func(name string, flags ...string) string {
		path := filepath.Join(folder, name)
		args := append(append([]string{"build"}, flags...), "-o", path, ".")
		out, err := exec.CommandContext(t.Context(), "go", args...).CombinedOutput()
		require.NoError(t, err, "%s", out)
		return path
	}
	plain, raced := build("plain"), build("raced", "-race")
	for _, seed := range []string{"3", "5", "8"} {
		var stories []string
		for _, one := range []struct{ path, threads string }{{plain, "1"}, {plain, "4"}, {raced, "2"}} {
			command := exec.CommandContext(t.Context(), one.path, "-seed", seed, "-v")
			command.Env = append(command.Environ(), "GOMAXPROCS="+one.threads)
			out, err := command.Output()
			require.NoError(t, err)
			require.Greater(t, len(out), 10_000)
			stories = append(stories, string(out))
		}
		require.True(t, stories[0] == stories[1], "seed %s tells two stories on 1 and 4 threads", seed)
		require.True(t, stories[0] == stories[2], "seed %s tells another story with the race detector", seed)
	}
}
