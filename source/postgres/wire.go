package postgres

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
)

// errMalformed is for bytes that are no message of the server's.
var errMalformed = errors.New("postgres: malformed replication message")

// cursor reads the fields of a message. It remembers that it was read beyond its end, and then returns zeros.
type cursor struct {
	data []byte
	bad  bool
}

func (c *cursor) next(n int) []byte {
	if n < 0 || n > len(c.data) {
		c.data, c.bad = nil, true
		return nil
	}
	out := c.data[:n:n]
	c.data = c.data[n:]
	return out
}

func (c *cursor) byte() byte {
	if len(c.data) == 0 {
		c.bad = true
		return 0
	}
	out := c.data[0]
	c.data = c.data[1:]
	return out
}

func (c *cursor) uint16() uint16 {
	if field := c.next(2); field != nil {
		return binary.BigEndian.Uint16(field)
	}
	return 0
}

func (c *cursor) uint32() uint32 {
	if field := c.next(4); field != nil {
		return binary.BigEndian.Uint32(field)
	}
	return 0
}

func (c *cursor) uint64() uint64 {
	if field := c.next(8); field != nil {
		return binary.BigEndian.Uint64(field)
	}
	return 0
}

// text reads a string that ends with a NUL.
func (c *cursor) text() string {
	end := bytes.IndexByte(c.data, 0)
	if end < 0 {
		c.data, c.bad = nil, true
		return ""
	}
	out := string(c.data[:end])
	c.data = c.data[end+1:]
	return out
}

// time reads microseconds since 2000.
func (c *cursor) time() time.Time {
	return time.UnixMicro(int64(c.uint64()) + epochMicroseconds).UTC()
}

// epochMicroseconds is 2000-01-01, with which the server's times begin.
const epochMicroseconds = 946_684_800_000_000

// end returns what was wrong with the message: it was too short, or goes on.
func (c *cursor) end(kind byte) error {
	if c.bad || len(c.data) > 0 {
		return fmt.Errorf("%w of kind %q", errMalformed, kind)
	}
	return nil
}

// The messages of pgoutput.
const (
	kindBegin    = 'B'
	kindCommit   = 'C'
	kindRelation = 'R'
	kindType     = 'Y'
	kindInsert   = 'I'
	kindUpdate   = 'U'
	kindDelete   = 'D'
	kindTruncate = 'T'
	kindMessage  = 'M'
	kindOrigin   = 'O'
)

// What a tuple is, and what a cell is.
const (
	tupleNew = 'N'
	tupleKey = 'K' // the columns of the identity, before
	tupleOld = 'O' // all columns, before

	cellNull      = 'n'
	cellUnchanged = 'u' // a large value that the change left alone
	cellText      = 't'
)

// cells reads a tuple of as many columns as dst has. Values share the message's memory. It returns which values are not
// known, nil if all are.
func (c *cursor) cells(dst [][]byte, unchanged func() []bool) []bool {
	if int(c.uint16()) != len(dst) {
		c.bad = true
		return nil
	}
	var flags []bool
	for i := range dst {
		switch c.byte() {
		case cellNull:
			dst[i] = nil
		case cellUnchanged:
			if flags == nil {
				flags = unchanged()
			}
			flags[i] = true
		case cellText:
			dst[i] = c.next(int(c.uint32()))
		default:
			c.bad = true
			return nil
		}
	}
	return flags
}

// relationMessage says what the rows of a table look like from here on.
type relationMessage struct {
	oid          uint32
	schema, name string
	identity     byte // pg_class.relreplident
	columns      []relationColumn
}

type relationColumn struct {
	identity bool // part of the replica identity
	name     string
	typeOID  uint32
	modifier int32
	length   int // of the type, as the catalog has it; the log does not say
}

func parseRelation(data []byte) (relationMessage, error) {
	c := cursor{data: data}
	m := relationMessage{oid: c.uint32(), schema: c.text(), name: c.text(), identity: c.byte()}
	n := int(c.uint16())
	if m.schema == "" {
		m.schema = "pg_catalog" // as the server abbreviates it
	}
	for range n {
		if c.bad {
			break
		}
		flags := c.byte()
		m.columns = append(m.columns, relationColumn{
			identity: flags&1 != 0, name: c.text(), typeOID: c.uint32(), modifier: int32(c.uint32()),
		})
	}
	return m, c.end(kindRelation)
}

// parseType reads the name of a type that is not the server's own.
func parseType(data []byte) (oid uint32, name string, err error) {
	c := cursor{data: data}
	oid = c.uint32()
	name = c.text() + "." + c.text()
	return oid, name, c.end(kindType)
}

// logicalMessage is what somebody wrote into the log with pg_logical_emit_message.
type logicalMessage struct {
	transactional bool
	prefix        string
	content       []byte
}

func parseMessage(data []byte) (logicalMessage, error) {
	c := cursor{data: data}
	m := logicalMessage{transactional: c.byte()&1 != 0}
	c.uint64() // where it is in the log
	m.prefix = c.text()
	m.content = c.next(int(c.uint32()))
	return m, c.end(kindMessage)
}
