package change

import (
	"cmp"
	"encoding/json"
	"fmt"
	"strconv"
)

// Position is a place in the source's own order: an etcd revision, a PostgreSQL LSN, a binlog coordinate. The zero
// value means "snapshot not read yet". In JSON it is a decimal string.
type Position uint64

// String returns the position in decimal.
func (p Position) String() string { return strconv.FormatUint(uint64(p), 10) }

// ParsePosition reads a decimal position.
func ParsePosition(text string) (Position, error) {
	value, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("position %.40q is not a decimal number", text)
	}
	return Position(value), nil
}

// MarshalText writes the position in decimal.
func (p Position) MarshalText() ([]byte, error) { return strconv.AppendUint(nil, uint64(p), 10), nil }

// UnmarshalJSON reads a decimal string.
func (p *Position) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err != nil {
		return fmt.Errorf("position %.40s is not a decimal string", data)
	}
	parsed, err := ParsePosition(text)
	if err != nil {
		return err
	}
	*p = parsed
	return nil
}

// Mark says how far something is done. With Index 0 every change at or below Position is done. With Index n > 0 every
// change below Position is done, and of those at Position the ones whose index is below n; that is only used by
// sources whose indexes do not depend on the span that is read. The zero value is the beginning: nothing is done.
type Mark struct {
	Position Position
	Index    uint32
}

// At returns the mark at which every change at or below position is done.
func At(position Position) Mark { return Mark{Position: position} }

// Compare orders marks by how much is done.
func (m Mark) Compare(other Mark) int {
	// An index of 0 is the whole position, so it sorts above every other index: 0−1 wraps to the maximum.
	return cmp.Or(cmp.Compare(m.Position, other.Position), cmp.Compare(m.Index-1, other.Index-1))
}

// Before reports whether less is done at m than at other.
func (m Mark) Before(other Mark) bool { return m.Compare(other) < 0 }

// Done reports whether the change at (position, index) is done at this mark.
func (m Mark) Done(position Position, index uint32) bool {
	if position != m.Position {
		return position < m.Position
	}
	return m.Index == 0 || index < m.Index
}

// Whole returns the highest position that is done entirely.
func (m Mark) Whole() Position {
	if m.Index > 0 && m.Position > 0 {
		return m.Position - 1
	}
	return m.Position
}

// Later returns the mark at which more is done.
func Later(a, b Mark) Mark {
	if a.Before(b) {
		return b
	}
	return a
}

// Earlier returns the mark at which less is done.
func Earlier(a, b Mark) Mark {
	if b.Before(a) {
		return b
	}
	return a
}

// String returns the position, with ":index" where it is not done entirely.
func (m Mark) String() string {
	if m.Index == 0 {
		return m.Position.String()
	}
	return fmt.Sprintf("%d:%d", m.Position, m.Index)
}
