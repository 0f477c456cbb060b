package api

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"strings"

	"fencerow/changefeed"
)

// Role is what a caller may do. The zero value may do nothing.
type Role uint8

// String returns the role's word in token files.
func (r Role) String() string { return map[Role]string{RoleViewer: "viewer", RoleAdmin: "admin"}[r] }

// The roles. Each may do what those before it may.
const (
	RoleViewer Role = iota + 1
	RoleAdmin
)

// tokensMax bounds a token file: each request is compared with every token.
const tokensMax = 256

// Tokens are the bearer tokens that are accepted. The zero value accepts everybody as admin: who listens beyond
// loopback without tokens has said so.
type Tokens struct {
	set []token
}

type token struct {
	role Role
	sum  [sha256.Size]byte // of equal length, so that a comparison tells nothing of it
}

// ReadTokens reads a token file: `role:token` a line; empty lines and those that begin with # are skipped.
func ReadTokens(path string) (Tokens, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return Tokens{}, fmt.Errorf("api: token file: %w", err)
	}
	return ParseTokens(path, data)
}

// ParseTokens is ReadTokens of a file's content; name is for errors, which never show a token.
func ParseTokens(name string, data []byte) (Tokens, error) {
	var out Tokens
	lines := bufio.NewScanner(bytes.NewReader(data))
	for number := 1; lines.Scan(); number++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		word, secret, found := strings.Cut(line, ":")
		role := map[string]Role{"admin": RoleAdmin, "viewer": RoleViewer}[strings.TrimSpace(word)]
		secret = strings.TrimSpace(secret)
		if !found || role == 0 || secret == "" {
			return Tokens{}, fmt.Errorf("api: token file %s, line %d: write admin:token or viewer:token", name, number)
		}
		out.set = append(out.set, token{role: role, sum: sha256.Sum256([]byte(secret))})
	}
	if err := lines.Err(); err != nil {
		return Tokens{}, fmt.Errorf("api: token file %s: %w", name, err)
	}
	if len(out.set) == 0 || len(out.set) > tokensMax {
		return Tokens{}, fmt.Errorf("api: token file %s has %d tokens: give 1 to %d", name, len(out.set), tokensMax)
	}
	return out, nil
}

// Role returns what the bearer of an Authorization header may do; 0 is nothing.
func (t Tokens) Role(authorization string) Role {
	if len(t.set) == 0 {
		return RoleAdmin
	}
	scheme, secret, _ := strings.Cut(authorization, " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return 0
	}
	return t.roleOf(sha256.Sum256([]byte(strings.TrimSpace(secret))))
}

// Open says that there are no tokens, and everybody is admin.
func (t Tokens) Open() bool { return len(t.set) == 0 }

// roleOf returns what the bearer of the token of that sum may do; 0 is nothing.
func (t Tokens) roleOf(sum [sha256.Size]byte) Role {
	if t.Open() {
		return RoleAdmin
	}
	var role Role
	for _, known := range t.set { // all of them, so that the time tells nothing
		if subtle.ConstantTimeCompare(sum[:], known.sum[:]) == 1 {
			role = max(role, known.role)
		}
	}
	return role
}

// authorize refuses who may not do what needs the role.
func (s *Server) authorize(r *http.Request, needs Role) error {
	switch role := s.role(r); {
	case role >= needs:
		return s.checkOrigin(r)
	case role == 0:
		if r.Header.Get("Authorization") != "" {
			s.limits.guessed(r, s.now())
		}
		return tokenNeeded()
	default:
		return &changefeed.Fault{
			Code: changefeed.CodeAuthForbidden, Detail: "a viewer may not change anything",
			Cure: "use a token whose role is admin",
		}
	}
}

// checkHost refuses names that this server doesn't go by, so that a page in somebody's browser can't reach a node on
// loopback under a name of its own, and requests that a page of another origin makes.
func (s *Server) checkHost(r *http.Request) error {
	if !s.knowsHost(r.Host) {
		return &changefeed.Fault{
			Code: changefeed.CodeAuthForbidden, Field: "Host", Value: fmt.Sprintf("%.100q", r.Host),
			Detail: "is not a name of this node", Cure: "use its address or the name that it advertises, or give it --http-hosts",
		}
	}
	origin := r.Header.Get("Origin")
	if origin == "" {
		return nil
	}
	from, err := url.Parse(origin)
	if err != nil || !strings.EqualFold(from.Host, r.Host) {
		return &changefeed.Fault{
			Code: changefeed.CodeAuthForbidden, Field: "Origin", Value: fmt.Sprintf("%.100q", origin),
			Detail: "is another origin", Cure: "use the console of this node itself",
		}
	}
	return nil
}

// knowsHost accepts addresses, localhost, and the names that were configured. A name that points here without being
// known is how a rebinding attack looks.
func (s *Server) knowsHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.Trim(host, "[]")
	if net.ParseIP(host) != nil || strings.EqualFold(host, "localhost") {
		return true
	}
	for _, known := range s.config.Hosts {
		if h, _, err := net.SplitHostPort(known); err == nil {
			known = h
		}
		if strings.EqualFold(known, host) {
			return true
		}
	}
	return false
}

func tokenNeeded() error {
	return &changefeed.Fault{
		Code: changefeed.CodeAuthRequired, Detail: "a token is needed, and none that is known was sent",
		Cure: "give --token-file with a token that the node knows",
	}
}
