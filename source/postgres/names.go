package postgres

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

// names are those under which tables came into the publications, by the tables' numbers. The log tells of a table that was renamed by
// its new name, under which nobody has its rows: so it joins once more, with them. The names are kept as the comment of our publication,
// written in the transaction that adds a table, since a rename may come while nobody reads the log.
type names map[uint32]string

// keptName writes a name without blanks, quotes and backslashes.
func keptName(schema, name string) string { return url.PathEscape(schema) + "." + url.PathEscape(name) }

// namesPrefix begins the comment, for people who find it.
const namesPrefix = "fencerow, tables as they are copied:"

// readNames reads a comment. What is no name of ours is left out, as is the comment of somebody else.
func readNames(comment string) names {
	out := make(names)
	rest, ours := strings.CutPrefix(comment, namesPrefix)
	if !ours {
		return out
	}
	for word := range strings.FieldsSeq(rest) {
		number, name, found := strings.Cut(word, "=")
		oid, err := strconv.ParseUint(number, 10, 32)
		if found && err == nil {
			out[uint32(oid)] = name
		}
	}
	return out
}

// keep returns the statement that keeps the names.
func (n names) keep(publication string) string {
	var out strings.Builder
	out.WriteString(namesPrefix)
	for _, oid := range slices.Sorted(maps.Keys(n)) {
		fmt.Fprintf(&out, " %d=%s", oid, n[oid])
	}
	return "COMMENT ON PUBLICATION " + publication + " IS " + quoteText(out.String())
}

// with returns the names with one more.
func (n names) with(table listed) names {
	out := maps.Clone(n)
	out[table.oid] = keptName(table.schema, table.name)
	return out
}

// named returns the names of the members, and whether some were not kept yet.
func (p *publications) named() (out names, more bool) {
	out = make(names, len(p.members))
	for oid, member := range p.members {
		name, kept := p.names[oid]
		if !kept {
			name, more = keptName(member.schema, member.name), true
		}
		out[oid] = name
	}
	return out, more
}
