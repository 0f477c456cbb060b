package postgres

import (
	"bytes"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"fencerow/sink/sqlsink"
)

func TestRowsForCopyAreTheSameHoweverTheyAreRead(t *testing.T) {
	step := sqlsink.Step{Columns: []sqlsink.Bound{{At: 1}, {At: 0}}}
	var want strings.Builder
	for i := range 3000 { // several chunks
		long := strings.Repeat("x", i%97)
		step.Rows = append(step.Rows, sqlsink.StepRow{Cells: [][]byte{nil, []byte("a\t\\\r\n" + long)}})
		want.WriteString(`a\t\\\r\n` + long + "\t\\N\n")
	}
	read := func(way func(io.Reader) io.Reader) string {
		var out bytes.Buffer
		_, err := io.Copy(&out, way(&copyReader{step: &step}))
		require.NoError(t, err)
		return out.String()
	}
	require.Equal(t, want.String(), read(func(r io.Reader) io.Reader { return r }))
	require.Equal(t, want.String(), read(iotest.OneByteReader))
	require.NoError(t, iotest.TestReader(&copyReader{step: &step}, []byte(want.String())))
}

func TestNoRowsForCopyAreNothing(t *testing.T) {
	n, err := (&copyReader{step: &sqlsink.Step{}}).Read(make([]byte, 1))
	require.Zero(t, n)
	require.ErrorIs(t, err, io.EOF)
}
