package mysql

import (
	"strconv"
	"strings"

	"fencerow/change"
)

// Columns of tables of PostgreSQL, as a table of MySQL or MariaDB that is made for them has them. What no type of these
// servers holds exactly is text, in the form in which PostgreSQL writes it.

const (
	// indexBytesMax is how long the key of an index of InnoDB may be.
	indexBytesMax = 3072
	// charBytes is what an index reckons for a character of utf8mb4.
	charBytes = 4
	// digitsMax and scaleMax are how many digits a DECIMAL has, in all and after the point. MariaDB would take 38 after it.
	digitsMax, scaleMax = 65, 30

	typeText  = "longtext"
	typeBytes = "longblob"
	typeUUID  = "char(36) CHARACTER SET ascii COLLATE ascii_bin"
)

// unicode keeps apart whatever differs in any byte, also at the end: one of them each kind of server understands, and skips
// the other as a comment.
const unicode = "CHARACTER SET utf8mb4 /*M! COLLATE utf8mb4_nopad_bin */ /*!80017 COLLATE utf8mb4_0900_bin */"

// sourceType is a type as PostgreSQL writes it, taken apart.
type sourceType struct {
	base      string // without modifiers: "numeric", "timestamp with time zone"
	modifiers []int
	array     bool
}

// parseType takes a type apart. What it does not know is a base like any other.
func parseType(text string) sourceType {
	out := sourceType{base: text}
	if base, found := strings.CutSuffix(text, "[]"); found {
		return sourceType{base: base, array: true}
	}
	before, rest, opened := strings.Cut(text, "(")
	inside, after, closed := strings.Cut(rest, ")")
	if !opened || !closed || strings.HasPrefix(text, `"`) {
		return out
	}
	out.base = strings.TrimRight(before, " ") + after
	for part := range strings.SplitSeq(inside, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return sourceType{base: text}
		}
		out.modifiers = append(out.modifiers, n)
	}
	return out
}

// length returns the first modifier; 0 if there is none.
func (t sourceType) length() int {
	if len(t.modifiers) == 0 {
		return 0
	}
	return t.modifiers[0]
}

// storedType returns the type of a column that is in no key.
func storedType(column *change.Column) string {
	t := parseType(column.Type)
	if t.array {
		return typeText + " " + unicode
	}
	switch t.base {
	case "boolean":
		return "tinyint(1)"
	case "smallint":
		return "smallint"
	case "integer":
		return "int"
	case "bigint":
		return "bigint"
	case "oid":
		return "int unsigned"
	case "real", "double precision":
		return "double" // a FLOAT shows six digits of its nine
	case "numeric":
		return decimalType(t.modifiers)
	case "bytea":
		return typeBytes
	case "date":
		return "date"
	case "timestamp without time zone", "timestamp with time zone":
		return "datetime(6)"
	case "time without time zone":
		return "time(6)"
	case "uuid":
		return typeUUID
	}
	return kindType(column.Kind)
}

// kindType returns the type for a base that is not known: that of a domain, an enum, an extension.
func kindType(kind change.Kind) string {
	switch kind {
	case change.KindInt:
		return "bigint"
	case change.KindFloat:
		return "double"
	case change.KindBool:
		return "tinyint(1)"
	case change.KindBytes:
		return typeBytes
	case change.KindText:
	}
	return typeText + " " + unicode
}

// decimalType returns the type that holds every finite number of numeric(precision, scale), text where none does. Without
// them there is no bound, and the widest is chosen: a number beyond it is refused, never rounded.
func decimalType(modifiers []int) string {
	if len(modifiers) == 0 {
		return "decimal(" + strconv.Itoa(digitsMax) + "," + strconv.Itoa(scaleMax) + ")"
	}
	precision, scale := modifiers[0], 0
	if len(modifiers) > 1 {
		scale = modifiers[1]
	}
	switch {
	case scale < 0: // rounded to tens, hundreds, …
		precision, scale = precision-scale, 0
	case scale > precision: // zeros follow the point
		precision = scale
	}
	if precision > digitsMax || scale > scaleMax {
		return typeText + " " + unicode
	}
	return "decimal(" + strconv.Itoa(precision) + "," + strconv.Itoa(scale) + ")"
}

// keyStoredType is storedType for a column of the key. Numbers whose text form can't be had back from the servers' own are text,
// since rows of a part of a table are found by it.
func keyStoredType(column *change.Column) string {
	t := parseType(column.Type)
	stored := storedType(column)
	if stored == "double" || t.base == "numeric" && len(t.modifiers) == 0 && !t.array {
		return typeText + " " + unicode
	}
	return stored
}

// columnTypes returns the types of a table's columns. Texts and bytes of the key share what an index takes: those that are
// short by their own type have their length, the others the rest.
func columnTypes(columns []change.Column) []string {
	out := make([]string, len(columns))
	left := indexBytesMax
	wants := map[int]int{} // by the place of the column, the bytes that it takes
	for i := range columns {
		column := &columns[i]
		if column.Key == 0 {
			out[i] = storedType(column)
			continue
		}
		out[i] = keyStoredType(column)
		if strings.HasPrefix(out[i], typeText) || out[i] == typeBytes {
			wants[i] = wantedBytes(column)
		} else {
			left -= fixedBytesMax
		}
	}
	share := left / max(len(wants), 1)
	longer := len(wants)
	for i, wanted := range wants {
		if wanted <= share {
			out[i] = keyType(out[i], wanted)
			left -= wanted
			longer--
		}
	}
	for i, wanted := range wants {
		if wanted > share {
			out[i] = keyType(out[i], min(wanted, left/longer))
		}
	}
	return out
}

// fixedBytesMax is more than any number, time or UUID takes in an index.
const fixedBytesMax = 48

// wantedBytes returns how much of an index the values of a column can take, at most.
func wantedBytes(column *change.Column) int {
	t := parseType(column.Type)
	if n := t.length(); n > 0 && !t.array && strings.HasPrefix(t.base, "character") {
		return n * charBytes
	}
	return indexBytesMax
}

// keyType returns the type of a column of the key that takes so many bytes of the index.
func keyType(stored string, bytes int) string {
	if stored == typeBytes {
		return "varbinary(" + strconv.Itoa(bytes) + ")"
	}
	return "varchar(" + strconv.Itoa(bytes/charBytes) + ") " + unicode
}
