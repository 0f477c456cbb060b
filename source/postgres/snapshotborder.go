package postgres

import (
	"encoding/hex"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
)

// The rows of a table are read in the order of their keys, which are bytes: numbers by value, everything else by the UTF-8
// of its text. A border between keys becomes a condition on the columns of the key, so that the server reads no more than
// what lies between two borders, through the index of the key where that has the same order.

// keyColumns returns the columns of a table's key, in the key's order.
func keyColumns(of *change.Relation) []change.Column {
	var out []change.Column
	for place := 1; ; place++ {
		found := false
		for _, column := range of.Columns {
			if column.Key == place {
				out, found = append(out, column), true
				break
			}
		}
		if !found {
			return out
		}
	}
}

// natural reports whether the type's own order is that of the keys.
func natural(column change.Column) bool {
	return column.Kind == change.KindInt || column.Kind == change.KindBool || column.Kind == change.KindBytes || column.Type == "uuid"
}

// textOf is the text that stands in a key: concat gives what the type's output function says, where a cast to text has ideas of
// its own (boolean, character(n), inet).
func textOf(column change.Column) string {
	return "convert_to(concat(" + quoteName(column.Name) + "), 'UTF8')"
}

// orderBy returns the order of a table's keys.
func orderBy(key []change.Column) string {
	terms := make([]string, len(key))
	for i, column := range key {
		if terms[i] = textOf(column); natural(column) {
			terms[i] = quoteName(column.Name)
		}
	}
	return strings.Join(terms, ", ")
}

// border is a place among the keys of a table: the first so many columns of a row at or above it are at or above these values,
// or above them where it lies right behind all keys that begin with them.
type border struct {
	columns, values []string // as SQL
	behind          bool
	beyond          bool // no key is above
}

var uuidForm = regexp.MustCompile(`^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`)

// borderAt finds the place of a key, or of the beginning of one, whose parts these are.
func borderAt(key []change.Column, parts []string) border {
	var at border
	for i, part := range parts {
		if i == len(key) {
			at.behind = true // a key that goes on where ours end
			return at
		}
		column := key[i]
		switch {
		case column.Kind == change.KindInt:
			least, exact, found := leastInt(part)
			if !found {
				at.behind, at.beyond = true, i == 0
				return at
			}
			at.add(quoteName(column.Name), "'"+strconv.FormatInt(least, 10)+"'::bigint")
			if !exact {
				return at
			}
		case column.Type == "uuid" && uuidForm.MatchString(part):
			at.add(quoteName(column.Name), "'"+part+"'::uuid")
		default:
			// As bytes, since a border may cut a character.
			at.add(textOf(column), `'\x`+hex.EncodeToString([]byte(part))+`'::bytea`)
		}
	}
	return at
}

func (b *border) add(column, value string) {
	b.columns, b.values = append(b.columns, column), append(b.values, value)
}

// compared writes the condition with an operator.
func (b *border) compared(operator string) string {
	return fmt.Sprintf("(%s) %s (%s)", strings.Join(b.columns, ", "), operator, strings.Join(b.values, ", "))
}

// above is the condition of rows at or above the border.
func (b *border) above() string {
	switch {
	case b.beyond:
		return "false"
	case b.behind:
		return b.compared(">")
	}
	return b.compared(">=")
}

// below is the condition of rows below the border.
func (b *border) below() string {
	switch {
	case b.beyond:
		return "true"
	case b.behind:
		return b.compared("<=")
	}
	return b.compared("<")
}

// leastInt returns the least number that stands in keys as this text or above it; exact says that it is the text.
func leastInt(text string) (least int64, exact, found bool) {
	low, high := int64(math.MinInt64), int64(math.MaxInt64)
	if intText(high) < text {
		return 0, false, false
	}
	for low < high {
		middle := low + int64(uint64(high-low)/2)
		if intText(middle) < text {
			low = middle + 1
		} else {
			high = middle
		}
	}
	return low, intText(low) == text, true
}

// intText returns a number as it stands in keys.
func intText(n int64) string {
	return string(change.AppendKey(nil, oneInt, [][]byte{strconv.AppendInt(nil, n, 10)}))
}

var oneInt = &change.Relation{Columns: []change.Column{{Kind: change.KindInt, Key: 1}}} //nolint:gochecknoglobals // read only

// between returns the condition of the rows of a table whose keys lie in a span within the table's; empty: all of them.
func between(of *change.Relation, span changefeed.Span) (string, error) {
	key := keyColumns(of)
	start, end := change.TableSpan(of.Schema, of.Name)
	var conditions []string
	if string(span.Start) != string(start) {
		lower, err := change.ParseTableKey(span.Start)
		if err != nil {
			return "", err
		}
		at := borderAt(key, lower.Values)
		conditions = append(conditions, at.above())
	}
	if string(span.End) != string(end) {
		upper, err := change.ParseTableKey(span.End)
		if err != nil {
			return "", err
		}
		at := borderAt(key, upper.Values)
		conditions = append(conditions, at.below())
	}
	return strings.Join(conditions, " AND "), nil
}
