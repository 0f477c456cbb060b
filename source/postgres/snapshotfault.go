package postgres

import (
	"errors"

	"github.com/jackc/pgx/v5/pgconn"

	"fencerow/changefeed"
)

// What the server calls what can go wrong with a snapshot.
const (
	codeNoSlot      = "53400" // configuration_limit_exceeded
	codeNoConnect   = "53300" // too_many_connections
	codeNoRight     = "42501" // insufficient_privilege
	codeNoTable     = "42P01" // undefined_table
	codeNoColumn    = "42703" // undefined_column
	codeNoSchema    = "3F000" // invalid_schema_name
	codeNotTable    = "42809" // wrong_object_type
	codeLocked      = "55P03" // lock_not_available
	codeObjectState = "55000" // object_not_in_prerequisite_state
)

// errWaits is for a snapshot that is being made.
var errWaits = errors.New("a snapshot shows what was committed when all transactions that ran at its beginning have ended")

// waitFault says what a snapshot waits for.
func waitFault(where, subject string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSourceUnreachable, Field: "source", Value: where, Err: errWaits,
		Detail: "can't be read yet: its snapshot waits" + subject,
		Cure:   "wait, or end that transaction, as with SELECT pg_terminate_backend(pid); prepared ones are in pg_prepared_xacts",
	}
}

// snapshotFault is for what people must do something about; nil for what is worth another try at once.
func snapshotFault(where string, err error) error {
	fault := &changefeed.Fault{Code: changefeed.CodeSourceUnreachable, Field: "source", Value: where, Err: err}
	if known, ok := errors.AsType[*changefeed.Fault](err); ok {
		return known
	}
	answer, ok := errors.AsType[*pgconn.PgError](err)
	if !ok || errors.Is(err, errChanged) {
		return nil
	}
	switch answer.Code {
	case codeNoSlot:
		fault.Detail = "has no replication slot left for a snapshot"
		fault.Cure = "drop slots that nobody uses (SELECT slot_name FROM pg_replication_slots WHERE NOT active), or raise max_replication_slots and start the server again"
	case codeNoConnect:
		fault.Detail = "has no connection left for a snapshot"
		fault.Cure = "raise max_wal_senders and max_connections and start the server again"
	case codeNoRight:
		fault.Detail = "doesn't let us read a table"
		fault.Cure = "GRANT SELECT on the table to the user, and if it has row security let the user BYPASSRLS"
	case codeLocked:
		fault.Detail = "has a table that is being altered, or for which that waits"
		fault.Cure = "wait, or end the transaction that holds the lock: SELECT pid, query FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) = 0 AND xact_start IS NOT NULL ORDER BY xact_start"
	default:
		return nil
	}
	return fault
}

func unreachable(where string, err error) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSourceUnreachable, Field: "source", Value: where, Detail: "can't be reached", Err: err,
		Cure: "check that the server runs at these hosts and answers from this node",
	}
}

var errClosed = errors.New("postgres: the source was closed")
