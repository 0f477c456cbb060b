package change_test

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

func kinds(types ...string) *change.Relation {
	of := &change.Relation{Schema: "public", Name: "kinds"}
	for i, name := range types {
		of.Columns = append(of.Columns, change.Column{Name: name, Type: name, Number: i + 1})
	}
	return of
}

func TestWhichRowsAreLinesInBinaryForm(t *testing.T) {
	all := []string{
		"boolean", "smallint", "integer", "bigint", "numeric", "numeric(10,2)", "text", "character varying(20)", "character(5)", "bytea", "uuid",
		"json", "jsonb", "date", "timestamp without time zone", "timestamp(3) with time zone",
	}
	require.True(t, change.BinaryRows(kinds(all...)))
	for _, other := range []string{"double precision", "text[]", "public.text", "interval", "inet", "time without time zone", "int4range", "???", ")("} {
		require.False(t, change.BinaryRows(kinds("integer", other)), other)
	}
	require.False(t, change.BinaryRows(kinds()))
	keyed := kinds("numeric")
	keyed.Columns[0].Key = 1
	require.False(t, change.BinaryRows(keyed), "1.0 and 1.00 are one key to the server")
	for of, base := range map[string]string{
		"bigint": "bigint", "numeric(10,2)": "numeric", "character(5)": "bpchar", "timestamp(3) with time zone": "timestamp with time zone",
	} {
		require.True(t, (&change.Column{Type: of}).SameBinary(base), of)
		require.False(t, (&change.Column{Type: of}).SameBinary("text"), of)
	}
}

// binaryRow is one row in binary form; nil is NULL.
func binaryRow(values ...[]byte) []byte {
	out := binary.BigEndian.AppendUint16(nil, uint16(len(values))) //nolint:gosec // few
	for _, value := range values {
		if value == nil {
			out = append(out, 0xff, 0xff, 0xff, 0xff)
			continue
		}
		out = append(binary.BigEndian.AppendUint32(out, uint32(len(value))), value...) //nolint:gosec // few
	}
	return out
}

// words are numbers of 16 bits.
func words(all ...uint16) (out []byte) {
	for _, one := range all {
		out = binary.BigEndian.AppendUint16(out, one)
	}
	return out
}

func TestARowInBinaryFormIsTakenApart(t *testing.T) {
	const (
		negative = 0x4000
		less     = 0xffff // -1
	)
	for _, c := range []struct {
		kind  string
		value []byte
		text  string
	}{
		{"boolean", []byte{1}, "t"},
		{"boolean", []byte{0}, "f"},
		{"smallint", words(0x8000), "-32768"},
		{"integer", words(0xffff, 0xffff), "-1"},
		{"bigint", words(0x7fff, 0xffff, 0xffff, 0xffff), "9223372036854775807"},
		{"numeric", words(0, 0, 0, 0), "0"},
		{"numeric(10,2)", words(0, 0, 0, 2), "0.00"},
		{"numeric", words(2, 1, negative, 0, 12, 34), "-120034"},
		{"numeric", words(1, 1, 0, 0, 1), "10000"},
		{"numeric", words(2, 0, 0, 6, 7, 1200), "7.120000"},
		{"numeric", words(1, less, 0, 3, 1230), "0.123"},
		{"numeric", words(1, less-1, negative, 6, 1200), "-0.000012"},
		{"numeric", words(0, 0, 0xC000, 0), "NaN"},
		{"numeric", words(0, 0, 0xD000, 0x20), "Infinity"},
		{"numeric", words(0, 0, 0xF000, 0x20), "-Infinity"},
		{"text", []byte{}, ""},
		{"character varying(5)", []byte("a\tb"), "a\tb"},
		{"json", []byte(`{"a": 1}`), `{"a": 1}`},
		{"jsonb", []byte("\x01{}"), "{}"},
		{"bytea", []byte{0, 0xff}, `\x00ff`},
		{"bytea", []byte{}, `\x`},
		{"uuid", []byte("0123456789abcdef"), "30313233-3435-3637-3839-616263646566"},
		{"date", words(0, 0), "2000-01-01"},
		{"date", words(0x7fff, 0xffff), "infinity"},
		{"date", words(0x8000, 0), "-infinity"},
		{"timestamp without time zone", words(0, 0, 0, 0), "2000-01-01 00:00:00"},
		{"timestamp without time zone", words(less, less, less, less), "1999-12-31 23:59:59.999999"},
		{"timestamp with time zone", words(0, 0, 0x0007, 0xa120), "2000-01-01 00:00:00.5+00"},
		{"timestamp with time zone", words(0x7fff, less, less, less), "infinity"},
	} {
		cells, rest, err := (&change.Lines{Of: kinds(c.kind), Form: change.LinesBinary}).Row(append(binaryRow(c.value), 9))
		require.NoError(t, err, "%s %s", c.kind, c.text)
		require.Equal(t, [][]byte{[]byte(c.text)}, cells, c.kind)
		require.Equal(t, []byte{9}, rest)
	}
	cells, _, err := (&change.Lines{Of: kinds("integer", "text"), Form: change.LinesBinary}).Row(binaryRow(nil, nil))
	require.NoError(t, err)
	require.Equal(t, [][]byte{nil, nil}, cells)
}

func TestWhatIsNoRowInBinaryFormIsRefused(t *testing.T) {
	for name, c := range map[string]struct {
		of   *change.Relation
		text []byte
	}{
		"nothing":         {kinds("integer"), nil},
		"a column less":   {kinds("integer", "text"), binaryRow([]byte("1234"))},
		"no length":       {kinds("integer"), []byte{0, 1, 0, 0}},
		"too long":        {kinds("text"), []byte{0, 1, 0, 0, 0, 9, 'a'}},
		"below nothing":   {kinds("text"), []byte{0, 1, 0xff, 0xff, 0xff, 0xfe, 'a'}},
		"short":           {kinds("bigint"), binaryRow([]byte("1234"))},
		"numeric":         {kinds("numeric"), binaryRow(words(0, 0, 0))},
		"numeric, digits": {kinds("numeric"), binaryRow(words(2, 0, 0, 0, 1))},
		"numeric, sign":   {kinds("numeric"), binaryRow(words(0, 0, 1, 0))},
		"jsonb":           {kinds("jsonb"), binaryRow([]byte("\x02{}"))},
		"another type":    {kinds("inet"), binaryRow([]byte("1234"))},
	} {
		_, err := (&change.Lines{Of: c.of, Form: change.LinesBinary, Text: c.text, Count: 1}).Changes(7)
		require.ErrorContains(t, err, "public.kinds", name)
	}
}

func FuzzRowsInBinaryForm(f *testing.F) {
	of := kinds("integer", "numeric", "text", "timestamp with time zone", "jsonb")
	f.Add(binaryRow(words(0, 7), words(1, 0, 0, 2, 5), []byte("a"), words(0, 0, 0, 1), []byte("\x01{}")))
	f.Add(binaryRow(nil, words(1, 0xfff0, 0, 0xffff, 5), nil, nil, nil))
	f.Fuzz(func(t *testing.T, text []byte) {
		changes, err := (&change.Lines{Of: of, Form: change.LinesBinary, Text: text, Count: 1}).Changes(7)
		if err == nil {
			require.Len(t, changes, 1)
		}
	})
}
