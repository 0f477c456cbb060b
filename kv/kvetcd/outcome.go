package kvetcd

import (
	"errors"
	"fmt"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"fencerow/fence"
	"fencerow/kv"
)

// refusals returns etcd's answers that say for certain that a request was not done: it was refused before it was
// proposed, or by every member alike when it was applied. Anything that is not listed may have been done; the list is of
// answers, not of codes, because gRPC uses the same codes for answers that were lost, such as one that was too large to
// receive.
func refusals() []error {
	return []error{
		rpctypes.ErrEmptyKey, rpctypes.ErrKeyNotFound, rpctypes.ErrValueProvided, rpctypes.ErrLeaseProvided,
		rpctypes.ErrTooManyOps, rpctypes.ErrDuplicateKey, rpctypes.ErrInvalidSortOption,
		rpctypes.ErrCompacted, rpctypes.ErrFutureRev, rpctypes.ErrNoSpace,
		rpctypes.ErrLeaseNotFound, rpctypes.ErrLeaseExist, rpctypes.ErrLeaseTTLTooLarge,
		rpctypes.ErrRequestTooLarge, rpctypes.ErrTooManyRequests,
		rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound, rpctypes.ErrAuthFailed, rpctypes.ErrPermissionDenied,
		rpctypes.ErrRoleNotFound, rpctypes.ErrInvalidAuthToken, rpctypes.ErrAuthOldRevision, rpctypes.ErrAuthNotEnabled,
		rpctypes.ErrNotCapable, rpctypes.ErrCorrupt, rpctypes.ErrNoLeader, // see askLeader
		rpctypes.Error(rpctypes.ErrGRPCNotSupportedForLearner), rpctypes.Error(rpctypes.ErrGRPCInvalidClientAPIVersion),
	}
}

// refused reports whether err is one of etcd's definite refusals.
func refused(err error) bool {
	answer := rpctypes.Error(err)
	for _, refusal := range refusals() {
		if errors.Is(answer, refusal) {
			return true
		}
	}
	return false
}

// mutationError gives the error of a mutation that was sent one of the classes of [kv.Store].
func mutationError(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("kvetcd: %s: %w", doing, kv.ErrLeaseNotFound)
	case errors.Is(rpctypes.Error(err), rpctypes.ErrRequestTooLarge):
		return fmt.Errorf("kvetcd: %s: %w: %w", doing, kv.ErrTooLarge, err)
	case refused(err):
		return fmt.Errorf("kvetcd: %s: %w", doing, err)
	default:
		return fmt.Errorf("kvetcd: %s: %w: %w", doing, fence.ErrUnknown, err)
	}
}

func readError(doing string, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(rpctypes.Error(err), rpctypes.ErrCompacted):
		return fmt.Errorf("kvetcd: %s: %w", doing, kv.ErrCompacted)
	case errors.Is(rpctypes.Error(err), rpctypes.ErrLeaseNotFound):
		return fmt.Errorf("kvetcd: %s: %w", doing, kv.ErrLeaseNotFound)
	default:
		return fmt.Errorf("kvetcd: %s: %w", doing, err)
	}
}

// NoSpace reports whether err says that etcd's quota is used up: writes fail until somebody makes room, while leases
// and reads go on.
func NoSpace(err error) bool { return is(err, rpctypes.ErrNoSpace) }

// Denied reports whether err says that etcd does not accept who we are, or what we asked for.
func Denied(err error) bool {
	return is(err, rpctypes.ErrPermissionDenied) || is(err, rpctypes.ErrAuthFailed) || is(err, rpctypes.ErrUserEmpty) ||
		is(err, rpctypes.ErrInvalidAuthToken) || is(err, rpctypes.ErrUserNotFound)
}

func is(err, answer error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if errors.Is(rpctypes.Error(err), answer) {
			return true
		}
	}
	return false
}
