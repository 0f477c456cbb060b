package sqlsink

import (
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
)

// Statement is SQL with ? for its arguments, which are []byte, string, int64, nil or, where the dialect writes so, [Array].
type Statement struct {
	Text string
	Args []any
	// One says that the statement has to touch exactly one row. If it does not, nothing that follows it is done, and
	// [Session.Do] returns [ErrNotOne].
	One bool
	// Touches says that the statement has to touch so many rows, if it is not 0. If it does not, the transaction can't be
	// committed, and [Session.Do] returns [*Refused] with [RefusedGone].
	Touches int
	// Rows says that the statement returns rows.
	Rows bool
	// Data returns what a statement of bulk reads, from its beginning: COPY … FROM STDIN, LOAD DATA LOCAL. It is made while the server
	// takes it, in messages of its own.
	Data func() io.Reader
	// Apart returns statements that do the same without Data, where not every server takes it; else it is nil.
	Apart func() ([]Statement, error)
	// Head is what comes before all that Data returns, once.
	Head string
}

// Array is one argument that holds a cell of each of many rows.
type Array struct {
	Kind  ColumnKind
	Cells []any
}

// Result is what a statement did.
type Result struct {
	Rows [][]string // as text; what is NULL is empty
}

// Session is one connection to the target, used by one goroutine at a time. It never sends anything twice.
type Session interface {
	// Do executes the statements in order, in few round trips. It stops at the first that fails: with [*Refused] if the
	// server refused it, [ErrNotOne], or any other error if it did not answer. Nothing is committed by it that is not in
	// a transaction; a transaction that it left open is ended by Do of ROLLBACK, or by Close.
	Do(ctx context.Context, statements ...Statement) ([]Result, error)
	// Commit does what is left to do in the transaction, as Do does, and ends it, if the server allows in the same round trip.
	// An error that is a [*Refused] or [ErrNotOne] says that it was not committed, any other one that this is not known.
	Commit(ctx context.Context, statements ...Statement) error
	// Backend names this connection in the target, so that others can end it.
	Backend() string
	// End ends another connection by its name, with the transaction that it has open. One that is gone already is nil.
	End(ctx context.Context, backend string) error
	// Close ends the connection, and with it an open transaction.
	Close() error
}

// ErrNotOne says that a statement which has to touch one row did not.
var ErrNotOne = errors.New("sink sql: it touched no row")

// Reason is why a server refused a statement.
type Reason uint8

// The reasons. The zero value is one of no special meaning.
const (
	RefusedOther     Reason = iota
	RefusedRace             // a deadlock or a conflict: the same transaction may be tried again
	RefusedLocked           // waited too long for a lock
	RefusedDuplicate        // a key is there already
	RefusedMissing          // a table or a schema is not there
	RefusedDenied           // a permission is missing, or the login
	RefusedRow              // the row can't be stored: its size, its type, a constraint
	RefusedFull             // no space
	RefusedReadOnly         // the server takes no writes
	RefusedGone             // a row that was to be updated is not there
)

// Refused is a server's refusal of one statement.
type Refused struct {
	Statement int // its place among those of one Do
	Reason    Reason
	Err       error
}

// Error returns what the server said.
func (r *Refused) Error() string { return r.Err.Error() }

// Unwrap returns the driver's error.
func (r *Refused) Unwrap() error { return r.Err }

// reasonOf returns why a server refused, RefusedOther if it did not.
func reasonOf(err error) Reason {
	if refused, ok := errors.AsType[*Refused](err); ok {
		return refused.Reason
	}
	return RefusedOther
}

// Dialect is how a kind of server wants things written. It is pure.
type Dialect interface {
	// Table returns the full name of one of our tables, quoted.
	Table(name string) string
	// Quote returns the quoted name of a table of data, which may have a schema, or of a column.
	Quote(name string) string
	// Hex returns an expression for the bytes of a column as hexadecimal text.
	Hex(column string) string
	// Source returns what an INSERT takes its rows from; each has a cell for each of the columns.
	Source(columns []Column, rows [][]any) (string, []any)
	// Among returns a condition that holds for the rows whose column has one of these bytes.
	Among(column string, bytes []any) (string, []any)
	// Upsert returns what follows the source of an INSERT, so that a row whose key is there is written over.
	Upsert(key string, columns []string) string
	// Type returns the type of a column.
	Type(kind ColumnKind) string
	// Holds matches the types, as Describe tells them, that can hold what a column of this kind needs.
	Holds(kind ColumnKind) *regexp.Regexp
	// Present lists those of our tables that are there.
	Present() Statement
	// Setup creates our tables, where they are not there.
	Setup() []Statement
	// Describe lists the columns of a table of data: the table's full name, the column's name and its type.
	Describe(table string) Statement
	// Grants says what a user needs, as statements for whoever administers the target.
	Grants(table string) string
}

// ColumnKind is what a column of a table of ours holds.
type ColumnKind uint8

// The kinds of columns.
const (
	ColumnKey      ColumnKind = iota + 1 // bytes, short enough for an index
	ColumnBytes                          // bytes
	ColumnNumber                         // a signed number of 64 bits
	ColumnPosition                       // an unsigned number of 64 bits
	ColumnText                           // a word
)

// ours are the tables that this package keeps in a target.
func ours() []string { return []string{"heads", "claims", "targets", "syncs"} }

// oursForTables is one more, which only changefeeds of tables need: what is known of each table that they write.
const oursForTables = "tables"

func begin() Statement    { return Statement{Text: "BEGIN"} }
func rollback() Statement { return Statement{Text: "ROLLBACK"} }

// query is a statement that returns rows.
func query(text string, args ...any) Statement { return Statement{Text: text, Args: args, Rows: true} }

// exec is a statement that returns none.
func exec(text string, args ...any) Statement { return Statement{Text: text, Args: args} }

// Words of errors that every kind of server needs.
var errClosed = errors.New("sink sql: the writer is closed")

func unexpected(what string, row []string) error {
	return fmt.Errorf("sink sql: %s %.300q is not what was written there", what, row)
}
