// Package endpoint holds the URIs of sources and sinks: how they are read, which parts of them are secret, and when a
// source and a sink would feed each other. It opens no connection: a URI says where something is, and each kind of
// source and sink connects for itself.
//
// A password is written as a reference, ${env:NAME} or ${file:PATH}, that each node resolves for itself at the moment it
// connects. A literal password is only read where the policy allows it, and no String of this package shows it.
package endpoint

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"

	"fencerow/changefeed"
)

// Scheme is the kind of a source or sink. The zero value names none.
type Scheme string

// The schemes.
const (
	Etcd      Scheme = "etcd"
	Postgres  Scheme = "postgres"
	MySQL     Scheme = "mysql"
	File      Scheme = "file"
	Stdout    Scheme = "stdout"
	Blackhole Scheme = "blackhole"
)

// Schemes returns all schemes that have a form, in the order in which people are shown them.
func Schemes() []Scheme { return []Scheme{Etcd, Postgres, MySQL, File, Stdout, Blackhole} }

// ParamPrefix is the query parameter that gives an etcd prefix without a leading slash.
const ParamPrefix = "prefix"

// TextBytesMax bounds the text of a URI: it is kept in a record, and records are small.
const TextBytesMax = 8 << 10

// URI is a parsed source or sink. The zero value names nothing.
type URI struct {
	Scheme   Scheme
	Hosts    []string // host:port, as written but lower case and with the default port
	User     string
	Password Secret
	// Path is percent-decoded. etcd: the prefix that all keys begin with, with its leading slash unless it was given
	// as ?prefix=. postgres and mysql: the database without the slash. file: the clean, absolute directory.
	Path   []byte
	Params map[string]string // without ParamPrefix
}

// String returns the URI for people: a literal password reads xxxxx, a reference is shown as it was written.
func (u URI) String() string { return u.text(u.Password.String()) }

// GoString is String, so that no format verb shows a secret.
func (u URI) GoString() string { return u.String() }

// Record returns the form that is stored: it parses back to the same URI, and has the literal password, if the policy
// let one in. It is for records alone; whatever shows a record uses [Redact].
func (u URI) Record() string { return u.text(u.Password.record()) }

// Span returns the keys that an etcd URI names.
func (u URI) Span() changefeed.Span { return PrefixSpan(u.Path) }

// KeySpace returns the keys that a source holds: those that an etcd URI names, and every table of a database.
func KeySpace(source URI) changefeed.Span {
	if source.Scheme == Etcd {
		return source.Span()
	}
	return changefeed.Whole()
}

// Equal reports whether two URIs have the same canonical form.
func (u URI) Equal(other URI) bool { return u.Record() == other.Record() }

// Target returns what of a sink is fixed for a changefeed: everything but hosts, user, password and parameters.
func (u URI) Target() string { return fmt.Sprintf("%s:%q", u.Scheme, u.Path) }

func (u URI) text(password string) string {
	var b strings.Builder
	b.WriteString(string(u.Scheme))
	b.WriteByte(':')
	switch u.Scheme {
	case Stdout, Blackhole:
	default:
		b.WriteString("//")
	}
	if u.User != "" || !u.Password.IsZero() {
		b.WriteString(escape(u.User, ""))
		if !u.Password.IsZero() {
			b.WriteString(":" + password)
		}
		b.WriteByte('@')
	}
	b.WriteString(strings.Join(u.Hosts, ","))
	params := make([]string, 0, len(u.Params)+1)
	switch {
	case u.Scheme == Etcd && (len(u.Path) == 0 || u.Path[0] != '/'):
		b.WriteByte('/')
		params = append(params, ParamPrefix+"="+escape(string(u.Path), "/"))
	case u.Scheme == Postgres, u.Scheme == MySQL:
		b.WriteString("/" + escape(string(u.Path), ""))
	default:
		b.WriteString(escape(string(u.Path), "/"))
	}
	for _, name := range slices.Sorted(maps.Keys(u.Params)) {
		params = append(params, url.QueryEscape(name)+"="+escape(u.Params[name], "/:"))
	}
	if len(params) > 0 {
		b.WriteString("?" + strings.Join(params, "&"))
	}
	return b.String()
}

// escape percent-encodes all but letters, digits, -._~ and the bytes of keep.
func escape(text, keep string) string {
	const hex = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(text) {
		c := text[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9',
			strings.IndexByte("-._~", c) >= 0, strings.IndexByte(keep, c) >= 0:
			b.WriteByte(c)
		default:
			b.WriteString("%" + string(hex[c>>4]) + string(hex[c&15]))
		}
	}
	return b.String()
}
