package change

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Types whose binary form is the same in every server, and whose text we know from it, to the letter. What a row of others is stays
// text.
const (
	typeBool        = "boolean"
	typeInt2        = "smallint"
	typeInt4        = "integer"
	typeInt8        = "bigint"
	typeNumeric     = "numeric"
	typeText        = "text"
	typeVarchar     = "character varying"
	typeChar        = "character"
	typeBytes       = "bytea"
	typeUUID        = "uuid"
	typeJSON        = "json"
	typeJSONB       = "jsonb"
	typeDate        = "date"
	typeTimestamp   = "timestamp without time zone"
	typeTimestamptz = "timestamp with time zone"
)

// BinaryHead is what comes before the first row in binary form: the signature, no flags, and no more of a header.
const BinaryHead = "PGCOPY\n\xff\r\n\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// plainType returns a type without its modifiers.
func plainType(name string) string {
	open, end := strings.IndexByte(name, '('), strings.IndexByte(name, ')')
	if open < 0 || end < open {
		return name
	}
	return name[:open] + name[end+1:]
}

// BinaryRows reports whether rows of the relation can be lines in binary form. The columns of a key are then of types whose text has one
// form only.
func BinaryRows(of *Relation) bool {
	for i := range of.Columns {
		switch plainType(of.Columns[i].Type) {
		case typeBool, typeInt2, typeInt4, typeInt8, typeText, typeVarchar, typeUUID:
		case typeNumeric, typeChar, typeBytes, typeJSON, typeJSONB, typeDate, typeTimestamp, typeTimestamptz:
			if of.Columns[i].Key > 0 {
				return false
			}
		default:
			return false
		}
	}
	return len(of.Columns) > 0
}

// SameBinary reports whether a column of another table, of a type as a PostgreSQL writes it without modifiers, reads the binary form of
// this one.
func (c *Column) SameBinary(base string) bool {
	if base == "bpchar" { // character without a length
		base = typeChar
	}
	return plainType(c.Type) == base
}

var errBinary = errors.New("is not a row in binary form")

// binaryCells takes the first row of binary lines apart: a count of the columns, and of each its length and value, -1 is NULL. Source
// of the form: PostgreSQL's documentation, COPY, "Binary Format".
func (r *Relation) binaryCells(text []byte) (cells [][]byte, rest []byte, err error) {
	if len(text) < 2 || int(binary.BigEndian.Uint16(text)) != len(r.Columns) {
		return nil, nil, fmt.Errorf("change: what came of %s %w of %d columns", r, errBinary, len(r.Columns))
	}
	rest = text[2:]
	cells = make([][]byte, len(r.Columns))
	for i := range r.Columns {
		if len(rest) < 4 {
			return nil, nil, fmt.Errorf("change: what came of %s %w: it ends early", r, errBinary)
		}
		size := int32(binary.BigEndian.Uint32(rest)) //nolint:gosec // it is signed
		rest = rest[4:]
		if size == -1 {
			continue
		}
		if size < 0 || int(size) > len(rest) {
			return nil, nil, fmt.Errorf("change: what came of %s %w: a value of %d bytes where %d are left", r, errBinary, size, len(rest))
		}
		if cells[i], err = textOfBinary(plainType(r.Columns[i].Type), rest[:size:size]); err != nil {
			return nil, nil, fmt.Errorf("change: column %s of %s: %w", r.Columns[i].Name, r, err)
		}
		rest = rest[size:]
	}
	return cells, rest, nil
}

// binarySizes are the bytes of types whose values all have as many.
var binarySizes = map[string]int{ //nolint:gochecknoglobals // read only
	typeBool: 1, typeInt2: 2, typeInt4: 4, typeInt8: 8, typeUUID: 16, typeDate: 4, typeTimestamp: 8, typeTimestamptz: 8,
}

// textOfBinary returns the text form of a value, as our connections have servers write it.
func textOfBinary(kind string, value []byte) ([]byte, error) {
	if size, is := binarySizes[kind]; is && len(value) != size {
		return nil, fmt.Errorf("a %s of %d bytes %w", kind, len(value), errBinary)
	}
	switch kind {
	case typeText, typeVarchar, typeChar, typeJSON:
		return value, nil
	case typeJSONB: // behind the number of its form
		if len(value) < 1 || value[0] != 1 {
			return nil, fmt.Errorf("a jsonb of another form %w", errBinary)
		}
		return value[1:], nil
	case typeBool:
		return []byte{"ft"[value[0]&1]}, nil
	case typeInt2:
		return strconv.AppendInt(nil, int64(int16(binary.BigEndian.Uint16(value))), 10), nil //nolint:gosec // it is signed
	case typeInt4:
		return strconv.AppendInt(nil, int64(int32(binary.BigEndian.Uint32(value))), 10), nil //nolint:gosec // it is signed
	case typeInt8:
		return strconv.AppendInt(nil, int64(binary.BigEndian.Uint64(value)), 10), nil //nolint:gosec // it is signed
	case typeBytes:
		return hex.AppendEncode([]byte(`\x`), value), nil
	case typeUUID:
		text := hex.EncodeToString(value)
		return []byte(text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]), nil
	case typeNumeric:
		return textOfNumeric(value)
	case typeDate:
		return textOfDate(int32(binary.BigEndian.Uint32(value))), nil //nolint:gosec // it is signed
	case typeTimestamp:
		return textOfTimestamp(int64(binary.BigEndian.Uint64(value)), ""), nil //nolint:gosec // it is signed
	case typeTimestamptz:
		return textOfTimestamp(int64(binary.BigEndian.Uint64(value)), "+00"), nil //nolint:gosec // it is signed
	default:
		return nil, fmt.Errorf("a %s %w", kind, errBinary)
	}
}

// Signs of a numeric, and how many digits one of its own holds.
const (
	numericPositive    = 0x0000
	numericNegative    = 0x4000
	numericNaN         = 0xC000
	numericInfinite    = 0xD000
	numericMinus       = 0xF000
	numericDigits      = 4
	numericDigitMax    = 9999
	numericHeaderBytes = 8
)

// textOfNumeric writes a numeric: how many digits to the base 10,000 there are, the power of the first, the sign, how many decimals are
// shown, and the digits.
func textOfNumeric(value []byte) ([]byte, error) {
	if len(value) < numericHeaderBytes {
		return nil, fmt.Errorf("a numeric of %d bytes %w", len(value), errBinary)
	}
	count, weight := int(binary.BigEndian.Uint16(value)), int(int16(binary.BigEndian.Uint16(value[2:]))) //nolint:gosec // it is signed
	sign, scale, digits := binary.BigEndian.Uint16(value[4:]), int(binary.BigEndian.Uint16(value[6:])), value[numericHeaderBytes:]
	var out []byte
	switch sign {
	case numericPositive:
	case numericNegative:
		out = append(out, '-')
	case numericNaN:
		return []byte("NaN"), nil
	case numericInfinite:
		return []byte("Infinity"), nil
	case numericMinus:
		return []byte("-Infinity"), nil
	default:
		return nil, fmt.Errorf("a numeric of sign %#x %w", sign, errBinary)
	}
	if len(digits) != 2*count {
		return nil, fmt.Errorf("a numeric of %d digits in %d bytes %w", count, len(digits), errBinary)
	}
	digit := func(place int) uint16 { // the place of the power of 10,000
		if i := weight - place; i >= 0 && i < count {
			return min(binary.BigEndian.Uint16(digits[2*i:]), numericDigitMax)
		}
		return 0
	}
	if weight < 0 {
		out = append(out, '0')
	} else {
		out = strconv.AppendUint(out, uint64(digit(weight)), 10)
		for place := weight - 1; place >= 0; place-- {
			out = fmt.Appendf(out, "%04d", digit(place))
		}
	}
	if scale == 0 {
		return out, nil
	}
	out = append(out, '.')
	from := len(out)
	for place := -1; len(out)-from < scale; place-- {
		out = fmt.Appendf(out, "%04d", digit(place))
	}
	return out[:from+scale], nil
}

// epochOfServers is where a PostgreSQL begins to count days and microseconds.
var epochOfServers = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC) //nolint:gochecknoglobals // read only

const microsecond = int64(time.Microsecond)

func textOfDate(days int32) []byte {
	switch days {
	case math.MaxInt32:
		return []byte("infinity")
	case math.MinInt32:
		return []byte("-infinity")
	}
	out, before := appendDay(nil, epochOfServers.AddDate(0, 0, int(days)))
	return append(out, before...)
}

// appendDay appends a day, and returns what stands behind all of a day of before Christ: there is no year 0.
func appendDay(out []byte, at time.Time) (text []byte, before string) {
	year := at.Year()
	if year <= 0 {
		year, before = 1-year, " BC"
	}
	return fmt.Appendf(out, "%04d-%02d-%02d", year, at.Month(), at.Day()), before
}

func textOfTimestamp(micros int64, zone string) []byte {
	switch micros {
	case math.MaxInt64:
		return []byte("infinity")
	case math.MinInt64:
		return []byte("-infinity")
	}
	seconds, fraction := micros/1_000_000, micros%1_000_000
	if fraction < 0 {
		seconds, fraction = seconds-1, fraction+1_000_000
	}
	at := time.Unix(epochOfServers.Unix()+seconds, fraction*microsecond).UTC()
	out, before := appendDay(nil, at)
	out = at.AppendFormat(out, " 15:04:05.999999")
	return append(append(out, zone...), before...)
}
