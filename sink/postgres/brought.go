package postgres

import (
	"fencerow/change"
	"fencerow/sink/sqlsink"
)

// Brought says as a value of which type the sink has the server read the text of a source's value, where a column shows that in
// another way than the source: numeric(10,2) in a numeric(12,4), a json in a jsonb. "": in none. It is false where the column can't
// hold every value of the source, so that what it shows for one is not known.
func Brought(column change.Column, target sqlsink.TableColumn) (as string, known bool) {
	if !(tables{}).Holds(column, target) {
		return "", false
	}
	to := parseType(target.Type)
	isText := !to.array && (to.base == "text" || to.base == "character varying")
	if isText || column.Type == target.Type || !builtIn(column.Type) || !builtIn(target.Type) {
		return "", true
	}
	return target.Type, true
}
