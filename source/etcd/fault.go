package etcd

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"fencerow/changefeed"
	"fencerow/kv/kvetcd"
)

// replaced is for a store that is not what it was.
func (s *Source) replaced(detail string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSourceReplaced, Field: "source", Value: s.uri.String(), Detail: detail, Permanent: true,
		Cure: "point the source at the etcd that was read before, or remove the changefeed and create it anew with --start snapshot",
	}
}

func (s *Source) wentBack(head, seen int64) error {
	return s.replaced(fmt.Sprintf("is at revision %d, below %d, where it was read to", head, seen))
}

func (s *Source) compacted(gone *compactedError, from int64) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSourceCompacted, Field: "source", Value: s.uri.String(), Permanent: true, Err: gone,
		Detail: fmt.Sprintf("can't be read from revision %d on", from),
		Cure: "set --option on_gap=resnapshot, or remove the changefeed and create it anew with --start snapshot; " +
			"let etcd keep its history for longer than a changefeed may stand still",
	}
}

// fault gives an error the form that people are shown. What the context ended stays as it is.
func (s *Source) fault(err error) error {
	var fault *changefeed.Fault
	switch {
	case err == nil, errors.As(err, &fault), errors.Is(err, errClosed), errors.Is(err, context.Canceled):
		return err
	case denied(err):
		return &changefeed.Fault{
			Code: changefeed.CodeSourceUnreachable, Field: "source", Value: s.uri.String(), Detail: "refuses us", Err: err,
			Cure: "check user and password, and that the user may read the prefix",
		}
	}
	return &changefeed.Fault{
		Code: changefeed.CodeSourceUnreachable, Field: "source", Value: s.uri.String(), Detail: "can't be reached", Err: err,
		Cure: "check that etcd runs at these hosts, has a leader and answers from this node",
	}
}

func denied(err error) bool {
	return errors.Is(err, errDenied) || (kvetcd.Denied(err) && !expired(err))
}

// expired reports whether a token has ended: the next request fetches a new one.
func expired(err error) bool {
	for e := err; e != nil; e = errors.Unwrap(e) {
		switch rpctypes.Error(e) {
		case rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision: //nolint:errorlint // switched on is etcd's own error; the loop unwraps
			return true
		}
	}
	return false
}
