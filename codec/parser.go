package codec

import (
	"bytes"
	"fmt"
	"strconv"
	"unicode/utf16"
	"unicode/utf8"
)

// depthMax bounds how deep a value that is skipped may be nested, since skipping recurses.
const depthMax = 32

// parser reads JSON (RFC 8259) from a line, in order, without building what nobody asked for.
type parser struct {
	in []byte
	at int
}

func (p *parser) fault(what string) error { return fmt.Errorf("%s at byte %d", what, p.at) }

// peek returns the next byte, or 0 at the end, which no JSON token begins with.
func (p *parser) peek() byte {
	if p.at >= len(p.in) {
		return 0
	}
	return p.in[p.at]
}

func (p *parser) space() {
	for p.at < len(p.in) {
		switch p.in[p.at] {
		case ' ', '\t', '\n', '\r':
			p.at++
		default:
			return
		}
	}
}

func (p *parser) expect(c byte) error {
	p.space()
	if p.peek() != c {
		return p.fault(fmt.Sprintf("expected %q", c))
	}
	p.at++
	return nil
}

func (p *parser) word(word string) error {
	if !bytes.HasPrefix(p.in[p.at:], []byte(word)) {
		return p.fault("expected " + word)
	}
	p.at += len(word)
	return nil
}

// object reads an object and calls field with each name, to read its value.
func (p *parser) object(field func(name string) error) error {
	return p.list('{', '}', func() error {
		name, err := p.text()
		if err != nil {
			return err
		}
		if err := p.expect(':'); err != nil {
			return err
		}
		return field(name)
	})
}

// list reads what stands between brackets, separated by commas.
func (p *parser) list(open, end byte, element func() error) error {
	if err := p.expect(open); err != nil {
		return err
	}
	p.space()
	if p.peek() == end {
		p.at++
		return nil
	}
	for {
		if err := element(); err != nil {
			return err
		}
		p.space()
		switch p.peek() {
		case ',':
			p.at++
		case end:
			p.at++
			return nil
		default:
			return p.fault(fmt.Sprintf("expected ',' or %q", end))
		}
	}
}

// text reads a string.
func (p *parser) text() (string, error) {
	if err := p.expect('"'); err != nil {
		return "", err
	}
	start := p.at
	for p.at < len(p.in) && p.in[p.at] != '"' && p.in[p.at] != '\\' && p.in[p.at] >= 0x20 {
		p.at++
	}
	if p.peek() == '"' { // the common case: nothing is escaped
		raw := p.in[start:p.at]
		p.at++
		return checkedText(p, raw)
	}
	out := append([]byte(nil), p.in[start:p.at]...)
	for p.at < len(p.in) {
		c := p.in[p.at]
		p.at++
		switch {
		case c == '"':
			return checkedText(p, out)
		case c < 0x20:
			return "", p.fault("a control character in a string")
		case c == '\\':
			var err error
			if out, err = p.escape(out); err != nil {
				return "", err
			}
		default:
			out = append(out, c)
		}
	}
	return "", p.fault("the string does not end")
}

func checkedText(p *parser, raw []byte) (string, error) {
	if !utf8.Valid(raw) {
		return "", p.fault("the string is not valid UTF-8")
	}
	return string(raw), nil
}

// escape reads what follows a backslash.
func (p *parser) escape(out []byte) ([]byte, error) {
	c := p.peek()
	p.at++
	switch c {
	case '"', '\\', '/':
		return append(out, c), nil
	case 'b':
		return append(out, '\b'), nil
	case 'f':
		return append(out, '\f'), nil
	case 'n':
		return append(out, '\n'), nil
	case 'r':
		return append(out, '\r'), nil
	case 't':
		return append(out, '\t'), nil
	case 'u':
		return p.unicode(out)
	default:
		return nil, p.fault("an unknown escape")
	}
}

func (p *parser) unicode(out []byte) ([]byte, error) {
	first, err := p.hex4()
	if err != nil {
		return nil, err
	}
	if !utf16.IsSurrogate(first) {
		return utf8.AppendRune(out, first), nil
	}
	if !bytes.HasPrefix(p.in[p.at:], []byte(`\u`)) {
		return nil, p.fault("half a surrogate pair")
	}
	p.at += 2
	second, err := p.hex4()
	if err != nil {
		return nil, err
	}
	r := utf16.DecodeRune(first, second)
	if r == utf8.RuneError {
		return nil, p.fault("not a surrogate pair")
	}
	return utf8.AppendRune(out, r), nil
}

func (p *parser) hex4() (rune, error) {
	const digits = 4
	if len(p.in)-p.at < digits {
		return 0, p.fault("a cut escape")
	}
	value, err := strconv.ParseUint(string(p.in[p.at:p.at+digits]), 16, 16)
	if err != nil {
		return 0, p.fault("an escape that is not hexadecimal")
	}
	p.at += digits
	return rune(value), nil
}

// unsigned reads a whole number of at most that many bits.
func (p *parser) unsigned(bits int) (uint64, error) {
	text, err := p.numeral()
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, bits)
}

// numeral reads a number in JSON's grammar.
func (p *parser) numeral() (string, error) {
	p.space()
	start := p.at
	if p.peek() == '-' {
		p.at++
	}
	if p.peek() == '0' {
		p.at++
	} else if p.digits() == 0 {
		return "", p.fault("expected a value")
	}
	if p.peek() == '.' {
		p.at++
		if p.digits() == 0 {
			return "", p.fault("expected a digit")
		}
	}
	if c := p.peek(); c == 'e' || c == 'E' {
		p.at++
		if c := p.peek(); c == '+' || c == '-' {
			p.at++
		}
		if p.digits() == 0 {
			return "", p.fault("expected a digit")
		}
	}
	return string(p.in[start:p.at]), nil
}

func (p *parser) digits() int {
	start := p.at
	for p.at < len(p.in) && p.in[p.at] >= '0' && p.in[p.at] <= '9' {
		p.at++
	}
	return p.at - start
}

// skip passes over a value of any kind.
func (p *parser) skip(depth int) error {
	if depth > depthMax {
		return p.fault("nested too deeply")
	}
	p.space()
	switch p.peek() {
	case '{':
		return p.object(func(string) error { return p.skip(depth + 1) })
	case '[':
		return p.list('[', ']', func() error { return p.skip(depth + 1) })
	case '"':
		_, err := p.text()
		return err
	case 't':
		return p.word("true")
	case 'f':
		return p.word("false")
	case 'n':
		return p.word("null")
	default:
		_, err := p.numeral()
		return err
	}
}
