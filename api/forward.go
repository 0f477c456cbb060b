package api

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"net/http"
	"time"

	"fencerow/changefeed"
)

// A node asks others with the authority of who asked it. A browser's session is known to one node alone, and the token
// that it was begun with is not kept; so the node signs with the token's sum, which every node with the same tokens has.

// forwardScheme is the scheme of an Authorization header that a node made.
const forwardScheme = "Cdc-Forwarded"

// forwardLife is how long such a header counts: for one request, and for clocks that are apart.
const forwardLife = time.Minute

// forwardHead is the end of a signature's life, before the signature.
const forwardHead = 8

// authority returns the Authorization header with which another node is asked for the caller.
func (s *Server) authority(r *http.Request) string {
	if given := r.Header.Get("Authorization"); given != "" {
		return given
	}
	sum, ok := s.sessions.token(r, s.now())
	if !ok {
		return ""
	}
	value := binary.BigEndian.AppendUint64(nil, uint64(s.now().Add(forwardLife).Unix()))
	return forwardScheme + " " + base64.RawURLEncoding.EncodeToString(append(value, forwardMAC(sum, value)...))
}

func forwardMAC(sum [sha256.Size]byte, value []byte) []byte {
	mac := hmac.New(sha256.New, sum[:])
	mac.Write([]byte("fencerow forwarded\x00"))
	mac.Write(value)
	return mac.Sum(nil)
}

// ofForwarded returns what a header that a node signed allows; 0 is nothing.
func (t Tokens) ofForwarded(text string, now time.Time) Role {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil || len(raw) != forwardHead+sha256.Size {
		return 0
	}
	left := time.Unix(int64(binary.BigEndian.Uint64(raw)), 0).Sub(now)
	if left <= 0 || left > 2*forwardLife {
		return 0
	}
	var role Role
	for i := range t.set { // all of them, so that the time tells nothing
		if hmac.Equal(forwardMAC(t.set[i].sum, raw[:forwardHead]), raw[forwardHead:]) {
			role = max(role, t.set[i].role)
		}
	}
	return role
}

// checkOrigin refuses a change by cookie that no page of this node asks for. A browser says where a request comes from;
// what doesn't is no browser, and has no business with a cookie.
func (s *Server) checkOrigin(r *http.Request) error {
	if r.Method == http.MethodGet || r.Header.Get("Authorization") != "" {
		return nil
	}
	if _, err := r.Cookie(cookieName); err != nil {
		return nil //nolint:nilerr // without a cookie there is nothing to misuse
	}
	if r.Header.Get("Origin") != "" || r.Header.Get("Sec-Fetch-Site") == "same-origin" { // checkHost has compared it
		return nil
	}
	return &changefeed.Fault{
		Code: changefeed.CodeAuthForbidden, Field: "Origin", Value: fmt.Sprintf("%q", ""), Detail: "is missing in a change by cookie",
		Cure: "use the console of this node, or send the token as a bearer token",
	}
}
