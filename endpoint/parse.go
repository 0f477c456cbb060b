package endpoint

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"path"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"fencerow/changefeed"
)

// Literals says whether a password may stand in a URI. The zero value refuses it.
type Literals uint8

// The policies.
const (
	RefuseLiterals Literals = iota
	AllowLiterals
)

// Policy is what a node lets in.
type Policy struct {
	// Field names what is parsed in faults: source or sink.
	Field string
	// Schemes are those that are taken; empty takes all.
	Schemes []Scheme
	// Literals says whether a password may be written out.
	Literals Literals
}

// Parse reads a URI. What it refuses is a [*changefeed.Fault] whose value is redacted.
func Parse(text string, policy Policy) (URI, error) {
	uri, problem := parse(text, policy)
	if problem == nil {
		return uri, nil
	}
	return URI{}, &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: policy.Field, Value: fmt.Sprintf("%.300q", Redact(text)),
		Detail: problem.detail, Cure: problem.cure, Permanent: true,
	}
}

// problem is what is wrong, and what to do about it. It never holds a part of the text: that may be secret.
type problem struct{ detail, cure string }

const (
	cureReference = "write the password as ${env:NAME} or ${file:/absolute/path}"
	cureEscape    = "percent-encode it"
)

// mark stands for a reference while the rest is parsed. Control characters are refused before, so it is unambiguous.
const mark = "\x00"

func parse(text string, policy Policy) (URI, *problem) {
	switch {
	case text == "":
		return URI{}, &problem{"is empty", "write " + forms(policy)}
	case len(text) > TextBytesMax:
		return URI{}, &problem{fmt.Sprintf("has %d bytes, more than %d", len(text), TextBytesMax), "shorten it"}
	case !utf8.ValidString(text):
		return URI{}, &problem{"is not valid UTF-8", cureEscape}
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r == 0x7f }):
		return URI{}, &problem{"has spaces or control characters", cureEscape}
	}
	text, secrets, bad := cutReferences(text)
	if bad != nil {
		return URI{}, bad
	}
	scheme, rest, found := strings.Cut(text, ":")
	uri := URI{Scheme: Scheme(strings.ToLower(scheme))}
	known := policy.Schemes
	if len(known) == 0 {
		known = Schemes()
	}
	if !found || !slices.Contains(known, uri.Scheme) {
		return URI{}, &problem{"has no scheme that is known here", "write " + forms(policy)}
	}
	if strings.Contains(rest, "#") {
		return URI{}, &problem{"has a fragment (#)", "write # as %23"}
	}
	rest, query, _ := strings.Cut(rest, "?")
	switch {
	case strings.Contains(query, mark):
		return URI{}, &problem{"has a reference outside the password", "put it after the user, as in user:${env:NAME}@host"}
	case strings.Contains(query, "@"):
		return URI{}, &problem{"has an @ among its parameters", "write @ as %40, and ? in a password as %3F"}
	}
	authority, rawPath, bad := cutAuthority(rest)
	if bad != nil {
		return URI{}, bad
	}
	for _, step := range []func() *problem{
		func() *problem { return uri.setAuthority(authority, secrets) },
		func() *problem { return uri.setParams(query) },
		func() *problem { return uri.setPath(rawPath) },
	} {
		if bad := step(); bad != nil {
			return URI{}, bad
		}
	}
	if uri.Password.Literal() && policy.Literals != AllowLiterals {
		return URI{}, &problem{"has a literal password", cureReference}
	}
	return uri, nil
}

// cutReferences replaces every ${…} by the mark, so that what is inside it can't be mistaken for a part of the URI.
func cutReferences(text string) (string, []Secret, *problem) {
	var secrets []Secret
	var failed error
	text = referencePattern.ReplaceAllStringFunc(text, func(reference string) string {
		secret, err := parseReference(reference[2 : len(reference)-1])
		failed = errors.Join(failed, err)
		secrets = append(secrets, secret)
		return mark
	})
	switch {
	case failed != nil:
		return "", nil, &problem{strings.ReplaceAll(failed.Error(), "\n", "; "), cureReference}
	case strings.Contains(text, "${"):
		return "", nil, &problem{"has a reference that doesn't end", cureReference}
	case len(secrets) > 1:
		return "", nil, &problem{"has more than one reference", "only the password can be a reference"}
	}
	return text, secrets, nil
}

// cutAuthority returns what stands between // and the path.
func cutAuthority(rest string) (authority, rawPath string, bad *problem) {
	rawPath = rest
	if after, found := strings.CutPrefix(rest, "//"); found {
		end := strings.IndexByte(after, '/')
		if end < 0 {
			end = len(after)
		}
		authority, rawPath = after[:end], after[end:]
	}
	switch {
	case strings.Contains(rawPath, mark):
		return "", "", &problem{"has a reference outside the password", "put it after the user, as in user:${env:NAME}@host"}
	case strings.Contains(rawPath, "@"):
		// Redact relies on this: a password that holds a slash never looks like a path.
		return "", "", &problem{"has an @ in its path", "write @ as %40, and / in a password as %2F"}
	}
	return authority, rawPath, nil
}

func (u *URI) setAuthority(authority string, secrets []Secret) *problem {
	hosts := authority
	if at := strings.LastIndexByte(authority, '@'); at >= 0 {
		hosts = authority[at+1:]
		if bad := u.setUser(authority[:at], secrets); bad != nil {
			return bad
		}
	}
	if strings.Contains(hosts, mark) {
		return &problem{"has a reference outside the password", "put it after the user, as in user:${env:NAME}@host"}
	}
	port := map[Scheme]string{Etcd: "2379", Postgres: "5432", MySQL: "3306"}[u.Scheme]
	if port == "" {
		if hosts != "" || u.User != "" || !u.Password.IsZero() {
			return &problem{"has a host or a user, which its kind doesn't take", "write " + form(u.Scheme)}
		}
		return nil
	}
	for host := range strings.SplitSeq(hosts, ",") {
		normal, err := normalHost(host, port)
		if err != nil {
			return &problem{err.Error(), "write " + form(u.Scheme)}
		}
		if slices.Contains(u.Hosts, normal) {
			return &problem{"names a host twice", "name each host once"}
		}
		u.Hosts = append(u.Hosts, normal)
	}
	if len(u.Hosts) > HostsMax {
		return &problem{fmt.Sprintf("names more than %d hosts", HostsMax), "name fewer hosts"}
	}
	return nil
}

// HostsMax bounds the hosts of a URI: clusters have few members.
const HostsMax = 16

func (u *URI) setUser(info string, secrets []Secret) *problem {
	user, password, found := strings.Cut(info, ":")
	if strings.Contains(user, mark) {
		return &problem{"has a reference outside the password", "put it after the user, as in user:${env:NAME}@host"}
	}
	decoded, err := url.PathUnescape(user)
	if err != nil || decoded == "" {
		return &problem{"has a user that is empty or not percent-encoded", "write user:${env:NAME}@host"}
	}
	u.User = decoded
	switch {
	case !found:
		return nil
	case password == mark:
		u.Password = secrets[0]
		return nil
	case strings.Contains(password, mark):
		return &problem{"has a password that is only in part a reference", cureReference}
	}
	decoded, err = url.PathUnescape(password)
	if err != nil || decoded == "" {
		return &problem{"has a password that is empty or not percent-encoded", cureReference}
	}
	u.Password = Secret{kind: secretLiteral, text: decoded}
	return nil
}

func normalHost(text, port string) (string, error) {
	host := text
	if colon := strings.LastIndexByte(text, ':'); colon >= 0 && !strings.HasSuffix(text, "]") {
		host, port = text[:colon], text[colon+1:]
	}
	if inner, found := strings.CutPrefix(host, "["); found {
		inner, found = strings.CutSuffix(inner, "]")
		if !found || net.ParseIP(inner) == nil {
			return "", errors.New("has a host in brackets that is not an IPv6 address")
		}
		host = inner
	} else if host == "" || strings.Trim(strings.ToLower(host), "abcdefghijklmnopqrstuvwxyz0123456789.-_") != "" {
		return "", errors.New("has a host that is empty or not a name or address")
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return "", errors.New("has a port that is not a number from 1 to 65535")
	}
	return net.JoinHostPort(strings.ToLower(host), port), nil
}

func (u *URI) setParams(query string) *problem {
	if query == "" {
		return nil
	}
	u.Params = map[string]string{}
	for pair := range strings.SplitSeq(query, "&") {
		rawName, rawValue, _ := strings.Cut(pair, "=")
		name, err := url.PathUnescape(rawName)
		value, errValue := url.PathUnescape(rawValue)
		_, twice := u.Params[name]
		switch {
		case err != nil || errValue != nil || name == "":
			return &problem{"has a parameter that is not name=value, percent-encoded", cureEscape}
		case twice:
			return &problem{"has a parameter twice", "give each parameter once"}
		case secretParam(name):
			return &problem{"has a secret among its parameters", "put it after the user, as in user:${env:NAME}@host"}
		}
		u.Params[name] = value
	}
	return nil
}

func (u *URI) setPath(raw string) *problem {
	decoded, err := url.PathUnescape(raw)
	if err != nil {
		return &problem{"has a path that is not percent-encoded", "write % as %25"}
	}
	switch u.Scheme {
	case Etcd:
		return u.setPrefix(decoded)
	case Postgres, MySQL:
		database := strings.TrimPrefix(decoded, "/")
		if database == "" || strings.ContainsAny(database, "/\x00") {
			return &problem{"doesn't name one database", "write " + form(u.Scheme)}
		}
		u.Path = []byte(database)
	case File:
		if !path.IsAbs(decoded) || strings.Contains(decoded, "\x00") {
			return &problem{"is not an absolute directory", "write " + form(u.Scheme)}
		}
		u.Path = []byte(path.Clean(decoded))
	default:
		if decoded != "" {
			return &problem{"has a path, which its kind doesn't take", "write " + form(u.Scheme)}
		}
	}
	return nil
}

func (u *URI) setPrefix(decoded string) *problem {
	prefix, found := u.Params[ParamPrefix]
	for name := range u.Params {
		if name != ParamPrefix {
			return &problem{"has a parameter that etcd URIs don't take", "only prefix=… is known; the rest are options, as --option name=value"}
		}
	}
	delete(u.Params, ParamPrefix)
	if len(u.Params) == 0 {
		u.Params = nil
	}
	switch {
	case found && strings.Trim(decoded, "/") != "":
		return &problem{"has a prefix both as its path and as a parameter", "give one of them"}
	case found:
		u.Path = []byte(prefix)
	case decoded == "":
		return &problem{"has no prefix", "write " + form(Etcd) + ", or a single / for every key under /"}
	default:
		u.Path = []byte(decoded)
	}
	if len(u.Path) > PrefixBytesMax {
		return &problem{fmt.Sprintf("has a prefix of more than %d bytes", PrefixBytesMax), "shorten it"}
	}
	return nil
}

// PrefixBytesMax bounds a prefix: it is part of every key and of every request.
const PrefixBytesMax = 1024

func form(scheme Scheme) string {
	switch scheme {
	case Etcd:
		return "etcd://[user:${env:NAME}@]host:2379[,host:2379]/prefix/"
	case Postgres, MySQL:
		return string(scheme) + "://user:${env:NAME}@host:port/database"
	case File:
		return "file:///absolute/directory"
	default:
		return string(scheme) + ":"
	}
}

func forms(policy Policy) string {
	known := policy.Schemes
	if len(known) == 0 {
		known = Schemes()
	}
	var all []string
	for _, scheme := range known {
		all = append(all, form(scheme))
	}
	return strings.Join(all, " or ")
}
