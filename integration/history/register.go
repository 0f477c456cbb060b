package history

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/anishathalye/porcupine"

	"fencerow/kv"
)

// registerLimit bounds the search for an order. A history of a few hundred requests takes milliseconds.
const registerLimit = 30 * time.Second

// input is a request on one key, seen as a register that holds the key's mod revision.
type input struct {
	write  bool
	expect int64 // write: what the key's mod revision is compared with
}

// Register returns what was asked of one key and what came back. A transaction that was refused is a read, if it reads the
// key then, since another of its compares may have failed; one that was never answered is in it if a watch saw that it was
// done.
func Register(s *Store, key string) []porcupine.Operation {
	done := map[*Call]*Commit{}
	for _, commit := range s.Commits {
		if commit.By != nil {
			done[commit.By] = commit
		}
	}
	clients := map[*Process]int{}
	client := func(p *Process) int {
		if _, found := clients[p]; !found {
			clients[p] = len(clients)
		}
		return clients[p]
	}
	var out []porcupine.Operation
	for _, call := range s.Calls {
		one := porcupine.Operation{ClientId: client(call.Process), Call: call.Invoked, Return: call.Answered}
		at := slices.IndexFunc(call.Txn.If, func(c kv.Compare) bool { return c.Key == key && c.Target == kv.ModRevision })
		puts := slices.ContainsFunc(call.Txn.Then, func(op kv.Op) bool { return op.Kind == kv.OpPut && op.Key == key })
		modified, read := call.Modified[key]
		switch commit := done[call]; {
		case at >= 0 && puts && commit != nil:
			one.Input, one.Output = input{write: true, expect: call.Txn.If[at].Number}, commit.Revision
			if call.Revision == 0 {
				one.Return = math.MaxInt64 // it was never answered
			}
		case read && call.Revision > 0:
			one.Input, one.Output = input{}, modified
		default:
			continue
		}
		out = append(out, one)
	}
	return out
}

// Linearizable judges requests on a register.
func Linearizable(operations []porcupine.Operation) error {
	model := porcupine.Model{
		Init: func() any { return int64(0) },
		Step: func(held, in, out any) (bool, any) {
			asked, _ := in.(input)     //nolint:errcheck // what Register makes
			revision, _ := out.(int64) //nolint:errcheck // likewise
			state, _ := held.(int64)   //nolint:errcheck // likewise
			if !asked.write {
				return revision == state, state
			}
			return asked.expect == state && revision > state, revision
		},
	}
	if got := porcupine.CheckOperationsTimeout(model, operations, registerLimit); got != porcupine.Ok {
		return fmt.Errorf("history: %d requests on a register are not linearizable: %v", len(operations), got)
	}
	return nil
}
