package postgres

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"fencerow/change"
	"fencerow/sink/sqlsink"
)

// typeName is a type taken apart: "numeric(10,2)[]" is numeric with two modifiers, an array.
type typeName struct {
	base  string // without modifiers, which stand in the middle of some
	mods  []int
	array bool
}

// parseType takes a type apart as format_type writes it.
func parseType(text string) typeName {
	var out typeName
	for strings.HasSuffix(text, "[]") {
		text, out.array = strings.TrimSuffix(text, "[]"), true
	}
	before, rest, found := strings.Cut(text, "(")
	inside, after, closed := strings.Cut(rest, ")")
	if !found || !closed || strings.HasPrefix(text, `"`) {
		out.base = text
		return out
	}
	for mod := range strings.SplitSeq(inside, ",") {
		n, err := strconv.Atoi(strings.TrimSpace(mod))
		if err != nil {
			out.base, out.mods = text, nil
			return out
		}
		out.mods = append(out.mods, n)
	}
	out.base = before + after
	return out
}

// builtInTypes are those that every server has, as format_type writes them without modifiers.
//
//nolint:gochecknoglobals // read only
var builtInTypes = strings.Fields(`smallint integer bigint numeric real money boolean bytea text xml json jsonb jsonpath uuid date interval
	inet cidr macaddr macaddr8 point line lseg box path polygon circle bit character bpchar name oid xid xid8 cid tid tsvector tsquery
	pg_lsn pg_snapshot txid_snapshot int4range int8range numrange tsrange tstzrange daterange int4multirange int8multirange nummultirange
	tsmultirange tstzmultirange datemultirange regclass regproc regprocedure regoper regoperator regtype regrole regnamespace
	regconfig regdictionary regcollation refcursor aclitem int2vector oidvector "char" "bit"`)

// builtInLong are those whose names have spaces.
var builtInLong = []string{ //nolint:gochecknoglobals // read only
	"double precision", "character varying", "bit varying", "timestamp without time zone", "timestamp with time zone",
	"time without time zone", "time with time zone",
}

// builtIn reports whether every server has the type.
func builtIn(text string) bool {
	base := parseType(text).base
	return slices.Contains(builtInTypes, base) || slices.Contains(builtInLong, base) || strings.HasPrefix(base, "interval ")
}

// unequal are the types that can't be compared, or of which values that differ are equal.
//
//nolint:gochecknoglobals // read only
var unequal = strings.Fields(`json xml jsonpath point line lseg box path polygon circle tid aclitem pg_snapshot txid_snapshot refcursor xid cid
	numeric real tsquery bpchar citext interval timetz`)

// comparesEqual reports whether two values of a built-in type are equal exactly if their text is the same.
func comparesEqual(text string) bool {
	base := parseType(text).base
	return builtIn(text) && !parseType(text).array && !slices.Contains(unequal, base) && base != "double precision" && base != "time with time zone" &&
		!strings.HasPrefix(base, "interval")
}

// Holds implements [sqlsink.Tables].
func (tables) Holds(column change.Column, target sqlsink.TableColumn) bool {
	from, to := parseType(column.Type), parseType(target.Type)
	if to.base == "text" && !to.array || to.base == "character varying" && !to.array && len(to.mods) == 0 {
		return true
	}
	if target.Domain != "" && lastName(target.Domain) == lastName(column.Type) {
		return true
	}
	if from.array != to.array {
		return false
	}
	if to.base == "text" || to.base == "character varying" && len(to.mods) == 0 {
		return true
	}
	return holds(from, to)
}

// holds reports whether a type takes every value of another one that is no array.
func holds(from, to typeName) bool {
	switch {
	case from.base == to.base:
		return holdsMods(from, to)
	case to.base == "numeric" || to.base == "bigint" || to.base == "integer" || to.base == "double precision" || to.base == "real":
		return widerNumber(from, to)
	case to.base == "character varying":
		return (from.base == "character" || from.base == "bpchar") && len(from.mods) == 1 && from.mods[0] <= to.mods[0] ||
			from.base == "character" && len(from.mods) == 0 || from.base == "name" && to.mods[0] >= nameMax || from.base == "uuid" && to.mods[0] >= uuidLength ||
			from.base == "boolean"
	case to.base == "bit varying":
		return from.base == "bit" && (len(to.mods) == 0 || len(from.mods) == 1 && from.mods[0] <= to.mods[0])
	case to.base == "timestamp without time zone":
		return from.base == "date" && len(to.mods) == 0
	case to.base == "inet":
		return from.base == "cidr"
	case to.base == "jsonb" || to.base == "json":
		return from.base == "json" || from.base == "jsonb"
	case to.base == "interval":
		return strings.HasPrefix(from.base, "interval ")
	}
	// A type of users is the same if it is called so, in whichever schema it is.
	return !builtInBase(from.base) && !builtInBase(to.base) && lastName(from.base) == lastName(to.base)
}

const uuidLength = 36

func builtInBase(base string) bool { return builtIn(base) }

func lastName(name string) string { return name[strings.LastIndex(name, ".")+1:] }

// digits that the whole numbers have at most.
var wholeDigits = map[string]int{"smallint": 5, "integer": 10, "bigint": 19, "oid": 10} //nolint:gochecknoglobals // read only

func widerNumber(from, to typeName) bool {
	digits, whole := wholeDigits[from.base]
	switch to.base {
	case "numeric":
		return whole && (len(to.mods) == 0 || len(to.mods) == 2 && to.mods[0]-to.mods[1] >= digits || len(to.mods) == 1 && to.mods[0] >= digits)
	case "bigint":
		return whole && from.base != "bigint"
	case "integer":
		return from.base == "smallint"
	case "double precision":
		return from.base == "real" || from.base == "smallint" || from.base == "integer"
	case "real":
		return from.base == "smallint"
	}
	return false
}

// holdsMods compares the modifiers of one type.
func holdsMods(from, to typeName) bool {
	if len(to.mods) == 0 {
		return true
	}
	switch from.base {
	case "numeric":
		scale := func(t typeName) int {
			if len(t.mods) > 1 {
				return t.mods[1]
			}
			return 0
		}
		return len(from.mods) > 0 && scale(to) >= scale(from) && to.mods[0]-scale(to) >= from.mods[0]-scale(from)
	case "character", "bit":
		return len(from.mods) == 0 && to.mods[0] >= 1 || len(from.mods) == 1 && (from.mods[0] == to.mods[0] || from.base == "character" && from.mods[0] < to.mods[0])
	case "timestamp without time zone", "timestamp with time zone", "time without time zone", "time with time zone":
		return first(from, secondsDigits) <= to.mods[0]
	case "interval":
		return first(from, secondsDigits) <= to.mods[0]
	}
	return first(from, math.MaxInt) <= to.mods[0]
}

// secondsDigits are what times have behind the second if nothing is said.
const secondsDigits = 6

func first(t typeName, otherwise int) int {
	if len(t.mods) == 0 {
		return otherwise
	}
	return t.mods[0]
}
