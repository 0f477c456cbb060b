package changefeed

import (
	"cmp"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// DefaultNamespace is the namespace of a name that is written without one.
const DefaultNamespace = "default"

// NameBytesMax bounds a name and a namespace, so that record keys stay short.
const NameBytesMax = 128

// UID names one creation of a changefeed: a re-created name is another UID. The zero value names nothing.
type UID string

// NodeID names one life of one process: it is new at every start and after every lost session. The zero value names
// nobody.
type NodeID string

// ID is a changefeed's name, unique in the cluster at any one time.
type ID struct {
	Namespace string
	Name      string
}

// ParseID reads `name` or `namespace/name`; namespace is used where none is written.
func ParseID(text, namespace string) (ID, error) {
	id := ID{Namespace: namespace, Name: text}
	if before, after, found := strings.Cut(text, "/"); found {
		id = ID{Namespace: before, Name: after}
	}
	if id.Namespace == "" && !strings.Contains(text, "/") {
		id.Namespace = DefaultNamespace
	}
	return id, id.Validate()
}

// Validate reports what is wrong with the name or the namespace, as a [*Fault] with code request.invalid.
func (id ID) Validate() error {
	if err := validateWord("namespace", id.Namespace); err != nil {
		return err
	}
	return validateWord("name", id.Name)
}

func validateWord(field, word string) error {
	refuse := func(detail, cure string) error {
		return &Fault{Code: CodeRequestInvalid, Field: field, Value: fmt.Sprintf("%.140q", word), Detail: detail, Cure: cure}
	}
	switch {
	case word == "":
		return refuse("is empty", "give a name such as orders, or namespace/orders")
	case len(word) > NameBytesMax:
		return refuse(fmt.Sprintf("has %d bytes, more than %d", len(word), NameBytesMax), "shorten it")
	case strings.Contains(word, "/"):
		return refuse("has a / too many", "write name or namespace/name")
	case !utf8.ValidString(word):
		return refuse("is not valid UTF-8", "use letters, digits, - and _")
	case strings.ContainsFunc(word, func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }):
		return refuse("has control characters or spaces", "use letters, digits, - and _")
	case word == "." || word == "..":
		return refuse("is not a name", "use letters, digits, - and _")
	}
	return nil
}

// String returns namespace/name.
func (id ID) String() string { return id.Namespace + "/" + id.Name }

// Compare orders IDs by namespace, then name, for places where an order must not depend on a map.
func (id ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(id.Namespace, other.Namespace), cmp.Compare(id.Name, other.Name))
}

// Time is a moment on a clock that only its owner reads: nanoseconds since an arbitrary start, monotonic. Cores take
// it as a value; it is never compared between processes.
type Time int64

// Duration is a span of such a clock. Cores use this name, so that they need not import a clock.
type Duration = time.Duration

// Units of spans.
const (
	Millisecond = time.Millisecond
	Second      = time.Second
)

// Add returns the moment d later.
func (t Time) Add(d Duration) Time { return t + Time(d) }

// Sub returns the duration from earlier to t.
func (t Time) Sub(earlier Time) Duration { return Duration(t - earlier) }
