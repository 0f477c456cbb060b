package postgres

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestPatterns(t *testing.T) {
	for _, c := range []struct {
		patterns, schema, table string
		match                   bool
	}{
		{"*.*", "public", "orders", true},
		{"*.*", "pg_catalog", "pg_class", false},
		{"*.*", "information_schema", "tables", false},
		{"fencerow.*", "fencerow", "heads", false},
		{"public.*,!public.tmp_*", "public", "orders", true},
		{"public.*,!public.tmp_*", "public", "tmp_orders", false},
		{"!public.tmp_*,public.*", "public", "tmp_orders", false},
		{"public.*", "other", "orders", false},
		{"public.o?ders", "public", "orders", true},
		{"public.o?ders", "public", "oders", false},
		{"public.*a*b", "public", "xaxbxb", true},
		{"public.*a*b", "public", "xaxbx", false},
		{`public.a\.b\,c\*`, "public", "a.b,c*", true},
		{`public.a\.b\,c\*`, "public", "a.b,cd", false},
		{"public.a, public.b", "public", "b", true},
		{"public.ä?", "public", "äö", true},
		{"public.**", "public", "", true},
		{"Public.*", "public", "orders", false},
	} {
		p, err := parsePatterns(c.patterns)
		require.NoError(t, err, c.patterns)
		require.Equal(t, c.match, p.match(c.schema, c.table), "%s on %s.%s", c.patterns, c.schema, c.table)
	}
}

func TestWhatIsNoPatternIsRefused(t *testing.T) {
	for _, text := range []string{"", "orders", "public.", ".orders", "a.b.c", "public.a,", "!public.a", `public.a\`, "!"} {
		_, err := parsePatterns(text)
		require.Error(t, err, text)
	}
}
