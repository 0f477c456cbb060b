package etcd

import (
	"context"
	"errors"
	"fmt"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
	"fencerow/kv/kvetcd"
)

// errRaced says that somebody else's claim, raise or removal came first; the caller reads again.
var errRaced = errors.New("sink etcd: raced")

const fieldSink = "sink"

// named adds which target it was to a fault that says no more than that it was the sink.
func named(err error, name string) error {
	fault, ok := err.(*changefeed.Fault) //nolint:errorlint // one that is wrapped further down has said it
	if !ok || fault.Field != fieldSink || fault.Value != "" {
		return err
	}
	full := *fault
	full.Value = name
	return &full
}

// failed gives the error of a request the form that people are shown. Its class stays.
func failed(doing string, err error) error {
	switch {
	case errors.Is(err, context.Canceled), errors.Is(err, kv.ErrClosed):
		return fmt.Errorf("sink etcd: %s: %w", doing, err)
	case kvetcd.NoSpace(err):
		return &changefeed.Fault{
			Code: changefeed.CodeSinkFull, Field: fieldSink, Detail: "is out of space while we " + doing,
			Cure: "compact and defragment it, disarm its alarm, or raise its quota", Err: err,
		}
	case errors.Is(err, kv.ErrTooLarge):
		return &changefeed.Fault{
			Code: changefeed.CodeLimitExceeded, Field: fieldSink, Detail: "takes no request this large, while we " + doing,
			Cure: "raise its --max-request-bytes, or leave the large key out of the source's prefix", Err: err, Permanent: true,
		}
	case kvetcd.Denied(err):
		return &changefeed.Fault{
			Code: changefeed.CodeSinkUnreachable, Field: fieldSink, Detail: "refuses us while we " + doing,
			Cure: "check user, password and role of the sink: it needs its prefix and " + claimsRoot, Err: err,
		}
	default:
		return &changefeed.Fault{
			Code: changefeed.CodeSinkUnreachable, Field: fieldSink, Detail: "does not answer while we " + doing,
			Cure: "check that it runs and can be reached from this node", Err: err,
		}
	}
}

func broken(key string, err error) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRecordInvalid, Field: "key", Value: fmt.Sprintf("%.200q", key), Permanent: true,
		Detail: "of the target etcd can't be read", Cure: "restore the target, or remove the changefeed and create it anew", Err: err,
	}
}

func superseded(claim string) error {
	return fmt.Errorf("sink etcd: %s was superseded: %w", claim, fence.ErrStale)
}

func moved(held, target string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkInUse, Permanent: true, Field: "sink", Value: fmt.Sprintf("%.200q", target),
		Detail: fmt.Sprintf("is not the prefix %.200q that this changefeed has been copied to", held),
		Cure:   "give the sink its old prefix back, or remove the changefeed and create it anew",
	}
}
