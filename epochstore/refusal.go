package epochstore

import (
	"errors"

	"fencerow/fence"
)

// refusal is an error that says which fence refused a write.
type refusal struct {
	error
	rule fence.Refusal
}

// Unwrap returns the error without the rule.
func (r refusal) Unwrap() error { return r.error }

// by says which fence it was.
func by(rule fence.Refusal, err error) error { return refusal{error: err, rule: rule} }

// The fences of this package, by their numbers.
const (
	refusedTerm     fence.Refusal = 1
	refusedEpoch    fence.Refusal = 2
	refusedSpec     fence.Refusal = 3
	refusedOwner    fence.Refusal = 4
	refusedStatus   fence.Refusal = 5
	refusedRevision fence.Refusal = 25
)

// count tells the rule by which a write was refused, if it was.
func (s *Store) count(err error) {
	if err == nil || s.refused == nil {
		return
	}
	if known, ok := errors.AsType[refusal](err); ok {
		s.refused(known.rule.Rule())
		return
	}
	switch {
	case errors.Is(err, ErrTermOver):
		s.refused(refusedTerm.Rule())
	case errors.Is(err, ErrFenced):
		s.refused(refusedOwner.Rule())
	}
}
