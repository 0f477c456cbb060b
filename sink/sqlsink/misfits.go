package sqlsink

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
)

// Faults of tables of the target.

func twoTables(name TableName) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "options." + optionRename.Name, Permanent: true, Value: fmt.Sprintf("%.200q", name),
		Detail: "is where two tables of the source would go", Cure: "give one of them another name there",
	}
}

func movedTable(source TableName, held, target string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkInUse, Permanent: true, Field: "options." + optionRename.Name, Value: fmt.Sprintf("%.200q", target),
		Detail: fmt.Sprintf("is not the table %.200q that %s has been written to", held, source),
		Cure:   "give the table its old name back, or remove the changefeed and create it anew",
	}
}

func notAltered(name TableName, statement string, err error) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkRefused, Permanent: true, Field: "table", Value: name.String(), Detail: "can't be made or altered: " + statement,
		Cure: "run what does it in your own way, and resume", Err: err,
	}
}

// missingTable is the fault of a table that is not there and is not to be created.
func (s *Sink) missingTable(of *change.Relation, name TableName, statement string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Permanent: true, Field: "table", Value: name.String(),
		Detail: fmt.Sprintf("for the source's %s is not in the target, and create_tables is false", of),
		Cure:   fmt.Sprintf("run %s; and `cdc-node changefeed resume %s`", statement, s.config.Identity.Changefeed),
	}
}

// misfit is the fault of a table that can't take the rows of the source's, with the statements that would let it.
func (s *Sink) misfit(of *change.Relation, name TableName, found []difference) error {
	var why, run []string
	for _, d := range found {
		if d.needed {
			why = append(why, d.why)
		}
		if d.needed || d.Kind == AlterDrop {
			run = append(run, s.config.Tables.Alter(name, d.Alteration))
		}
	}
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Permanent: true, Field: "table", Value: name.String(),
		Detail: fmt.Sprintf("can't take the rows of the source's %s: %s", of, strings.Join(why, ", ")),
		Cure: fmt.Sprintf("run what is wanted of: %s; and `cdc-node changefeed resume %s`", strings.Join(run, "; "),
			s.config.Identity.Changefeed),
	}
}

// refusedRow is the fault of a change that a table of the target can't take. It says of what type values are, and how long,
// never what they are; the key names the row.
func (s *Sink) refusedRow(c *change.Change, name TableName, err error) error {
	var values string
	if row, ok := c.After.(*change.Tuple); ok && row != nil {
		values = ", with " + sizes(row)
	}
	return &changefeed.Fault{
		Code: changefeed.CodeSinkRefused, Field: fieldSink, Value: s.config.Name, Permanent: true,
		Detail: fmt.Sprintf("table %s refuses the %v of key %.200q at position %d, index %d%s", name, c.Op, c.Key, c.Position, c.Index, values),
		Cure: fmt.Sprintf("change the table so that it takes the row and resume, or leave it out: `cdc-node changefeed skip %s --position %d --index %d`",
			s.config.Identity.Changefeed, c.Position, c.Index),
		Err: errors.New(withoutValues(err.Error())),
	}
}

// valuesInText are the places where servers quote a value that they refuse.
var valuesInText = regexp.MustCompile(`(: |entry |value )(?:"[^\n]*"|'[^\n]*')`)

func withoutValues(text string) string { return valuesInText.ReplaceAllString(text, "$1…") }

// sizesMax bounds how many columns are told of.
const sizesMax = 20

func sizes(row *change.Tuple) string {
	var out []string
	for i := range row.Of.Columns {
		column := &row.Of.Columns[i]
		switch {
		case !row.Known(i):
		case len(out) == sizesMax:
			return strings.Join(out, ", ") + " and more"
		case row.Cells[i] == nil:
			out = append(out, column.Name+" "+column.Type+" NULL")
		default:
			out = append(out, fmt.Sprintf("%s %s of %d bytes", column.Name, column.Type, len(row.Cells[i])))
		}
	}
	return strings.Join(out, ", ")
}
