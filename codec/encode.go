package codec

import (
	"bytes"
	"encoding/base64"
	"math"
	"strconv"
	"time"
	"unicode/utf8"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
)

// Keyed is implemented by rows whose key has columns of its own, as tables have. The key of any other change is
// {"key": …} with the change's key bytes.
type Keyed interface {
	// KeyColumns yields name and value of the key's columns until yield returns false.
	KeyColumns(yield func(name string, value any) bool)
}

// Encoder appends the lines of one writer: one changefeed uid, one token. It is stateless after construction and may be
// shared.
type Encoder struct {
	prefix []byte // {"changefeed":…,"uid":…,"epoch":…,"seq":… without the comma that follows
}

// NewEncoder returns an encoder that stamps each line with whose it is and under which token it was written.
func NewEncoder(id changefeed.ID, uid changefeed.UID, token fence.Token) *Encoder {
	prefix := append([]byte(nil), `{"changefeed":`...)
	prefix = appendText(prefix, id.String())
	prefix = append(prefix, `,"uid":`...)
	prefix = appendText(prefix, string(uid))
	prefix = append(prefix, `,"epoch":`...)
	prefix = strconv.AppendUint(prefix, uint64(token.Epoch()), 10)
	prefix = append(prefix, `,"seq":`...)
	prefix = strconv.AppendUint(prefix, uint64(token.Seq()), 10)
	return &Encoder{prefix: prefix}
}

// AppendChange appends the change as one JSON object, without a line end.
func (e *Encoder) AppendChange(dst []byte, c *change.Change) []byte {
	dst = append(dst, e.prefix...)
	dst = append(dst, `,"position":"`...)
	dst = strconv.AppendUint(dst, uint64(c.Position), 10)
	dst = append(dst, `","index":`...)
	dst = strconv.AppendUint(dst, uint64(c.Index), 10)
	dst = append(dst, `,"op":"`...)
	dst = append(dst, c.Op.String()...)
	dst = append(dst, '"')
	if !c.CommitTime.IsZero() {
		dst = append(dst, `,"commit_time":"`...)
		dst = c.CommitTime.UTC().AppendFormat(dst, time.RFC3339Nano)
		dst = append(dst, '"')
	}
	if c.Table != "" {
		dst = append(dst, `,"table":`...)
		dst = appendText(dst, c.Table)
	}
	dst = appendKey(dst, c)
	if c.Before != nil {
		dst = append(dst, `,"before":`...)
		dst = appendRow(dst, c.Before)
	}
	if c.After != nil {
		dst = append(dst, `,"after":`...)
		dst = appendRow(dst, c.After)
	}
	return append(dst, '}')
}

// AppendResolved appends the line that says that a reader has seen everything of the span at or below the position.
func (e *Encoder) AppendResolved(dst []byte, span changefeed.Span, position change.Position) []byte {
	dst = append(dst, e.prefix...)
	dst = append(dst, `,"span":{"start":`...)
	dst = appendBytes(dst, span.Start)
	dst = append(dst, `,"end":`...)
	dst = appendBytes(dst, span.End)
	dst = append(dst, `},"resolved":"`...)
	dst = strconv.AppendUint(dst, uint64(position), 10)
	return append(dst, `"}`...)
}

// appendKey appends the key. That of a table is its columns, of which a table without identity and a truncate have none;
// where the place in the key space does not follow from them, it is there too.
func appendKey(dst []byte, c *change.Change) []byte {
	columns, found := keyColumns(c)
	if !found && c.Table == "" {
		dst = append(dst, `,"key":{"key":`...)
		dst = appendBytes(dst, c.Key)
		return append(dst, '}')
	}
	dst = append(dst, `,"key":`...)
	dst = appendColumns(dst, columns)
	end := len(dst)
	scratch, follows := change.AppendKeyOf(dst, c.Table, columns)
	dst = scratch[:end]
	if follows && bytes.Equal(scratch[end:], c.Key) {
		return dst
	}
	dst = append(dst, `,"place":`...)
	return appendBytes(dst, c.Key)
}

// keyColumns returns what yields the columns of the key, if a row has them.
func keyColumns(c *change.Change) (columns func(yield func(name string, value any) bool), found bool) {
	for _, row := range []change.Row{c.After, c.Before} {
		if keyed, ok := row.(Keyed); ok {
			return keyed.KeyColumns, true
		}
	}
	return func(func(string, any) bool) {}, false
}

func appendRow(dst []byte, row change.Row) []byte {
	kv, ok := row.(*change.KV)
	if !ok {
		return appendColumns(dst, row.Columns)
	}
	// The common row, spelled out: going through Columns would allocate for each value.
	dst = append(dst, `{"key":`...)
	dst = appendBytes(dst, kv.Key)
	dst = append(dst, `,"value":`...)
	dst = appendBytes(dst, kv.Value)
	dst = append(dst, `,"create_revision":"`...)
	dst = strconv.AppendInt(dst, kv.CreateRevision, 10)
	dst = append(dst, `","mod_revision":"`...)
	dst = strconv.AppendInt(dst, kv.ModRevision, 10)
	dst = append(dst, `","version":`...)
	dst = strconv.AppendInt(dst, kv.Version, 10)
	dst = append(dst, `,"lease":"`...)
	dst = strconv.AppendInt(dst, kv.Lease, 10)
	return append(dst, `"}`...)
}

func appendColumns(dst []byte, columns func(yield func(name string, value any) bool)) []byte {
	dst = append(dst, '{')
	first := true
	columns(func(name string, value any) bool {
		if !first {
			dst = append(dst, ',')
		}
		first = false
		dst = appendText(dst, name)
		dst = append(dst, ':')
		dst = appendValue(dst, value)
		return true
	})
	return append(dst, '}')
}

// appendValue appends one value of a row. JSON has no number for NaN and the infinities: they are strings.
func appendValue(dst []byte, value any) []byte {
	switch v := value.(type) {
	case nil:
		return append(dst, "null"...)
	case []byte:
		if v == nil {
			return append(dst, "null"...)
		}
		return appendBytes(dst, v)
	case string:
		if !utf8.ValidString(v) {
			return appendBase64(dst, []byte(v))
		}
		return appendText(dst, v)
	case int64:
		return strconv.AppendInt(dst, v, 10)
	case uint64:
		return strconv.AppendUint(dst, v, 10)
	case float64:
		switch {
		case math.IsNaN(v):
			return append(dst, `"NaN"`...)
		case math.IsInf(v, 1):
			return append(dst, `"Infinity"`...)
		case math.IsInf(v, -1):
			return append(dst, `"-Infinity"`...)
		}
		return strconv.AppendFloat(dst, v, 'g', -1, 64)
	case bool:
		return strconv.AppendBool(dst, v)
	default:
		return append(dst, "null"...) // change.Row names the types that a row may yield
	}
}

func appendBytes(dst, value []byte) []byte {
	if !utf8.Valid(value) {
		return appendBase64(dst, value)
	}
	return appendText(dst, value)
}

func appendBase64(dst, value []byte) []byte {
	dst = append(dst, `{"base64":"`...)
	dst = base64.StdEncoding.AppendEncode(dst, value)
	return append(dst, `"}`...)
}

const hexDigits = "0123456789abcdef"

// appendText appends a JSON string. text is valid UTF-8, or a name of ours in which invalid bytes become U+FFFD when
// they are read.
func appendText[T string | []byte](dst []byte, text T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := range len(text) {
		b := text[i]
		if b >= 0x20 && b != '"' && b != '\\' {
			continue
		}
		dst = append(dst, text[start:i]...)
		start = i + 1
		switch b {
		case '"', '\\':
			dst = append(dst, '\\', b)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hexDigits[b>>4], hexDigits[b&0xf])
		}
	}
	dst = append(dst, text[start:]...)
	return append(dst, '"')
}
