package mysql

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

func TestTypesAreTakenApart(t *testing.T) {
	for text, want := range map[string]sourceType{
		"":                            {},
		"integer":                     {base: "integer"},
		"numeric(10,2)":               {base: "numeric", modifiers: []int{10, 2}},
		"numeric(3,-2)":               {base: "numeric", modifiers: []int{3, -2}},
		"timestamp(3) with time zone": {base: "timestamp with time zone", modifiers: []int{3}},
		"character varying(20)[]":     {base: "character varying(20)", array: true},
		`"Odd(1)"`:                    {base: `"Odd(1)"`},
		"interval(2)":                 {base: "interval", modifiers: []int{2}},
		"geometry(Point,4326)":        {base: "geometry(Point,4326)"},
		"broken(":                     {base: "broken("},
	} {
		require.Equal(t, want, parseType(text), text)
	}
}

// plain drops the collation.
func plain(types []string) []string {
	for i := range types {
		types[i] = strings.TrimSuffix(strings.TrimSuffix(types[i], " "+unicode), " CHARACTER SET ascii COLLATE ascii_bin")
	}
	return types
}

// table is a relation of some types, of which the first are the key.
func table(keys int, types ...string) *change.Relation {
	out := &change.Relation{Schema: "public", Name: "t"}
	for i, text := range types {
		column := change.Column{Name: string(rune('a' + i)), Type: text, Null: i >= keys}
		if i < keys {
			column.Key = i + 1
		}
		switch text {
		case "bytea":
			column.Kind = change.KindBytes
		case "boolean":
			column.Kind = change.KindBool
		case "smallint", "integer", "bigint", "oid":
			column.Kind = change.KindInt
		case "real", "double precision":
			column.Kind = change.KindFloat
		}
		out.Columns = append(out.Columns, column)
	}
	return out
}

var quoted = regexp.MustCompile("`([^`]+)`")

// The table of the page says what the code does.
func TestThePageListsTheTypes(t *testing.T) {
	text, err := os.ReadFile("../../docs/sinks-mysql-types.md")
	require.NoError(t, err)
	rows := 0
	for line := range strings.Lines(string(text)) {
		cells := strings.Split(strings.Trim(strings.TrimSpace(line), "|"), "|")
		if len(cells) != 4 || !strings.HasPrefix(strings.TrimSpace(cells[0]), "`") {
			continue
		}
		for _, found := range quoted.FindAllStringSubmatch(cells[0], -1) {
			name := found[1]
			rows++
			require.Equal(t, strings.Trim(strings.TrimSpace(cells[1]), "`"), plain(columnTypes(table(0, name).Columns))[0], name)
			if key := strings.Trim(strings.TrimSpace(cells[2]), "`"); key != "" {
				require.Equal(t, key, plain(columnTypes(table(1, name).Columns))[0], name)
			}
		}
	}
	require.Greater(t, rows, 30)
}

func TestDecimalsHoldEveryNumberOrAreText(t *testing.T) {
	for source, want := range map[string]string{
		"numeric":         "decimal(65,30)",
		"numeric(1,0)":    "decimal(1,0)",
		"numeric(65,30)":  "decimal(65,30)",
		"numeric(66,0)":   typeText,
		"numeric(65,31)":  typeText,
		"numeric(3,-2)":   "decimal(5,0)",
		"numeric(64,-2)":  typeText,
		"numeric(2,5)":    "decimal(5,5)",
		"numeric(2,31)":   typeText,
		"numeric(10,2)[]": typeText,
	} {
		require.Equal(t, want, plain(columnTypes(table(0, source).Columns))[0], source)
	}
}

func TestKeysShareWhatAnIndexTakes(t *testing.T) {
	for name, test := range map[string]struct {
		of   *change.Relation
		want []string
	}{
		"no key":                   {table(0, "text", "bytea"), []string{typeText, typeBytes}},
		"one text":                 {table(1, "text", "text"), []string{"varchar(768)", typeText}},
		"a number beside it":       {table(2, "integer", "text"), []string{"int", "varchar(756)"}},
		"two":                      {table(2, "text", "bytea"), []string{"varchar(384)", "varbinary(1536)"}},
		"what is short keeps that": {table(2, "character varying(8)", "text"), []string{"varchar(8)", "varchar(760)"}},
		"what is long does not":    {table(1, "character varying(4000)"), []string{"varchar(768)"}},
		"an array is text":         {table(1, "integer[]"), []string{"varchar(768)"}},
	} {
		require.Equal(t, test.want, plain(columnTypes(test.of.Columns)), name)
	}
	many := table(32, strings.Split(strings.Repeat("text,", 31)+"integer", ",")...)
	for _, text := range plain(columnTypes(many.Columns))[:31] {
		require.Equal(t, "varchar(24)", text)
	}
}

func TestTypesThatAreNotKnownGoByTheirKind(t *testing.T) {
	of := table(0, "price", "color")
	of.Columns[0].Kind = change.KindInt
	require.Equal(t, []string{"bigint", typeText}, plain(columnTypes(of.Columns)))
}
