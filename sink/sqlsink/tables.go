package sqlsink

import "fencerow/change"

// TableName is where rows of a source's table go, as names without quotes.
type TableName struct {
	Schema string // empty where the target has none
	Name   string
}

// String returns the name as people read it.
func (n TableName) String() string {
	if n.Schema == "" {
		return n.Name
	}
	return n.Schema + "." + n.Name
}

// Table is a table of the target, as its catalog tells.
type Table struct {
	Name    TableName
	Columns []TableColumn
	// Unique are the columns of the unique indexes that hold for all rows, the primary key first.
	Unique [][]string
}

// TableColumn is a column of a table of the target.
type TableColumn struct {
	Name      string
	Type      string // as the server writes it, with its modifiers
	Base      string // the type without modifiers, quoted as the server wants it
	Domain    string // what users call the type, where it is a name for another one
	Null      bool
	Default   bool // a row that leaves it out has a value for it
	Generated bool // the target computes it, and takes no value
}

// Bound is a column of the target, and the one of the source that it takes its values from.
type Bound struct {
	To   TableColumn
	From *change.Column
	At   int // the place of the value in a row's cells
}

// StepKind says how the rows of a step are written.
type StepKind uint8

// The kinds of steps. Where a row is found by its key, Key are its columns and their values are in Old.
const (
	// StepInsert adds rows that are new. One whose key is there fails: [RefusedDuplicate].
	StepInsert StepKind = iota + 1
	// StepUpsert adds rows, or writes over those that have their keys, which are in Cells.
	StepUpsert
	// StepUpdate sets Columns, the key's own ones among them where it changes. A row that is not there: [RefusedGone].
	StepUpdate
	// StepDelete deletes rows by key.
	StepDelete
	// StepUpdateOne and StepDeleteOne are for tables without a key: each row of the step stands for one row, and no more, that
	// is equal to it in all of Key. One to be updated that is not there: [RefusedGone].
	StepUpdateOne
	StepDeleteOne
	// StepTruncate empties the table.
	StepTruncate
	// StepClear deletes the rows for which Where holds and whose keys, in Cells, are not among Rows. Of a table without key all.
	StepClear
)

// Step is what is done to rows of one table with as few statements as the server needs. All its rows have the same relation.
// No two of them have the same key, so that their order is nobody's business, unless the table has no key.
type Step struct {
	Kind    StepKind
	Table   *Table
	Columns []Bound
	Key     []Bound
	Rows    []StepRow
	Lines   *change.Lines // in place of Rows, of StepInsert only: Columns are all of theirs, in order
	Where   Condition
}

// StepRow is a row of a step: cells in text form in the relation's order, nil where they are NULL or not known.
type StepRow struct {
	Cells [][]byte
	Old   [][]byte // the row before
}

// Condition is a part of a statement with its arguments.
type Condition struct {
	Text string
	Args []any
}

// Tables is how a kind of server wants rows of tables written, and tables made. It is pure. All names are given to it without
// quotes, and quoted by it.
type Tables interface {
	// Target returns where rows of a source's table go if no option says otherwise.
	Target(schema, table string) TableName
	// Full returns a table's name as statements have it.
	Full(name TableName) string
	// Column returns a column's name as statements have it.
	Column(name string) string

	// ReadColumns lists the columns of a table in their order, with name, type, base, 1 or 0 for null, default and generated, and
	// the domain, where the server has such. A table that is not there has none.
	ReadColumns(name TableName) Statement
	// ReadUnique lists the columns of the unique indexes of a table that hold for all rows: the index, and the column, in the
	// index's order, the primary key first.
	ReadUnique(name TableName) Statement

	// Write returns the statements of a step. A value that the target's column can't take is a [*Refused] of [RefusedRow].
	Write(step Step) ([]Statement, error)
	// KeyText returns an expression for the text form of a column, as the source's keys have it, which sorts by its bytes, and
	// KeyBytes the argument that is compared with it.
	KeyText(column change.Column, target TableColumn) string
	KeyBytes(text string) any

	// TypeOf returns the type that a column gets in a table which is made for the source's.
	TypeOf(column change.Column) string
	// Holds reports whether a column of the target can take every value of the source's.
	Holds(column change.Column, target TableColumn) bool
	// Fills reports whether a column that is added can be given what the rows that are there hold of it.
	Fills(column change.Column) bool
	// Alter returns the statement of one alteration.
	Alter(name TableName, alteration Alteration) string
	// CommitsDDL reports whether a statement that makes or alters a table commits by itself, and what came before it.
	CommitsDDL() bool
}

// UserTypes is implemented by [Tables] of servers that may have types which users of the source made.
type UserTypes interface {
	// ReadTypes lists those types of a source's columns that the target has not; false if there is no need to ask.
	ReadTypes(columns []change.Column) (Statement, bool)
}

// AlterationKind says what is altered.
type AlterationKind uint8

// The alterations.
const (
	AlterSchema AlterationKind = iota + 1 // create the schema, if it is not there
	AlterCreate                           // create the table with Columns
	AlterAdd                              // add Columns, with what they hold where a row has no value of its own
	AlterDrop                             // drop column Name
	AlterRename                           // rename column Name to Columns[0].Name
	AlterType                             // give column Name the type of Columns[0]
	AlterNull                             // let column Name be NULL; Columns[0] is as it is
	AlterKey                              // make Columns the primary key
)

// Alteration is one change of a table. Columns are the source's, with the names that they have in the target; those with a
// place in the key are part of the primary key, in order of the places.
type Alteration struct {
	Kind    AlterationKind
	Name    string
	Columns []change.Column
}
