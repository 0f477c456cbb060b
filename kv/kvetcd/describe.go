package kvetcd

import (
	"strings"

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
