package kvetcd

import (
	"strings"

	"fencerow/internal/failpoint"
	"fencerow/kv"
)

// describedMax is how much of a value a description has.
const describedMax = 400

// describe names what a transaction compares and puts, for a failpoint to choose by.
func describe(txn kv.Txn) string {
	var out strings.Builder
	for _, compare := range txn.If {
		out.WriteString("if " + compare.Key + "\n")
	}
	for _, op := range txn.Then {
		switch op.Kind {
		case kv.OpPut:
			out.WriteString("put " + op.Key + " " + string(op.Value[:min(len(op.Value), describedMax)]) + "\n")
		case kv.OpDelete:
			out.WriteString("delete " + op.Key + "\n")
		case kv.OpGet:
		}
	}
	return out.String()
}

// traceTxn tells that a transaction is handed to etcd's client, and returns what tells how it was answered. A request
// that was invoked and never answered may have been done.
func traceTxn(txn kv.Txn) func(result kv.Result, err error) {
	number := failpoint.Number()
	failpoint.Trace("txn", map[string]any{"n": number, "txn": txn})
	return func(result kv.Result, err error) {
		answer := map[string]any{"n": number}
		if err != nil {
			answer["error"] = err.Error()
		} else {
			answer["revision"], answer["succeeded"], answer["modified"] = result.Revision, result.Succeeded, result.Modified(txn)
		}
		failpoint.Trace("answer", answer)
	}
}
