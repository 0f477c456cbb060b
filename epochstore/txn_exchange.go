package epochstore

import (
	"errors"
	"fmt"

	"fencerow/fence"
	"fencerow/kv"
)

// verdict is what the records say about a write that was not answered with success.
type verdict uint8

const (
	verdictDone  verdict = iota + 1 // it is in the store
	verdictAgain                    // it is not there, and what it was decided on still holds
	verdictStale                    // what it was decided on is gone
)

// resend says what follows when an answer was lost and the write is not found in the store.
type resend uint8

const (
	resendSame resend = iota + 1 // sent again: its compares let it be applied once only
	resendNot                    // not sent again: its outcome stays unknown
)

// Outcome is what became of one write of an exchange.
type Outcome struct {
	Err         error
	ModRevision int64         // of what it put, when Err is nil and it is known
	reads       []kv.Response // what was read last, if it was
}

// judgement tells one member's fate from the answers of an else branch. The revision is for verdictDone, the error for
// verdictStale.
type judgement func(member int, shared, own []kv.Response) (verdict, int64, error)

// Exchange is a transaction's way to its outcome, as a pure machine: send what Next returns, hand the answer to
// Answer, until Next has nothing more. It takes entries apart whose compares fail, reads back after an answer was
// lost, and sends the very same values again where that is safe. One goroutine uses it.
type Exchange struct {
	shared   part
	parts    []part
	judge    judgement
	resend   resend
	queue    []pack
	current  *pack
	readBack bool
	unknown  bool // an earlier attempt may still be on its way
	attempts int
	outcomes []Outcome
}

// newExchange starts an exchange whose parts all fit into one transaction.
func newExchange(shared part, parts []part, policy resend, judge judgement) *Exchange {
	all := make([]int, len(parts))
	for i := range parts {
		all[i] = i
	}
	return &Exchange{
		shared: shared, parts: parts, judge: judge, resend: policy,
		queue: packParts(shared, parts, all, kv.TxnOpsMax), outcomes: make([]Outcome, len(parts)),
	}
}

// Outcomes returns what became of each write, once Next has nothing more.
func (e *Exchange) Outcomes() []Outcome { return e.outcomes }

// Next returns the transaction to send now, and false when all outcomes are known.
func (e *Exchange) Next() (kv.Txn, bool) {
	if e.current == nil {
		if len(e.queue) == 0 {
			return kv.Txn{}, false
		}
		e.current, e.queue = &e.queue[0], e.queue[1:]
	}
	if e.readBack {
		return kv.Txn{Then: e.current.txn.Else}, true
	}
	return e.current.txn, true
}

// Answer takes in the answer to what Next returned.
func (e *Exchange) Answer(result kv.Result, err error) {
	wasReadBack := e.readBack
	e.readBack = false
	switch {
	case wasReadBack && err != nil:
		e.fail(fmt.Errorf("%w: read back: %w", fence.ErrUnknown, err))
	case wasReadBack:
		e.interpret(result.Responses, answerLost)
	case err == nil && result.Succeeded:
		for _, member := range e.current.members {
			e.outcomes[member] = Outcome{ModRevision: result.Revision}
		}
		e.current = nil
	case err == nil:
		e.interpret(result.Responses, answerRead)
	case errors.Is(err, fence.ErrUnknown):
		e.unknown, e.readBack = true, true
	case e.unknown:
		e.fail(fmt.Errorf("%w: %w", fence.ErrUnknown, err))
	default:
		e.fail(err)
	}
}

// fail gives the error to all members of the current pack.
func (e *Exchange) fail(err error) {
	for _, member := range e.current.members {
		e.outcomes[member].Err = err
	}
	e.current = nil
}

// answer says whether the answer to a transaction arrived.
type answer uint8 // of one transaction

const (
	answerRead answer = iota + 1
	answerLost        // what was written is read back
)

// interpret judges each member by what was read.
func (e *Exchange) interpret(responses []kv.Response, answer answer) {
	current := e.current
	e.current = nil
	e.attempts++
	var again []int
	for i, member := range current.members {
		shared, own := current.responses(responses, e.parts, i)
		fate, revision, err := e.judge(member, shared, own)
		switch {
		case fate == verdictDone:
			e.outcomes[member] = Outcome{ModRevision: revision, reads: own}
		case fate == verdictStale:
			e.outcomes[member] = Outcome{Err: err, reads: own}
		case answer == answerLost && e.resend == resendNot:
			e.outcomes[member] = Outcome{Err: fence.ErrUnknown, reads: own}
		case e.attempts >= attemptsMax:
			e.outcomes[member] = Outcome{Err: e.exhausted(), reads: own}
		default:
			again = append(again, member)
		}
	}
	if len(again) == 0 {
		return
	}
	if answer == answerRead && len(again) == len(current.members) {
		// Nobody is to blame by what was read: each alone.
		for _, member := range again {
			e.queue = append(e.queue, packParts(e.shared, e.parts, []int{member}, 1)...)
		}
		return
	}
	e.queue = append(packParts(e.shared, e.parts, again, kv.TxnOpsMax), e.queue...)
}

func (e *Exchange) exhausted() error {
	if e.unknown {
		return fmt.Errorf("%w: no answer in %d attempts", fence.ErrUnknown, attemptsMax)
	}
	return fmt.Errorf("%w: refused %d times", ErrConflict, attemptsMax)
}
