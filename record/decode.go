package record

import (
	"encoding/json"
	"fmt"
	"strings"

	"fencerow/changefeed"
)

// Decode reads and validates the record under a key. Errors are a [*changefeed.Fault] with code record.invalid that
// names the key and the fault.
func (k Keys) Decode(key string, value []byte) (Ref, Record, error) {
	ref, err := k.Parse(key)
	if err != nil {
		return Ref{}, nil, err
	}
	out := blank(ref.Kind)
	if err := decode(ref, key, value, out); err != nil {
		return ref, nil, err
	}
	return ref, out, nil
}

// DecodeAs is [Keys.Decode] for a caller that knows what the key holds.
func DecodeAs[T any, P interface {
	*T
	Record
}](keys Keys, key string, value []byte) (*T, error) {
	_, decoded, err := keys.Decode(key, value)
	if err != nil {
		return nil, err
	}
	typed, ok := decoded.(P)
	if !ok {
		return nil, invalid(key, "holds a record of another kind")
	}
	return typed, nil
}

func blank(kind Kind) Record {
	switch kind {
	case KindMeta:
		return &Meta{}
	case KindNode:
		return &Node{}
	case KindName:
		return &Name{}
	case KindDrain:
		return &Drain{}
	case KindCandidate:
		return &Candidate{}
	case KindSpec:
		return &Spec{}
	case KindEpoch:
		return &Epoch{}
	case KindHandoff:
		return &Handoff{}
	case KindStatus:
		return &Status{}
	case KindHistory:
		return &History{}
	default:
		return &Eviction{}
	}
}

func decode(ref Ref, key string, value []byte, into Record) error {
	if len(value) > ValueBytesMax {
		return invalid(key, fmt.Sprintf("has %d bytes, more than %d", len(value), ValueBytesMax))
	}
	if err := decodeFields(key, value, into); err != nil {
		return err
	}
	if detail := into.validate(ref); detail != "" {
		return invalid(key, detail)
	}
	return nil
}

// decodeFields reads the fields, and keeps those that this version does not know.
func decodeFields(key string, value []byte, into Record) error {
	failed, known := json.Unmarshal(value, into), fieldsOf(into)
	if failed == nil && onlyFields(value, known) {
		return nil // nothing is to be kept, nor to be told apart
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(value, &fields); err != nil {
		return invalid(key, fmt.Sprintf("is not a JSON object: %.200s", err.Error()))
	}
	if failed != nil {
		return invalid(key, fmt.Sprintf("does not parse: %.200s", failed.Error()))
	}
	for name := range fields {
		if known[name] {
			delete(fields, name)
			continue
		}
		for exact := range known {
			// The JSON package takes other cases for the same field; then two readers may see two values.
			if strings.EqualFold(exact, name) {
				return invalid(key, fmt.Sprintf("has a field %.100q, which is written %q", name, exact))
			}
		}
	}
	if len(fields) > 0 {
		*into.extra() = fields
	}
	return nil
}

// onlyFields reports whether every field of a valid JSON object has one of these names, written without escapes. Every
// node reads every epoch record, and looking at the names costs a tenth of decoding them.
func onlyFields(object []byte, names map[string]bool) bool {
	depth, name := 0, false // name: a string at depth 1 would be a field's name
	for i := 0; i < len(object); i++ {
		switch object[i] {
		case '{', '[':
			depth++
			name = depth == 1
		case '}', ']':
			depth--
		case ',':
			name = depth == 1
		case '"':
			end := i + 1
			for object[end] != '"' {
				if object[end] == '\\' {
					if name {
						return false
					}
					end++
				}
				end++
			}
			if name && !names[string(object[i+1:end])] {
				return false
			}
			i, name = end, false
		}
	}
	return true
}

const wordBytesMax = 256 // of ids, names and reasons inside records

// wordFault returns what is wrong with an id or a name that can be part of a key.
func wordFault(field, word string) string {
	switch {
	case word == "":
		return "has no " + field
	case len(word) > wordBytesMax:
		return fmt.Sprintf("has a %s of %d bytes, more than %d", field, len(word), wordBytesMax)
	case strings.Contains(word, "/"):
		return "has a / in its " + field
	default:
		return ""
	}
}

// firstFault returns the first that is not "".
func firstFault(details ...string) string {
	for _, detail := range details {
		if detail != "" {
			return detail
		}
	}
	return ""
}

// when returns the detail if the condition holds.
func when(broken bool, detail string) string { //nolint:revive // a row of a table
	if broken {
		return detail
	}
	return ""
}

func (m *Meta) validate(Ref) string {
	return firstFault(
		when(m.Format < 1, "has no format"),
		when(m.Format > FormatCurrent,
			fmt.Sprintf("has format %d, and this version reads up to %d: use a newer version", m.Format, FormatCurrent)),
		when(m.Level < 0, "has a negative level"),
		wordFault("cluster_id", m.ClusterID),
		when(!numberOK(m.EpochFloor), "has an epoch_floor above 2^53"),
	)
}

func (n *Node) validate(ref Ref) string {
	return firstFault(
		wordFault("id", string(n.ID)),
		wordFault("name", n.Name),
		when(ref.Kind == KindNode && ref.Node != n.ID, "has the id of another node"),
		when(n.Liveness != Alive && n.Liveness != Draining && n.Liveness != Stopping,
			fmt.Sprintf("has an unknown liveness %.40q", n.Liveness)),
		when(n.Level < 0, "has a negative level"),
	)
}

func (n *Name) validate(Ref) string { return wordFault("node", string(n.Node)) }

func (d *Drain) validate(Ref) string { return "" }

func (c *Candidate) validate(Ref) string { return wordFault("node", string(c.Node)) }

func (s *Spec) validate(ref Ref) string {
	return firstFault(
		wordFault("uid", string(s.UID)),
		wordFault("namespace", s.Namespace),
		wordFault("name", s.Name),
		when(ref.Kind == KindSpec && ref.ID != s.ID(), "has the name of another changefeed"),
		when(s.Source == "", "has no source"),
		when(s.Sink == "", "has no sink"),
		when(s.Start == "", "has no start"),
		when(!desiredKnown(s.Desired), fmt.Sprintf("has an unknown desired state %.40q", s.Desired)),
		when(s.Move != nil && s.Move.ID == "", "has a move without id"),
		when(len(s.Skips) > SkipsMax, fmt.Sprintf("leaves out more than %d changes", SkipsMax)),
	)
}

func (e *Epoch) validate(ref Ref) string {
	return firstFault(
		wordFault("uid", string(e.UID)),
		when(!numberOK(e.Epoch), "has an epoch above 2^53"), // 0: a gate decides whether it counts (F14)
		when(ref.Kind == KindHistory && ref.Epoch.Compare(e.Epoch) != 0, "has another epoch than its key"),
		when(e.Owner != "", wordFault("owner", string(e.Owner))),
		when(e.Term <= 0 || e.Term > NumberMax, "has no term, or one above 2^53"),
		when(e.SpecRevision <= 0, "has no spec_revision"),
		when(e.Reason == "" || len(e.Reason) > wordBytesMax, "has no reason, or a very long one"),
		when(e.Nonce == "" || len(e.Nonce) > wordBytesMax, "has no nonce, or a very long one"),
	)
}

func (h *Handoff) validate(Ref) string {
	return firstFault(
		wordFault("uid", string(h.UID)),
		when(h.Epoch.Compare(0) == 0 || !numberOK(h.Epoch), "has no epoch, or one above 2^53"),
		when(h.To != "", wordFault("to", string(h.To))),
		when(h.Reason == "", "has no reason"),
	)
}

func (s *Status) validate(Ref) string {
	return firstFault(
		wordFault("uid", string(s.UID)),
		when(s.Epoch.Compare(0) == 0 || !numberOK(s.Epoch), "has no epoch, or one above 2^53"),
		when(!stateKnown(s.State), fmt.Sprintf("has an unknown state %.40q", s.State)),
		when(s.Spans < 0, "has a negative number of spans"),
		when(s.ReleasedFor != "" && !desiredKnown(s.ReleasedFor), fmt.Sprintf("was released for an unknown state %.40q", s.ReleasedFor)),
	)
}

func desiredKnown(desired changefeed.Desired) bool {
	return desired == changefeed.DesiredRunning || desired == changefeed.DesiredPaused || desired == changefeed.DesiredRemoved
}

func stateKnown(state changefeed.State) bool {
	switch state {
	case changefeed.StateStarting, changefeed.StateRunning, changefeed.StateStalled, changefeed.StateRetrying,
		changefeed.StatePaused, changefeed.StateFailed, changefeed.StateRemoving, changefeed.StateReleased:
		return true
	default:
		return false
	}
}

func (h *History) validate(ref Ref) string { return h.Epoch.validate(ref) }

func (e *Eviction) validate(Ref) string {
	return firstFault(
		when(e.Epoch.Compare(0) == 0 || !numberOK(e.Epoch), "has no epoch, or one above 2^53"),
		when(!numberOK(e.Seq), "has a seq above 2^53"),
		when(len(e.Finals) > FinalsMax, "has too many finals"),
	)
}
