package proc

import (
	"context"
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestWhatAProcessWroteIsKept(t *testing.T) {
	p, err := Start("words", exec.Command("sh", "-c", "echo one; echo two >&2; exit 3"))
	require.NoError(t, err)
	require.EqualError(t, p.Err(), "exit status 3")
	require.False(t, p.Alive())
	require.Equal(t, "one\n", p.Stdout.String())
	require.Equal(t, []string{"two"}, p.Signs("two", "three"))
	require.NoError(t, p.Signal(0), "one that has ended is no fault")
	p.Kill()
	_, err = Start("nothing", exec.Command("/does/not/exist"))
	require.ErrorContains(t, err, "start nothing")
}

func TestATailIsBounded(t *testing.T) {
	var b Tail
	for range 3 {
		_, err := b.Write([]byte(strings.Repeat("x", tailBytesMax/2) + "\nlast"))
		require.NoError(t, err)
	}
	require.Len(t, b.String(), tailBytesMax)
	require.Equal(t, "last", b.Last(1))
}

func TestAWaitThatEndsTellsTheLastError(t *testing.T) {
	never := errors.New("not yet")
	require.ErrorIs(t, Await(time.Millisecond, func() error { return never }), never)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := Until(ctx, func(context.Context) error { return never })
	require.ErrorIs(t, err, never)
	require.ErrorIs(t, err, context.Canceled)
}

// A fence that is not where it is looked for would leave a build fenced that is to show what happens without it.
func TestAFenceIsTakenOutOnce(t *testing.T) {
	fence := Fence{File: "f.go", Mark: "// fence:F23 x", Open: "if false {"}
	got, err := fence.opened("a\n\tif stale { // fence:F23 x\nb")
	require.NoError(t, err)
	require.Equal(t, "a\nif false {\nb", got)
	for _, text := range []string{"a\nb", "// fence:F23 x\n// fence:F23 x"} {
		_, err := fence.opened(text)
		require.ErrorContains(t, err, "not one")
	}
	_, err = overlaid("../..", t.TempDir(), Fences)
	require.NoError(t, err)
}
