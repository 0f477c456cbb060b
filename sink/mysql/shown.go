package mysql

import (
	"bytes"
	"encoding/json"
	"errors"
	"math/big"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"fencerow/change"
	"fencerow/sink/sqlsink"
)

// Shown is a column of a table as who compares it with the source's needs it: what the sink writes for a value, and what the server
// shows of that, brought to one form.
type Shown struct{ field }

// NewShown returns what a bound column of the source is in the target.
func NewShown(bound sqlsink.Bound) (Shown, error) {
	fields, err := written([]sqlsink.Bound{bound})
	if err != nil {
		return Shown{}, err
	}
	return Shown{fields[0]}, nil
}

// FullName is a table as statements have it.
func FullName(name sqlsink.TableName) string { return tables{}.Full(name) }

// Expression is the column as statements have it.
func (s *Shown) Expression() string { return s.name }

// KeyText is the expression of the source's text form.
func (s *Shown) KeyText() string { return tables{}.KeyText(*s.From, s.To) }

// Literal writes a value of the source for a statement, or says why the column can't have it.
func (s *Shown) Literal(text string) (string, error) {
	out, err := s.append(nil, []byte(text))
	if err != nil {
		return "", errUnfit
	}
	return string(out), nil
}

var errUnfit = errors.New("has a value that the target's column can't have")

// OfSource brings a value of the source, in its text form, to the common form. An error says that the sink would not have written it.
func (s *Shown) OfSource(cell []byte) ([]byte, error) {
	value, err := s.value(cell)
	if err != nil {
		return nil, err
	}
	return s.OfTarget(value)
}

// OfTarget brings what the server shows of a value to the common form. The error is always nil.
func (s *Shown) OfTarget(cell []byte) ([]byte, error) {
	if s.form == formBytes {
		return cell, nil
	}
	switch to := parseTarget(s.To.Type); to.name {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "decimal":
		return plainNumber(cell), nil
	case "double":
		if n, err := strconv.ParseFloat(string(cell), 64); err == nil {
			return strconv.AppendFloat(nil, n+0, 'g', -1, 64), nil // -0 is 0, as it is to both servers
		}
	case "datetime", "timestamp", "time":
		return plainFraction(bytes.TrimSuffix(cell, []byte("+00"))), nil
	case "char":
		return bytes.TrimRight(cell, " "), nil
	case "json":
		return plainJSON(cell), nil
	case "set":
		members := strings.Split(string(cell), ",")
		slices.Sort(members)
		return []byte(strings.Join(members, ",")), nil
	case "uuid":
		return bytes.ToLower(cell), nil
	case "inet4", "inet6":
		if address, err := netip.ParseAddr(string(cell)); err == nil {
			return address.AppendTo(nil), nil
		}
	}
	return cell, nil
}

// plainNumber takes away what stands before and behind a decimal number without meaning anything.
func plainNumber(cell []byte) []byte {
	digits, negative := bytes.CutPrefix(cell, []byte("-"))
	whole, fraction, _ := bytes.Cut(digits, []byte("."))
	if len(digits) == 0 || !digitsOnly(whole) || !digitsOnly(fraction) {
		return cell
	}
	whole, fraction = bytes.TrimLeft(whole, "0"), bytes.TrimRight(fraction, "0")
	if len(whole) == 0 {
		whole = []byte("0")
	}
	out := make([]byte, 0, len(cell)+1)
	if negative && (len(fraction) > 0 || whole[0] != '0') {
		out = append(out, '-')
	}
	out = append(out, whole...)
	if len(fraction) > 0 {
		out = append(append(out, '.'), fraction...)
	}
	return out
}

// plainFraction takes away the zeros at the end of a fraction of a second.
func plainFraction(cell []byte) []byte {
	if !bytes.Contains(cell, []byte(".")) {
		return cell
	}
	return bytes.TrimRight(bytes.TrimRight(cell, "0"), ".")
}

// plainJSON writes JSON as a server of its own type may have it: keys sorted, the last of those that are there twice, no spaces, and
// numbers by their value as a double.
func plainJSON(cell []byte) []byte {
	decoder := json.NewDecoder(bytes.NewReader(cell))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return cell
	}
	out, err := json.Marshal(plainValue(value))
	if err != nil {
		return cell
	}
	return out
}

func plainValue(value any) any {
	switch value := value.(type) {
	case json.Number:
		if whole, isWhole := new(big.Int).SetString(value.String(), 10); isWhole && whole.IsInt64() {
			return whole
		}
		if n, err := value.Float64(); err == nil {
			return n
		}
	case []any:
		for i := range value {
			value[i] = plainValue(value[i])
		}
	case map[string]any:
		for name := range value {
			value[name] = plainValue(value[name])
		}
	}
	return value
}

// Ordered reports whether the column has the values of a key in the order in which the source has them. bytewise says that the
// source compares its texts byte by byte.
func (s *Shown) Ordered(bytewise bool) bool {
	from, to := parseType(s.From.Type), parseTarget(s.To.Type)
	if from.array {
		return false
	}
	switch to.name {
	case "tinyint", "smallint", "mediumint", "int", "bigint", "decimal":
		return s.From.Kind == change.KindInt || s.From.Kind == change.KindBool || from.base == "numeric" || from.base == "oid"
	case "date", "datetime", "timestamp", "time":
		return true
	case "char":
		return from.base == "uuid"
	case "varchar", "tinytext", "text", "mediumtext", "longtext":
		_, collation, _ := strings.Cut(s.To.Type, " COLLATE ")
		exact := strings.HasSuffix(collation, "_nopad_bin") || strings.HasSuffix(collation, "_0900_bin")
		return exact && bytewise && (from.base == "text" || from.base == "character varying")
	case "varbinary", "binary":
		return s.From.Kind == change.KindBytes
	}
	return false
}
