package postgres

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"fencerow/changefeed"
	"fencerow/fence"
)

// The server's codes that say more than that it can't be reached.
const (
	codeDenied         = "42501" // a right is missing
	codeBadPassword    = "28P01"
	codeBadUser        = "28000" // also: no line of pg_hba.conf lets us in
	codeNoDatabase     = "3D000"
	codeTooMany        = "53300" // connections
	codeInUse          = "55006" // the slot, by another connection
	codeNotReady       = "55000" // the slot, or the server's settings
	codeDuplicate      = "42710"
	codeMissing        = "42704"
	codeMissingTable   = "42P01"
	codeSlotsFull      = "53400" // all slots are in use
	codeCanceled       = "57014" // by a time-out
	codeLockTimeout    = "55P03"
	codeNoSuchFunction = "42883"
)

// codeOf returns the server's code for an error, "" if it is none of the server's.
func codeOf(err error) string {
	if answer, ok := errors.AsType[*pgconn.PgError](err); ok {
		return answer.Code
	}
	return ""
}

// refusal is a fault that time can't heal.
func (s *Source) refusal(code changefeed.Code, detail, cure string) *changefeed.Fault {
	return &changefeed.Fault{Code: code, Field: "source", Value: s.server.URI.String(), Detail: detail, Cure: cure, Permanent: true}
}

// hindrance is a fault that is gone as soon as somebody does what cures it.
func (s *Source) hindrance(detail, cure string, err error) *changefeed.Fault {
	return &changefeed.Fault{
		Code: changefeed.CodeSourceUnreachable, Field: "source", Value: s.server.URI.String(), Detail: detail, Cure: cure, Err: err,
	}
}

// replaced is for a server that is not what it was.
func (s *Source) replaced(identity, before string) error {
	return s.refusal(changefeed.CodeSourceReplaced,
		fmt.Sprintf("is server and timeline %s, and %s was read before", identity, before),
		"point the source at the server that was read before; after a standby was promoted or a backup was restored, remove the changefeed "+
			"and create it anew with --start snapshot, since what was read last may be missing there")
}

// slotLost is for a log that the server doesn't have any more.
func (s *Source) slotLost(detail string) error {
	return s.refusal(changefeed.CodeSourceSlotLost, detail,
		"set --option on_gap=resnapshot, or remove the changefeed and create it anew with --start snapshot; "+
			"let max_slot_wal_keep_size be large enough for as long as a changefeed may stand still")
}

// fault gives an error the form that people are shown. What the context ended stays as it is.
func (s *Source) fault(err error) error {
	var fault *changefeed.Fault
	switch {
	case err == nil, errors.As(err, &fault), errors.Is(err, errClosed), errors.Is(err, context.Canceled), errors.Is(err, fence.ErrStale),
		errors.Is(err, errUnconfirmed):
		return err
	}
	user := quoteName(s.server.URI.User)
	switch codeOf(err) {
	case codeBadPassword, codeBadUser:
		return s.hindrance("refuses us", "check user and password, and that pg_hba.conf lets the user in from this node", err)
	case codeNoDatabase:
		return s.hindrance("has no such database", "check the name of the database", err)
	case codeDenied:
		return s.hindrance("refuses us", fmt.Sprintf("see docs/source-postgres.md for the rights that are needed; for the log: ALTER ROLE %s REPLICATION", user), err)
	case codeTooMany:
		return s.hindrance("has no connection left", "raise max_connections or max_wal_senders, or end connections that nobody needs", err)
	case codeSlotsFull:
		return s.hindrance("has no replication slot left", "raise max_replication_slots, which needs a restart, or drop slots that nobody needs", err)
	}
	return s.hindrance("can't be reached", "check that PostgreSQL runs at these hosts and answers from this node", err)
}
