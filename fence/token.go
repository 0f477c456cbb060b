package fence

import (
	"cmp"
	"errors"
	"fmt"
)

// Sentinels of the four outcomes of an effect. An effect returns nil (it happened), an error that is [ErrStale] (it
// did not happen and never will: stop), one that is [ErrUnknown] (it may have happened: read back or claim again), or
// any other error (it did not happen and may be tried again).
var (
	// ErrStale says that the token is older than what the receiver holds.
	ErrStale = errors.New("stale: a newer owner is known")
	// ErrDeposed says that a report carried a newer token than the owner's own: the owner was replaced and stops.
	ErrDeposed = errors.New("deposed: a report came from a newer owner")
	// ErrUnknown says that the outcome of an effect is not known, as after a time-out.
	ErrUnknown = errors.New("outcome unknown")
)

// Epoch numbers one ownership of one changefeed. It is persisted, grows strictly and is never reused. The zero value
// means "none" and authorises nothing.
type Epoch uint64

// Next returns the epoch of the next ownership: above the persisted one, and at least the store revision that was seen
// when it was read, and at least the floor. The revision keeps epochs from being reused after a record was deleted.
func Next(persisted Epoch, revision uint64, floor Epoch) Epoch {
	return max(persisted+1, Epoch(revision), floor)
}

// Compare orders epochs by age: negative when e is older than other.
func (e Epoch) Compare(other Epoch) int { return cmp.Compare(e, other) }

// OlderThan reports whether other supersedes e.
func (e Epoch) OlderThan(other Epoch) bool { return e < other }

// Confirm is the verb of an owner that receives a report: nil if the report is of this epoch, [ErrStale] if it is of
// an older one (drop it), [ErrDeposed] if it is of a newer one (stop).
func (e Epoch) Confirm(report Epoch) error {
	switch {
	case report < e:
		return ErrStale
	case report > e:
		return ErrDeposed
	default:
		return nil
	}
}

// Seq counts the span placements of one epoch, from 1. The zero value means "none".
type Seq uint64

// Token is the fencing token of one dispatcher: (epoch, seq), ordered lexicographically. It never changes inside an
// object; the zero value is invalid.
type Token struct {
	epoch Epoch
	seq   Seq
}

// Mint makes a token. Only the store that hands epochs out, the maintainer core that hands seqs out under its epoch,
// and decoders of bytes may call it.
func Mint(epoch Epoch, seq Seq) Token { return Token{epoch: epoch, seq: seq} }

// Epoch returns the ownership that the token belongs to.
func (t Token) Epoch() Epoch { return t.epoch }

// Seq returns the placement within the epoch.
func (t Token) Seq() Seq { return t.seq }

// IsZero reports whether t is the invalid zero token.
func (t Token) IsZero() bool { return t == Token{} }

// Compare orders tokens by age: negative when t is older than other.
func (t Token) Compare(other Token) int {
	return cmp.Or(cmp.Compare(t.epoch, other.epoch), cmp.Compare(t.seq, other.seq))
}

// OlderThan reports whether other supersedes t.
func (t Token) OlderThan(other Token) bool { return t.Compare(other) < 0 }

// Confirm is the verb of an owner that receives a report about one placement: nil if it is of exactly this token,
// [ErrStale] if it is of an older one, [ErrDeposed] if it is of a newer epoch. A newer seq of the same epoch is stale
// too: it cannot be a report about this placement.
func (t Token) Confirm(report Token) error {
	if report.epoch > t.epoch {
		return ErrDeposed
	}
	if report != t {
		return ErrStale
	}
	return nil
}

// String returns "epoch.seq", as in "1043.2".
func (t Token) String() string { return fmt.Sprintf("%d.%d", t.epoch, t.seq) }
