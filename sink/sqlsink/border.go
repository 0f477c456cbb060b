package sqlsink

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
)

// A span of the key space is a range of a table's keys. Keys sort as their text does in the key space: numbers as numbers,
// and all else by the bytes of the text.

// within returns the condition for the rows of a table whose keys are in a span; an empty text says that all are.
func within(span, table changefeed.Span, key []Bound, dialect Tables) Condition {
	var out Condition
	if string(span.Start) > string(table.Start) {
		out = reaches(span.Start, key, dialect)
	}
	if len(span.End) > 0 && string(span.End) < string(table.End) {
		if end := reaches(span.End, key, dialect); end.Text != "" {
			out = out.and(Condition{Text: "NOT (" + end.Text + ")", Args: end.Args})
		} else {
			out = Condition{Text: "1 = 0"}
		}
	}
	return out
}

func (c Condition) and(other Condition) Condition {
	if c.Text == "" {
		return other
	}
	return Condition{Text: "(" + c.Text + ") AND (" + other.Text + ")", Args: append(slices.Clip(c.Args), other.Args...)}
}

// reaches returns the condition for keys that are at a border or beyond; an empty text says that all are.
func reaches(border []byte, key []Bound, dialect Tables) Condition {
	parsed, err := change.ParseTableKey(border)
	if err != nil { // before the table, or what is no border of a table at all
		return Condition{}
	}
	return reachesFrom(parsed.Values, key, dialect)
}

func reachesFrom(values []string, key []Bound, dialect Tables) Condition {
	if len(values) == 0 || len(key) == 0 {
		return Condition{}
	}
	last := len(values) == 1 || len(key) == 1
	column := dialect.Column(key[0].To.Name)
	var value any
	if key[0].From.Kind == change.KindInt {
		n, exact := lowestNumber(values[0])
		if !exact { // no key has this very number, so what follows it says nothing
			last = true
		}
		value = n
	} else {
		column, value = dialect.KeyText(*key[0].From, key[0].To), dialect.KeyBytes(values[0])
	}
	if last {
		return Condition{Text: column + " >= ?", Args: []any{value}}
	}
	rest := reachesFrom(values[1:], key[1:], dialect)
	if rest.Text == "" {
		return Condition{Text: column + " >= ?", Args: []any{value}}
	}
	return Condition{
		Text: column + " > ? OR (" + column + " = ? AND (" + rest.Text + "))", Args: append([]any{value, value}, rest.Args...),
	}
}

// numberDigits are those of a number in a key.
const numberDigits = 19

// lowestNumber returns the lowest number whose text in a key is at a border or beyond, and whether it is the border's own.
func lowestNumber(border string) (lowest int64, exact bool) {
	if text, ok := change.KeyCell(change.KindInt, border); ok {
		return clamp(text), true
	}
	if border < "-" {
		return math.MinInt64, false
	}
	digits, negative := strings.CutPrefix(border, "-")
	if !negative && border < "0" { // beyond all that are negative
		return 0, false
	}
	// The longest run of digits, filled up: with noughts if what follows sorts before them or is nothing, else one more.
	n := 0
	for n < len(digits) && n < numberDigits && digits[n] >= '0' && digits[n] <= '9' {
		n++
	}
	filled := []byte(digits[:n] + strings.Repeat("0", numberDigits-n))
	if n < len(digits) && (n == numberDigits || digits[n] > '9') && !carry(filled[:n]) {
		if negative {
			return 0, false
		}
		return math.MaxInt64, false // there is none; the highest stands for it
	}
	if negative {
		for i := range filled {
			filled[i] = '0' + '9' - filled[i]
		}
		return clamp("-" + string(filled)), false
	}
	return clamp(string(filled)), false
}

// carry adds one to a run of digits; false if it has no room.
func carry(digits []byte) bool {
	for i := len(digits) - 1; i >= 0; i-- {
		if digits[i] < '9' {
			digits[i]++
			return true
		}
		digits[i] = '0'
	}
	return false
}

// clamp reads a number of 19 digits; one that is too large is the largest.
func clamp(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil && strings.HasPrefix(text, "-") {
		return math.MinInt64
	}
	if err != nil {
		return math.MaxInt64
	}
	return n
}
