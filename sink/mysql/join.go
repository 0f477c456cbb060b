package mysql

import (
	"fmt"
	"strconv"
	"strings"

	"fencerow/sink/sqlsink"
)

// Updates of rows by key go many in a statement: the table is joined with a list of keys and values. One by one they cost a server
// ten times as much.

// joinedMax is how many rows are in one such list.
const joinedMax = 200

// joined returns the condition that joins the table with a list; false if the key changes, or is of a type that the list can't be
// given by an expression which leaves the index of use.
func (s *steps) joined() (on string, can bool) {
	parts := make([]string, len(s.key))
	for i := range s.key {
		value, found := s.key[i].listed("v.k" + strconv.Itoa(i))
		if !found {
			return "", false
		}
		parts[i] = "t." + s.key[i].name + " = " + value
	}
	for i := range s.columns {
		if s.isKey(s.columns[i].To.Name) {
			return "", false
		}
	}
	return strings.Join(parts, " AND "), len(parts) > 0
}

// listed returns a column of a list as the column of the table is compared with it.
func (f *field) listed(name string) (expression string, found bool) {
	to := parseTarget(f.To.Type)
	switch _, collation, _ := strings.Cut(f.To.Type, " COLLATE "); {
	case f.form != formText:
		return name, true
	case collation != "":
		charset, _, _ := strings.Cut(collation, "_")
		return "CONVERT(" + name + " USING " + charset + ") COLLATE " + collation, true
	case to.name == "date":
		return "CAST(" + name + " AS DATE)", true
	case to.name == "datetime", to.name == "timestamp":
		return fmt.Sprintf("CAST(%s AS DATETIME(%d))", name, to.first), true
	case to.name == "time":
		return fmt.Sprintf("CAST(%s AS TIME(%d))", name, to.first), true
	}
	return "", false
}

// updateMany sets columns of many rows in a statement.
func (s *steps) updateMany(on string) ([]sqlsink.Statement, error) {
	sets := make([]string, len(s.columns))
	for i := range s.columns {
		sets[i] = "t." + s.columns[i].name + " = v.c" + strconv.Itoa(i)
	}
	head, tail := "UPDATE "+s.table+" t JOIN (", ") v ON "+on+" SET "+strings.Join(sets, ", ")
	var out []sqlsink.Statement
	var text []byte
	rows := 0
	for i := range s.step.Rows {
		if rows == 0 {
			text = append(text[:0], head...)
		} else {
			text = append(text, " UNION ALL "...)
		}
		var err error
		if text, err = s.appendListed(text, &s.step.Rows[i]); err != nil {
			return nil, err
		}
		if rows++; rows == joinedMax || len(text) >= textMax || i == len(s.step.Rows)-1 {
			out = append(out, sqlsink.Statement{Text: string(append(text, tail...)), Touches: rows})
			rows = 0
		}
	}
	return out, nil
}

// appendListed appends a row of the list, with the names of its columns.
func (s *steps) appendListed(dst []byte, row *sqlsink.StepRow) ([]byte, error) {
	dst = append(dst, "SELECT "...)
	var err error
	for i := range s.key {
		if dst, err = s.key[i].append(dst, row.Old[s.key[i].At]); err != nil {
			return nil, err
		}
		dst = append(strconv.AppendInt(append(dst, " AS k"...), int64(i), 10), ',')
	}
	for i := range s.columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		if dst, err = s.columns[i].append(dst, row.Cells[s.columns[i].At]); err != nil {
			return nil, err
		}
		dst = strconv.AppendInt(append(dst, " AS c"...), int64(i), 10)
	}
	return dst, nil
}
