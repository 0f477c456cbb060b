package record

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"

	"fencerow/changefeed"
	"fencerow/fence"
)

// Bounds of what is stored.
const (
	// ValueBytesMax bounds one record, so that several fit into a transaction of etcd.
	ValueBytesMax = 256 * 1024
	// NumberMax is the largest epoch, seq and term: JSON readers keep integers exactly up to 2^53.
	NumberMax = 1<<53 - 1
)

// Record is a pointer to one of the types of this package that are stored under a key of their own.
type Record interface {
	// validate returns what is wrong with the record, a clause without a full stop, or "".
	validate(ref Ref) string
	// extra returns the fields that this version does not know.
	extra() *Extra
}

func (m *Meta) extra() *Extra      { return &m.Extra }
func (n *Node) extra() *Extra      { return &n.Extra }
func (n *Name) extra() *Extra      { return &n.Extra }
func (d *Drain) extra() *Extra     { return &d.Extra }
func (c *Candidate) extra() *Extra { return &c.Extra }
func (s *Spec) extra() *Extra      { return &s.Extra }
func (e *Epoch) extra() *Extra     { return &e.Extra }
func (h *Handoff) extra() *Extra   { return &h.Extra }
func (s *Status) extra() *Extra    { return &s.Extra }
func (e *Eviction) extra() *Extra  { return &e.Extra }

// Candidate is the record `coordinator/<lease>`: a node that is coordinator, or waits to be.
type Candidate struct {
	Node  changefeed.NodeID `json:"node"`
	Extra Extra             `json:"-"`
}

// Encode returns the compact JSON of a record: its fields in their fixed order, then those that this version does not
// know, sorted. A record that Decode would refuse is refused; ref tells for which key it is meant.
func Encode(ref Ref, record Record) ([]byte, error) {
	if detail := record.validate(ref); detail != "" {
		return nil, invalid(ref.String(), detail)
	}
	value, err := marshal(plain(record))
	if err != nil {
		return nil, fmt.Errorf("record: encode %s: %w", ref, err)
	}
	known := fieldsOf(record)
	extra := *record.extra()
	for _, name := range slices.Sorted(maps.Keys(extra)) {
		if known[name] {
			continue
		}
		if value, err = appendField(value, name, extra[name]); err != nil {
			return nil, fmt.Errorf("record: encode %s: field %.100q: %w", ref, name, err)
		}
	}
	if len(value) > ValueBytesMax {
		return nil, invalid(ref.String(), fmt.Sprintf("has %d bytes, more than %d", len(value), ValueBytesMax))
	}
	return value, nil
}

// plain returns the record with nil collections made empty, so that readers always find them.
func plain(record Record) any {
	switch r := record.(type) {
	case *Node:
		if r.Unreachable == nil {
			filled := *r
			filled.Unreachable = []changefeed.NodeID{}
			return &filled
		}
	case *Spec:
		if r.Options == nil {
			filled := *r
			filled.Options = changefeed.Options{}
			return &filled
		}
	}
	return record
}

// marshal keeps <, > and & as they are: people read the records, and URIs hold them.
func marshal(value any) ([]byte, error) {
	var out bytes.Buffer
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(value); err != nil {
		return nil, err
	}
	return bytes.TrimSuffix(out.Bytes(), []byte("\n")), nil
}

// appendField adds a field to a JSON object that has at least one.
func appendField(object []byte, name string, raw json.RawMessage) ([]byte, error) {
	field, err := marshal(name)
	if err != nil {
		return nil, err
	}
	value, err := marshal(raw)
	if err != nil {
		return nil, err
	}
	object = append(object[:len(object)-1], ',')
	object = append(append(object, field...), ':')
	return append(append(object, value...), '}'), nil
}

// fieldNames holds the JSON names of each record type, and is never changed after it was made.
var fieldNames = func() map[reflect.Type]map[string]bool { //nolint:gochecknoglobals // read only
	out := map[reflect.Type]map[string]bool{}
	for _, r := range []Record{
		&Meta{}, &Node{}, &Name{}, &Drain{}, &Candidate{}, &Spec{}, &Epoch{}, &Handoff{}, &Status{}, &History{}, &Eviction{},
	} {
		names := map[string]bool{}
		collectFields(reflect.TypeOf(r).Elem(), names)
		out[reflect.TypeOf(r)] = names
	}
	return out
}()

func collectFields(t reflect.Type, names map[string]bool) {
	for field := range t.Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		switch {
		case field.Anonymous:
			collectFields(field.Type, names)
		case name != "-" && name != "":
			names[name] = true
		}
	}
}

func fieldsOf(r Record) map[string]bool { return fieldNames[reflect.TypeOf(r)] }

// String returns the ref as a path, for messages.
func (r Ref) String() string {
	switch r.Kind {
	case KindMeta:
		return r.Kind.String()
	case KindNode:
		return r.Kind.String() + "/" + string(r.Node)
	case KindName, KindDrain:
		return r.Kind.String() + "/" + r.Name
	case KindCandidate:
		return fmt.Sprintf("%s/%x", r.Kind, uint64(r.Lease))
	case KindHistory:
		return fmt.Sprintf("%s/%s/%0*d", r.Kind, r.ID, epochDigits, uint64(r.Epoch))
	case KindEviction:
		return r.Kind.String() + "/" + string(r.UID) + "/" + string(r.Node)
	default:
		return r.Kind.String() + "/" + r.ID.String()
	}
}

// numberOK reports whether an epoch or a seq can be kept exactly by every reader of JSON.
func numberOK[T fence.Epoch | fence.Seq](n T) bool { return uint64(n) <= NumberMax }
