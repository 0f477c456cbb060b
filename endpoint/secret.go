package endpoint

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"fencerow/changefeed"
)

// Redacted is what stands where a secret was.
const Redacted = "xxxxx"

// SecretBytesMax bounds a secret that is read from a file: passwords are short, and the path may name anything.
const SecretBytesMax = 64 << 10

type secretKind uint8

const (
	secretNone secretKind = iota
	secretLiteral
	secretEnv
	secretFile
)

// Secret is a password or where it comes from. The zero value is no password. No way of printing it shows a literal.
type Secret struct {
	kind secretKind
	text string // the literal, the variable or the path
}

var envName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)

// IsZero reports whether there is no password.
func (s Secret) IsZero() bool { return s.kind == secretNone }

// Literal reports whether the secret itself is held, not where it is.
func (s Secret) Literal() bool { return s.kind == secretLiteral }

// String returns the reference, or xxxxx for a literal.
func (s Secret) String() string {
	switch s.kind {
	case secretEnv:
		return "${env:" + s.text + "}"
	case secretFile:
		return "${file:" + s.text + "}"
	case secretLiteral:
		return Redacted
	default:
		return ""
	}
}

// GoString is String, so that no format verb shows a literal.
func (s Secret) GoString() string { return s.String() }

// MarshalText is String, so that no encoder shows a literal.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

func (s Secret) record() string {
	if s.kind == secretLiteral {
		return escape(s.text, "")
	}
	return s.String()
}

// Resolve returns the password as this node has it. What is missing here can be put right here, so the faults are not
// permanent.
func (s Secret) Resolve() (string, error) {
	switch s.kind {
	case secretLiteral:
		return s.text, nil
	case secretEnv:
		value, found := os.LookupEnv(s.text)
		if !found || value == "" {
			return "", s.fault("is not set on this node", "set the environment variable "+s.text+" of this node, and restart it", nil)
		}
		return value, nil
	case secretFile:
		return s.readFile()
	default:
		return "", nil
	}
}

func (s Secret) readFile() (string, error) {
	cure := "put the password into " + s.text + " on this node, readable by it"
	data, err := readBounded(s.text, SecretBytesMax)
	if err != nil {
		return "", s.fault("can't be read on this node", cure, err)
	}
	data = bytes.TrimSuffix(bytes.TrimSuffix(data, []byte("\n")), []byte("\r"))
	if len(data) == 0 {
		return "", s.fault("is empty on this node", cure, nil)
	}
	return string(data), nil
}

func (s Secret) fault(detail, cure string, err error) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "password", Value: s.String(), Detail: detail, Cure: cure, Err: err,
	}
}

// errTooLarge is wrapped with the figure.
var errTooLarge = errors.New("file is too large")

// readBounded reads a regular file of at most limit bytes. It never waits on a pipe or a device.
func readBounded(path string, limit int64) (data []byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, fmt.Errorf("%s is not a regular file", path)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	data, err = io.ReadAll(io.LimitReader(file, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("%w: more than %d bytes", errTooLarge, limit)
	}
	return data, nil
}

// parseReference reads the inside of ${…}.
func parseReference(inside string) (Secret, error) {
	kind, name, _ := strings.Cut(inside, ":")
	switch {
	case kind == "env" && envName.MatchString(name):
		return Secret{kind: secretEnv, text: name}, nil
	case kind == "file" && filepath.IsAbs(name):
		return Secret{kind: secretFile, text: name}, nil
	case kind == "env":
		return Secret{}, errors.New("has a reference to a variable whose name is not made of letters, digits and _")
	case kind == "file":
		return Secret{}, errors.New("has a reference to a file whose path is not absolute")
	}
	return Secret{}, errors.New("has a reference that is neither ${env:NAME} nor ${file:PATH}")
}

// secretParams are query parameters that drivers take passwords from. They are refused: one place for secrets.
func secretParam(name string) bool {
	switch strings.ToLower(name) {
	case "password", "sslpassword", "passfile", "passwd", "pwd", "token", "secret":
		return true
	}
	return false
}

var (
	referencePattern   = regexp.MustCompile(`\$\{[^{}]*\}`)
	secretParamPattern = regexp.MustCompile(`(?i)([?&](?:password|sslpassword|passfile|passwd|pwd|token|secret)=)[^&#]*`)
)

// Redact returns the text of a URI, valid or not, without a literal password. It works on the text alone and rather
// takes away too much: a valid URI has no @ after its authority, so all between the first colon of the authority and
// the last @ is taken for a password.
func Redact(text string) string {
	head, rest, found := strings.Cut(text, "://")
	if !found {
		head, rest = "", text
	} else {
		head += "://"
	}
	// References may hold any character; they are set aside, so that they are neither hidden nor mistaken.
	var references []string
	rest = strings.ReplaceAll(rest, "\x00", "")
	rest = referencePattern.ReplaceAllStringFunc(rest, func(reference string) string {
		references = append(references, reference)
		return "\x00"
	})
	used := 0
	restore := func(part string) string {
		for strings.Contains(part, "\x00") {
			part = strings.Replace(part, "\x00", references[used], 1)
			used++
		}
		return part
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, password, hasPassword := strings.Cut(rest[:at], ":")
		rest = rest[at:]
		head += restore(user)
		if hasPassword && password == "\x00" {
			head += ":" + restore(password)
		} else if hasPassword {
			used += strings.Count(password, "\x00")
			head += ":" + Redacted
		}
	}
	return secretParamPattern.ReplaceAllString(head+restore(rest), "${1}"+Redacted)
}
