// Package history reads what processes of a test build wrote about themselves, and what watches of the etcds saw, and makes
// one history of it: for the simulation's checker, for a count of what stale owners attempted, and for a checker of
// linearizability. It decides nothing about right and wrong.
//
// The order of a history is that of etcd's revisions within each etcd, and of one clock, CLOCK_MONOTONIC of the machine,
// between processes and etcds: a commit stands at the earliest moment that its own request and the commits before it allow.
// Whatever follows from a commit, on whichever process, was written down later than that.
package history

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/kv"
)

// lineBytesMax bounds one line: a transaction of etcd's greatest size, in base64.
const lineBytesMax = 8 << 20

// Process is what one process wrote.
type Process struct {
	Name    string
	Calls   []*Call // transactions, in the order in which they were invoked
	Starts  []Run
	Ends    []Run
	Knows   []Run
	Places  []Run
	Refused []Refusal
}

// Call is a transaction that a process handed to etcd's client.
type Call struct {
	Process   *Process
	Txn       kv.Txn
	Invoked   int64
	Answered  int64 // 0 if it never was
	Revision  int64 // of the store, as of the answer; 0 if that is an error or missing
	Succeeded bool
	Modified  map[string]int64 // of keys that it read: their mod revisions
}

// Run is something about a dispatcher, or about an epoch.
type Run struct {
	At        int64             `json:"-"`
	Node      changefeed.NodeID `json:"node"`
	To        changefeed.NodeID `json:"to"`
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	UID       changefeed.UID    `json:"uid"`
	Epoch     fence.Epoch       `json:"epoch"`
	Seq       fence.Seq         `json:"seq"`
	Start     changefeed.Key    `json:"start"`
	End       changefeed.Key    `json:"end"`
}

// ID names the changefeed.
func (r *Run) ID() changefeed.ID { return changefeed.ID{Namespace: r.Namespace, Name: r.Name} }

// Span is the dispatcher's.
func (r *Run) Span() changefeed.Span { return changefeed.Span{Start: r.Start, End: r.End} }

// Refusal is something that a fence of a process refused, by the fence's rule.
type Refusal struct {
	At   int64
	Rule string
}

type line struct {
	At   int64           `json:"at"`
	Kind string          `json:"kind"`
	Of   json.RawMessage `json:"of"`
}

// ReadFile reads what a process wrote. The last line may be cut off, by a kill in the middle of a write.
func ReadFile(name, path string) (*Process, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("history: %w", err)
	}
	return parse(name, bytes.NewReader(text))
}

func parse(name string, from io.Reader) (*Process, error) {
	p := &Process{Name: name}
	open := map[uint64]*Call{}
	lines := bufio.NewScanner(from)
	lines.Buffer(nil, lineBytesMax)
	for lines.Scan() {
		var one line
		if err := json.Unmarshal(lines.Bytes(), &one); err != nil {
			if lines.Scan() {
				return nil, fmt.Errorf("history: %s: %w", name, err)
			}
			break // the last line of a process that was killed
		}
		if err := p.take(one, open); err != nil {
			return nil, fmt.Errorf("history: %s: %s: %w", name, one.Kind, err)
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("history: %s: %w", name, err)
	}
	return p, nil
}

func (p *Process) take(one line, open map[uint64]*Call) error {
	switch one.Kind {
	case "txn", "answer":
		return p.request(one, open)
	case "refused":
		refusal := Refusal{At: one.At}
		err := json.Unmarshal(one.Of, &refusal.Rule)
		p.Refused = append(p.Refused, refusal)
		return err
	}
	run := Run{At: one.At}
	if err := json.Unmarshal(one.Of, &run); err != nil {
		return err
	}
	switch one.Kind {
	case "start":
		p.Starts = append(p.Starts, run)
	case "end":
		p.Ends = append(p.Ends, run)
	case "known":
		p.Knows = append(p.Knows, run)
	case "place":
		p.Places = append(p.Places, run)
	default:
		return fmt.Errorf("not a kind of line")
	}
	return nil
}

// request takes in one end of a request. Open are those that have no answer yet.
func (p *Process) request(one line, open map[uint64]*Call) error {
	var of struct {
		N         uint64           `json:"n"`
		Txn       kv.Txn           `json:"txn"`
		Revision  int64            `json:"revision"`
		Succeeded bool             `json:"succeeded"`
		Modified  map[string]int64 `json:"modified"`
	}
	if err := json.Unmarshal(one.Of, &of); err != nil {
		return err
	}
	if one.Kind == "txn" {
		call := &Call{Process: p, Txn: of.Txn, Invoked: one.At}
		p.Calls, open[of.N] = append(p.Calls, call), call
		return nil
	}
	call, found := open[of.N]
	if !found {
		return fmt.Errorf("an answer to %d, which was not asked", of.N)
	}
	call.Answered, call.Revision, call.Succeeded, call.Modified = one.At, of.Revision, of.Succeeded, of.Modified
	delete(open, of.N)
	return nil
}
