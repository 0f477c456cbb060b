package changefeed

import (
	"errors"
	"strings"
)

// Code is the stable name of a fault, for scripts and documents.
type Code string

// The codes.
const (
	CodeRequestInvalid    Code = "request.invalid"
	CodeNotFound          Code = "changefeed.not_found"
	CodeExists            Code = "changefeed.exists"
	CodeSpecConflict      Code = "spec.conflict"
	CodeNodeNotFound      Code = "node.not_found"
	CodeNameTaken         Code = "node.name_taken"
	CodeNodeDraining      Code = "node.draining"
	CodeSourceUnreachable Code = "source.unreachable"
	CodeSourceCompacted   Code = "source.compacted"
	CodeSourceSlotLost    Code = "source.slot_lost"
	CodeSourceReplaced    Code = "source.replaced"
	CodeSinkUnreachable   Code = "sink.unreachable"
	CodeSinkInUse         Code = "sink.in_use"
	CodeSinkLost          Code = "sink.lost"
	CodeSinkBehind        Code = "sink.behind_checkpoint"
	CodeSinkFull          Code = "sink.full"
	CodeSinkRefused       Code = "sink.refused"
	CodeSinkLoop          Code = "sink.loop"
	CodeEpochBehindSink   Code = "epoch.behind_sink"
	CodeEtcdWentBack      Code = "etcd.went_back"
	CodeEtcdTooOld        Code = "etcd.too_old"
	CodeEtcdUnreachable   Code = "etcd.unreachable"
	CodeRecordInvalid     Code = "record.invalid"
	CodeAuthRequired      Code = "auth.required"
	CodeAuthForbidden     Code = "auth.forbidden"
	CodeLimitExceeded     Code = "limit.exceeded"
	CodeTimeout           Code = "timeout"
)

// Codes returns all codes.
func Codes() []Code {
	return []Code{
		CodeRequestInvalid, CodeNotFound, CodeExists, CodeSpecConflict,
		CodeNodeNotFound, CodeNameTaken, CodeNodeDraining, CodeSourceUnreachable,
		CodeSourceCompacted, CodeSourceSlotLost, CodeSourceReplaced, CodeSinkUnreachable,
		CodeSinkInUse, CodeSinkLost, CodeSinkBehind, CodeSinkFull,
		CodeSinkRefused, CodeSinkLoop, CodeEpochBehindSink, CodeEtcdWentBack, CodeEtcdTooOld,
		CodeEtcdUnreachable, CodeRecordInvalid, CodeAuthRequired, CodeAuthForbidden,
		CodeLimitExceeded, CodeTimeout,
	}
}

const faultSeparator = ": "

// Fault is an error that people are shown: what failed, on what, and what to do. It is an error; wrap it, and find it
// again with [AsFault].
type Fault struct {
	Code      Code
	Field     string // of the request or of the options, where one is to blame
	Value     string // of that field, printable and free of secrets
	Detail    string // what is wrong, a clause without a full stop
	Cure      string // what to do, an imperative clause
	Permanent bool   // time cannot heal it: the state becomes failed, not retrying
	Err       error  // the cause, if any; never shows a secret
}

// Error returns one line: code, field and value, detail, cause, cure.
func (f *Fault) Error() string { return string(f.Code) + faultSeparator + f.Text() }

// Text says what is wrong and what to do, for where the code is told beside it.
func (f *Fault) Text() string {
	var parts []string
	subject := f.Field
	if f.Value != "" {
		subject = strings.TrimSpace(subject + " " + f.Value)
	}
	if subject != "" && f.Detail != "" {
		parts = append(parts, subject+" "+f.Detail)
	} else if subject+f.Detail != "" {
		parts = append(parts, subject+f.Detail)
	}
	if f.Err != nil {
		parts = append(parts, f.Err.Error())
	}
	text := strings.Join(parts, faultSeparator)
	if f.Cure != "" {
		text += "; " + f.Cure
	}
	return text
}

// Unwrap returns the cause.
func (f *Fault) Unwrap() error { return f.Err }

// AsFault returns the fault in err's chain, or a fault with the given code that wraps err.
func AsFault(err error, otherwise Code) *Fault {
	if fault, ok := errors.AsType[*Fault](err); ok {
		return fault
	}
	return &Fault{Code: otherwise, Err: err}
}
