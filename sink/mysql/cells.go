package mysql

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"fencerow/change"
)

// How cells of PostgreSQL are written into columns as the target has them, be they ours or a user's. The servers' strict mode
// is not strict enough: it rounds decimals and fractions of seconds, and cuts spaces, with no more than a note. So what would
// be changed on the way is refused here, and nothing is ever stored that is not the value.

// cellWriter is how cells of one column are written. None of them is NULL.
type cellWriter struct {
	form form
	// value returns what is written, without marks or escapes, or why the column can't hold the cell. It may be the cell.
	value func(cell []byte) ([]byte, error)
}

// form is how a value stands in a statement.
type form uint8

const (
	formText  form = iota + 1 // in quotes
	formBytes                 // in quotes, without a character set
	formBare                  // a number, which is compared as the decimal that it is
)

// targetType is a type as information_schema tells it, taken apart.
type targetType struct {
	name     string // "decimal", "varchar"
	first    int    // what stands in parentheses; 0 where there is nothing
	second   int
	unsigned bool
}

var targetPattern = regexp.MustCompile(`^([a-z0-9_]+)(?:\((\d+)(?:,(\d+))?\))?( unsigned)?`)

// parseTarget takes a type apart.
func parseTarget(text string) targetType {
	found := targetPattern.FindStringSubmatch(strings.ToLower(text))
	if found == nil {
		return targetType{name: text}
	}
	number := func(text string) int {
		n, err := strconv.Atoi(text)
		if err != nil {
			return 0 // it is empty: the pattern lets digits through
		}
		return n
	}
	return targetType{name: found[1], first: number(found[2]), second: number(found[3]), unsigned: found[4] != ""}
}

// isTarget reports whether a type is one that only a target tells of.
func isTarget(text string) bool {
	return strings.Contains(text, " COLLATE ") || targetOnly.MatchString(text)
}

var targetOnly = regexp.MustCompile(`^(?:(?:tiny|medium)int|int|decimal|double|float|datetime|timestamp|time|year|(?:var)?binary|[a-z]*blob)(?:\([\d,]+\))?(?: unsigned)?$` +
	`|^(?:small|big)int(?:\(\d+\)| unsigned)`)

// asSource returns a column of a source that has the values which one of a target can have, for comparing two of a target.
func asSource(column change.Column) change.Column {
	if !isTarget(column.Type) {
		return column
	}
	t := parseTarget(column.Type)
	digits := "(" + strconv.Itoa(t.first) + ")"
	switch t.name {
	case "tinyint", "smallint":
		column.Type, column.Kind = "smallint", change.KindInt
	case "mediumint", "int":
		column.Type, column.Kind = "integer", change.KindInt
	case "bigint":
		column.Type, column.Kind = "bigint", change.KindInt
	case "decimal":
		column.Type = "numeric(" + strconv.Itoa(t.first) + "," + strconv.Itoa(t.second) + ")"
	case "float", "double":
		column.Type, column.Kind = "double precision", change.KindFloat
	case "datetime", "timestamp":
		column.Type = "timestamp" + digits + " without time zone"
	case "time":
		column.Type = "time" + digits + " without time zone"
	case "char", "varchar":
		column.Type = "character varying" + digits
	case "tinytext", "text", "mediumtext", "longtext":
		column.Type = "text"
	default:
		if _, isBytes := bytesLimit(t); isBytes {
			column.Type, column.Kind = "bytea", change.KindBytes
		}
	}
	return column
}

// writerOf returns how cells of a column are written into one of the target, or an error if none of them fits there.
func writerOf(column *change.Column, target string) (cellWriter, error) {
	from, to := parseType(column.Type), parseTarget(target)
	if limit, isText := textLimit(to); isText {
		return cellWriter{formText, writeText(from, limit)}, nil
	}
	if limit, isBytes := bytesLimit(to); isBytes {
		return cellWriter{formBytes, writeBytes(column, limit)}, nil
	}
	stored := parseTarget(storedType(column)).name
	switch to.name {
	case "tinyint", "smallint", "mediumint", "int", "bigint":
		if stored == "tinyint" {
			return cellWriter{formBare, writeBool}, nil
		}
		if isInteger(stored) {
			return cellWriter{formBare, writeInteger}, nil
		}
	case "decimal":
		if stored == "decimal" || isInteger(stored) || from.base == "numeric" {
			return cellWriter{formBare, writeDecimal(to)}, nil
		}
	case "double":
		if stored == "double" || stored == "smallint" || stored == "int" {
			return cellWriter{formText, writeFloat}, nil
		}
	case "date":
		if stored == "date" {
			return cellWriter{formText, writeDate}, nil
		}
	case "datetime", "timestamp":
		if stored == "date" || stored == "datetime" {
			return cellWriter{formText, writeTime(to)}, nil
		}
	case "time":
		if stored == "time" {
			return cellWriter{formText, writeClock(to)}, nil
		}
	case "json", "enum", "set", "uuid", "inet4", "inet6":
		if stored == "char" || stored == typeText {
			return cellWriter{formText, writeAsIs}, nil
		}
	}
	return cellWriter{}, fmt.Errorf("is of type %s, which can't hold the values of a %s", target, column.Type)
}

func isInteger(name string) bool { return name == "smallint" || name == "int" || name == "bigint" }

// lengthLimit is how much a column of text or bytes takes.
type lengthLimit struct {
	max   int
	chars bool // characters, else bytes
	trims bool // spaces at the end are lost when it is read
	exact bool // what is shorter is filled up
}

func textLimit(t targetType) (limit lengthLimit, isText bool) {
	switch t.name {
	case "char":
		return lengthLimit{max: t.first, chars: true, trims: true}, true
	case "varchar":
		return lengthLimit{max: t.first, chars: true}, true
	case "tinytext", "text", "mediumtext", "longtext":
		return lengthLimit{max: sizeOf(t.name, "text")}, true
	}
	return lengthLimit{}, false
}

func bytesLimit(t targetType) (limit lengthLimit, isBytes bool) {
	switch t.name {
	case "binary":
		return lengthLimit{max: t.first, exact: true}, true
	case "varbinary":
		return lengthLimit{max: t.first}, true
	case "tinyblob", "blob", "mediumblob", "longblob":
		return lengthLimit{max: sizeOf(t.name, "blob")}, true
	}
	return lengthLimit{}, false
}

// sizeOf returns how many bytes a type of that name holds.
func sizeOf(name, family string) int {
	switch strings.TrimSuffix(name, family) {
	case "tiny":
		return 1<<8 - 1
	case "":
		return 1<<16 - 1
	case "medium":
		return 1<<24 - 1
	}
	return 1<<32 - 1
}

// check returns nil if a value fits.
func (l lengthLimit) check(cell []byte) error {
	size, unit := len(cell), "bytes"
	if l.chars {
		size, unit = utf8.RuneCount(cell), "characters"
	}
	switch {
	case size > l.max:
		return fmt.Errorf("has %d %s, and the column takes %d", size, unit, l.max)
	case l.exact && size < l.max:
		return fmt.Errorf("has %d %s, and the column would fill it up to %d", size, unit, l.max)
	case l.trims && bytes.HasSuffix(cell, []byte(" ")):
		return errors.New("ends with a space, which a char column loses")
	}
	return nil
}

// writeText writes the form in which the source shows a value.
func writeText(from sourceType, limit lengthLimit) func([]byte) ([]byte, error) {
	filled := limit.trims && from.base == "character" && !from.array // with spaces that mean nothing there either
	return func(cell []byte) ([]byte, error) {
		if !utf8.Valid(cell) {
			return nil, errors.New("is not valid UTF-8")
		}
		if filled {
			cell = bytes.TrimRight(cell, " ")
		}
		return cell, limit.check(cell)
	}
}

// writeBytes writes bytes, and what is none as the text that it is.
func writeBytes(column *change.Column, limit lengthLimit) func([]byte) ([]byte, error) {
	return func(cell []byte) ([]byte, error) {
		if digits, found := bytes.CutPrefix(cell, []byte(`\x`)); found && column.Kind == change.KindBytes {
			value, err := hex.AppendDecode(make([]byte, 0, len(digits)/2), digits)
			if err != nil {
				return nil, fmt.Errorf("is no hexadecimal: %w", err)
			}
			return value, limit.check(value)
		}
		return cell, limit.check(cell)
	}
}

func writeAsIs(cell []byte) ([]byte, error) { return cell, nil }

func writeBool(cell []byte) ([]byte, error) {
	switch string(cell) {
	case "t":
		return []byte("1"), nil
	case "f":
		return []byte("0"), nil
	}
	return nil, errors.New("is neither t nor f")
}

// writeInteger writes digits alone, since a server rounds what has a fraction. Whether they fit, the server says.
func writeInteger(cell []byte) ([]byte, error) {
	if digits := bytes.TrimPrefix(cell, []byte("-")); len(digits) == 0 || !digitsOnly(digits) {
		return nil, errors.New("is no whole number")
	}
	return cell, nil
}

// writeDecimal writes digits that the column has places for.
func writeDecimal(to targetType) func([]byte) ([]byte, error) {
	return func(cell []byte) ([]byte, error) {
		whole, fraction, _ := bytes.Cut(bytes.TrimPrefix(cell, []byte("-")), []byte("."))
		if !digitsOnly(whole) || !digitsOnly(fraction) || len(whole)+len(fraction) == 0 {
			return nil, fmt.Errorf("is no number that a decimal(%d,%d) holds", to.first, to.second)
		}
		whole, fraction = bytes.TrimLeft(whole, "0"), bytes.TrimRight(fraction, "0")
		if len(whole) > to.first-to.second || len(fraction) > to.second {
			return nil, fmt.Errorf("has %d digits before the point and %d after it, more than a decimal(%d,%d) holds",
				len(whole), len(fraction), to.first, to.second)
		}
		return cell, nil
	}
}

func digitsOnly(text []byte) bool {
	for _, c := range text {
		if c < '0' || c > '9' {
			return false
		}
	}
	return true
}

func writeFloat(cell []byte) ([]byte, error) {
	switch string(cell) {
	case "NaN", "Infinity", "-Infinity":
		return nil, errors.New("is no number that these servers know")
	}
	return cell, nil
}

// How these servers write dates and times: a year has four digits.
const (
	dateLayout     = "2006-01-02"
	timeLayout     = "2006-01-02 15:04:05"
	fractionLayout = "2006-01-02 15:04:05.000000"
	yearMax        = 9999
)

var errNoDate = errors.New("is no date from year 1 to 9999")

func writeDate(cell []byte) ([]byte, error) {
	if _, err := time.Parse(dateLayout, string(cell)); err != nil {
		return nil, errNoDate
	}
	return cell, nil
}

// writeTime writes a moment in UTC, a date as its midnight.
func writeTime(to targetType) func([]byte) ([]byte, error) {
	return func(cell []byte) ([]byte, error) {
		if utc := bytes.TrimSuffix(cell, []byte("+00")); isPlainTime(utc) {
			return fractionFits(utc, to.first)
		}
		at, err := parseTime(string(cell))
		if err != nil || at.Year() < 1 || at.Year() > yearMax {
			return nil, errNoDate
		}
		return fractionFits(at.AppendFormat(make([]byte, 0, len(fractionLayout)), fractionLayout), to.first)
	}
}

// isPlainTime reports whether a time is written as these servers read it: the form that nearly all have.
func isPlainTime(text []byte) bool {
	if len(text) < len(timeLayout) {
		return false
	}
	for i, c := range text {
		want := byte('0')
		if i < len(fractionLayout) {
			want = fractionLayout[i]
		}
		if digit := c >= '0' && c <= '9'; digit != (want >= '0' && want <= '9') || !digit && c != want {
			return false
		}
	}
	return true
}

// parseTime reads a date or a time, with an offset or without one.
func parseTime(text string) (at time.Time, err error) {
	for _, layout := range []string{timeLayout, timeLayout + "-07", timeLayout + "-07:00", timeLayout + "-07:00:00", dateLayout} {
		if at, err = time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, fmt.Errorf("mysql: %w", err)
}

// writeClock writes a time of day. 24:00:00 is one in both.
func writeClock(to targetType) func([]byte) ([]byte, error) {
	return func(cell []byte) ([]byte, error) { return fractionFits(cell, to.first) }
}

// fractionFits refuses digits of seconds that the column does not have.
func fractionFits(text []byte, digits int) ([]byte, error) {
	_, fraction, _ := bytes.Cut(text, []byte("."))
	if n := len(bytes.TrimRight(fraction, "0")); n > digits {
		return nil, fmt.Errorf("has %d digits of a second, and the column %d", n, digits)
	}
	return text, nil
}
