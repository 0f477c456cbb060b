package change

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode/utf8"
)

// The key space of tables is text where names and values are: `schema.table:` and then the values of the key, in its order,
// with a NUL between them, which no text of a database holds. So a table is the span from `schema.table:` to
// `schema.table;`, and keys of numbers sort as the numbers do. A row without identity has the key of its table alone.

const (
	tableEnd    = ':'
	tableBeyond = ';' // the next byte: where the span of a table ends
	keyBetween  = 0
	// keyDigits are as many as the largest number has.
	keyDigits = 19
)

// nameEscapes keep the marks of ours out of names.
var nameEscapes = strings.NewReplacer("%", "%25", ".", "%2E", ":", "%3A", ";", "%3B") //nolint:gochecknoglobals // read only

// TableSpan returns where the keys of a table begin and end.
func TableSpan(schema, table string) (start, end []byte) {
	name := nameEscapes.Replace(schema) + "." + nameEscapes.Replace(table)
	return append([]byte(name), tableEnd), append([]byte(name), tableBeyond)
}

// AppendKey appends the key of a row whose cells are in the relation's order, after the start of its table's span. The
// cells of the key's columns are known and not NULL.
func AppendKey(dst []byte, of *Relation, cells [][]byte) []byte {
	for place := 1; ; place++ {
		i := of.keyColumn(place)
		if i < 0 {
			return dst
		}
		if place > 1 {
			dst = append(dst, keyBetween)
		}
		dst = appendKeyCell(dst, of.Columns[i].Kind, cells[i])
	}
}

// AppendKeyOf appends the key of a row of the table, "schema.table", as it follows from what [Tuple.KeyColumns] yields.
// It reports false where it does not: names have marks of ours, or a value may have been written in several ways.
func AppendKeyOf(dst []byte, table string, key func(yield func(name string, value any) bool)) ([]byte, bool) {
	if strings.Count(table, ".") != 1 || strings.ContainsAny(table, "%:;") {
		return dst, false
	}
	dst = append(append(dst, table...), tableEnd)
	follows, isFirst := true, true
	key(func(_ string, value any) bool {
		if !isFirst {
			dst = append(dst, keyBetween)
		}
		isFirst = false
		switch v := value.(type) {
		case string:
			dst, follows = append(dst, v...), utf8.ValidString(v)
		case int64:
			var room [keyDigits + 1]byte
			dst = appendKeyCell(dst, KindInt, strconv.AppendInt(room[:0], v, 10))
		case bool:
			dst = append(dst, map[bool]byte{true: 't', false: 'f'}[v])
		default:
			follows = false
		}
		return follows
	})
	return dst, follows
}

// appendKeyCell appends one value so that numbers sort as numbers.
func appendKeyCell(dst []byte, kind Kind, cell []byte) []byte {
	if kind != KindInt {
		return append(dst, cell...)
	}
	digits, negative := bytes.CutPrefix(cell, []byte("-"))
	if negative {
		dst = append(dst, '-')
	}
	from := len(dst)
	for range keyDigits - len(digits) {
		dst = append(dst, '0')
	}
	dst = append(dst, digits...)
	if negative {
		turnDigits(dst[from:])
	}
	return dst
}

// turnDigits turns the digits of what is negative around, so that more is less; and back.
func turnDigits(digits []byte) {
	for i, digit := range digits {
		digits[i] = '0' + '9' - digit
	}
}

// TableKey is a key, or a border between keys, taken apart.
type TableKey struct {
	Schema, Table string
	Values        []string // as they stand in the key; see [KeyCell]
}

var errNoTableKey = errors.New("is no key of a table")

// ParseTableKey takes a key apart. A border need not be the key of any row: it has fewer values, or cut ones.
func ParseTableKey(key []byte) (TableKey, error) {
	name, rest, found := bytes.Cut(key, []byte{tableEnd})
	schema, table, dotted := strings.Cut(string(name), ".")
	if !found || !dotted {
		return TableKey{}, fmt.Errorf("%.100q %w", key, errNoTableKey)
	}
	out := TableKey{Schema: unescapeName(schema), Table: unescapeName(table)}
	if len(rest) > 0 {
		out.Values = strings.Split(string(rest), string(rune(keyBetween)))
	}
	return out, nil
}

func unescapeName(name string) string {
	return strings.NewReplacer("%2E", ".", "%3A", ":", "%3B", ";", "%25", "%").Replace(name)
}

// KeyCell returns the text form of a value that stands in a key; false if it is not of that kind.
func KeyCell(kind Kind, value string) (string, bool) {
	if kind != KindInt {
		return value, true
	}
	digits, negative := strings.CutPrefix(value, "-")
	if len(digits) != keyDigits {
		return "", false
	}
	text := []byte(digits)
	for i := range text {
		if text[i] < '0' || text[i] > '9' {
			return "", false
		}
	}
	if negative {
		turnDigits(text)
		text = append([]byte("-"), text...)
	}
	n, err := strconv.ParseInt(string(text), 10, 64)
	return strconv.FormatInt(n, 10), err == nil
}
