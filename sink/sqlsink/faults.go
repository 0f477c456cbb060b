package sqlsink

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

const fieldSink = "sink"

// failed gives an error of a session the form that people are shown. Its class stays: the caller says which it is.
func (s *Sink) failed(doing string, err error) error {
	if errors.Is(err, context.Canceled) {
		return fmt.Errorf("sink sql: %s: %w", doing, err)
	}
	if _, ok := errors.AsType[*changefeed.Fault](err); ok {
		return err
	}
	out := &changefeed.Fault{Code: changefeed.CodeSinkUnreachable, Field: fieldSink, Value: s.config.Name, Err: err}
	switch reasonOf(err) {
	case RefusedDenied:
		out.Detail = "refuses us while we " + doing
		out.Cure = "check user and password, and grant what it needs: " + s.config.Dialect.Grants(s.grantee())
	case RefusedMissing:
		out.Detail = "has not the table or schema that we need to " + doing
		out.Cure = "bring it back"
		if s.config.Layout == LayoutPairs {
			out.Cure += "; " + s.makeTable()
		}
	case RefusedFull:
		out.Code, out.Detail, out.Cure = changefeed.CodeSinkFull, "is out of space while we "+doing, "give it more space"
	case RefusedReadOnly:
		out.Detail, out.Cure = "takes no writes while we "+doing, "point the sink at the server that does"
	case RefusedLocked:
		out.Detail, out.Cure = "has something locked for too long while we "+doing, "look for a transaction that is open there; it is tried again"
	case RefusedRow, RefusedGone:
		out.Detail, out.Cure = "refuses a row while we "+doing, "look at the reason"
	case RefusedOther, RefusedRace, RefusedDuplicate:
		out.Detail, out.Cure = "does not answer as it should while we "+doing, "check that it runs and can be reached from this node"
		if _, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
			out.Detail = "shows a certificate that is not trusted while we " + doing
			out.Cure = "name the authority of the server's certificate in tls_ca, and the host in the URI as the certificate does"
		}
	}
	return out
}

// grantee is the table that rights are wanted on. Of tables of a source the reason names the one.
func (s *Sink) grantee() string {
	if s.config.Layout == LayoutTables {
		return "…"
	}
	return s.config.Settings.Table
}

func (s *Sink) makeTable() string {
	return "the table is made by " + CreateTable(s.config.Dialect, s.config.Settings.Table, s.config.Settings.Mode)
}

// refusedChange is the fault of a change that the target can't hold.
func (s *Sink) refusedChange(c *change.Change, err error) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkRefused, Field: fieldSink, Value: s.config.Name, Permanent: true,
		Detail: fmt.Sprintf("table %s refuses the %v of key %.200q (%d bytes in all) at position %d, index %d",
			s.config.Settings.Table, c.Op, c.Key, c.Size(), c.Position, c.Index),
		Cure: fmt.Sprintf("change the table so that it takes the row and resume, or leave it out: `cdc-node changefeed skip %s --position %d --index %d`",
			s.config.Identity.Changefeed, c.Position, c.Index),
		Err: err,
	}
}

// noTable is the fault of a table of data that is missing.
func (s *Sink) noTable() error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "options." + optionTable.Name, Permanent: true,
		Value:  fmt.Sprintf("%.200q", s.config.Settings.Table),
		Detail: "is not in the target, and create_tables is false", Cure: s.makeTable(),
	}
}

// wrongTable is the fault of a table of data that can't hold what is written to it.
func (s *Sink) wrongTable(column, detail string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "options." + optionTable.Name, Permanent: true,
		Value:  fmt.Sprintf("%.200q", s.config.Settings.Table),
		Detail: fmt.Sprintf("needs a column %s for mode=%s: it %s", column, s.config.Settings.Mode, detail),
		Cure:   "change it, or choose another table; " + s.makeTable(),
	}
}

// tableLost is the fault of a table of data that was there, and is gone with what positions say that it holds.
func (s *Sink) tableLost(name string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkLost, Permanent: true, Field: fieldSink, Value: s.config.Name,
		Detail: fmt.Sprintf("has no table %s any more, which was written to", name),
		Cure:   "bring the table back with its rows, or remove the changefeed and create it anew",
	}
}

func moved(held, target string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkInUse, Permanent: true, Field: "options." + optionTable.Name, Value: fmt.Sprintf("%.200q", target),
		Detail: fmt.Sprintf("is not the table %.200q that this changefeed has been written to", held),
		Cure:   "give the sink its old table back, or remove the changefeed and create it anew",
	}
}

func broken(table string, err error) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRecordInvalid, Field: "table", Value: table, Permanent: true,
		Detail: "of the target can't be read", Cure: "restore the target, or remove the changefeed and create it anew", Err: err,
	}
}

func superseded(n sink.Incarnation) error {
	return fmt.Errorf("sink sql: claim %d was superseded: %w", n, fence.ErrStale)
}
