package verifymysql

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// What these servers find by an index are columns, not rows.
func TestKeysOfSeveralColumns(t *testing.T) {
	s := &Server{}
	require.Equal(t, "(a > 1)", s.Compare([]string{"a"}, ">", []string{"1"}))
	require.Equal(t, "(a <= 1)", s.Compare([]string{"a"}, "<=", []string{"1"}))
	require.Equal(t, "(a >= 1 AND (a > 1 OR (b > 2)))", s.Compare([]string{"a", "b"}, ">", []string{"1", "2"}))
	require.Equal(t, "(a <= 1 AND (a < 1 OR (b <= 2 AND (b < 2 OR (c <= 3)))))", s.Compare([]string{"a", "b", "c"}, "<=", []string{"1", "2", "3"}))
	require.Equal(t, "(a) IN ((1), (2))", s.Among([]string{"a"}, [][]string{{"1"}, {"2"}}))
	require.Equal(t, "(a = 1 AND b = 'x' OR a = 2 AND b = 'y')", s.Among([]string{"a", "b"}, [][]string{{"1", "'x'"}, {"2", "'y'"}}))
}

func TestCellsAreText(t *testing.T) {
	for value, want := range map[any]string{int64(-1): "-1", uint64(1 << 63): "9223372036854775808", 1e-300: "1e-300", float32(0.5): "0.5", "x": "x"} {
		require.Equal(t, want, string(cellOf(value)))
	}
	require.Nil(t, cellOf(nil))
	require.NotNil(t, cellOf([]byte(nil)))
}
