package api

import (
	"crypto/rand"
	"crypto/sha256"
	"net/http"
	"strings"
	"sync"
	"time"

	"fencerow/api/shape"
	"fencerow/changefeed"
)

// How long a browser stays logged in, and how many do.
const (
	sessionLife = 12 * time.Hour
	sessionsMax = 1024
	cookieName  = "cdc_session"
)

// sessions are the browsers that gave a token once. They hold a cookie that scripts can't read and other sites' pages
// can't send; what it stands for is known to this node alone, and gone with the process.
type sessions struct {
	mu   sync.Mutex
	open map[[sha256.Size]byte]login // by the sum of the cookie
}

// login remembers the token's sum, not its role: a token that is taken out of the file ends what it began.
type login struct {
	token   [sha256.Size]byte
	expires time.Time
}

// begin returns the cookie of a new session. Above sessionsMax the one that would end first ends.
func (s *sessions) begin(token string, now time.Time) *http.Cookie {
	secret := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[[sha256.Size]byte]login)
	}
	s.expire(now)
	s.open[sha256.Sum256([]byte(secret))] = login{token: sha256.Sum256([]byte(token)), expires: now.Add(sessionLife)}
	return sessionCookie(secret, int(sessionLife/time.Second))
}

// expire makes room. It is called with the lock held.
func (s *sessions) expire(now time.Time) {
	var first [sha256.Size]byte
	for id, one := range s.open {
		if !one.expires.After(now) {
			delete(s.open, id)
		} else if at, ok := s.open[first]; !ok || one.expires.Before(at.expires) {
			first = id
		}
	}
	if len(s.open) >= sessionsMax {
		delete(s.open, first)
	}
}

func (s *sessions) end(r *http.Request) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return // there is none
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.open, sha256.Sum256([]byte(cookie.Value)))
}

// token returns the sum of the token that the request's session was begun with.
func (s *sessions) token(r *http.Request, now time.Time) (sum [sha256.Size]byte, ok bool) {
	cookie, err := r.Cookie(cookieName)
	if err != nil {
		return sum, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	one, ok := s.open[sha256.Sum256([]byte(cookie.Value))]
	return one.token, ok && one.expires.After(now)
}

func sessionCookie(value string, seconds int) *http.Cookie {
	return &http.Cookie{
		Name: cookieName, Value: value, Path: "/", MaxAge: seconds, HttpOnly: true, SameSite: http.SameSiteStrictMode,
	}
}

// role returns what the caller may do, by a token or by a session; 0 is nothing.
func (s *Server) role(r *http.Request) Role {
	authorization := r.Header.Get("Authorization")
	role := s.config.Tokens.Role(authorization)
	if text, found := strings.CutPrefix(authorization, forwardScheme+" "); found {
		role = max(role, s.config.Tokens.ofForwarded(text, s.now()))
	}
	if sum, ok := s.sessions.token(r, s.now()); ok {
		role = max(role, s.config.Tokens.roleOf(sum))
	}
	return role
}

// session tells the caller what he may do. A stranger may ask too, and learns that he may do nothing.
func (s *Server) session(r *http.Request) (reply, error) {
	role := s.role(r)
	if role == 0 {
		return reply{status: http.StatusOK, body: shape.Session{}}, nil
	}
	return reply{status: http.StatusOK, body: shape.Session{Role: role.String(), Open: s.config.Tokens.Open()}}, nil
}

func (s *Server) logIn(r *http.Request) (reply, error) {
	var given shape.Login
	if err := decode(r, &given); err != nil {
		return reply{}, err
	}
	role := s.config.Tokens.roleOf(sha256.Sum256([]byte(given.Token)))
	if role == 0 {
		return reply{}, &changefeed.Fault{
			Code: changefeed.CodeAuthRequired, Field: "token", Value: "xxxxx", Detail: "is not known to this node",
			Cure: "give a token of the file that --http-token-file names",
		}
	}
	s.sessions.end(r) // of whoever was logged in here before
	cookie := s.sessions.begin(given.Token, s.now())
	cookie.Secure = r.TLS != nil
	return reply{status: http.StatusOK, cookie: cookie, body: shape.Session{Role: role.String()}}, nil
}

func (s *Server) logOut(r *http.Request) (reply, error) {
	s.sessions.end(r)
	return reply{status: http.StatusNoContent, cookie: sessionCookie("", -1)}, nil
}
