package api

import (
	"net"
	"net/http"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"fencerow/changefeed"
)

// Bounds of what one address may ask. A page, a script and a scraper together stay far below them.
const (
	requestsPerSecond = 2000
	requestsBurst     = 4000
	guessesPerSecond  = 5 // of tokens that are wrong
	guessesBurst      = 20
	addressesMax      = 4096 // that are told apart; those beyond share one limit
	inFlightMax       = 1024 // requests of all together
)

// limits bounds what strangers can cost. It is safe for concurrent use.
type limits struct {
	inFlight chan struct{}

	mu     sync.Mutex // guards known
	known  map[string]*limit
	others limit
}

type limit struct {
	requests *rate.Limiter
	guesses  *rate.Limiter
	seen     time.Time
}

func newLimit() limit {
	return limit{
		requests: rate.NewLimiter(requestsPerSecond, requestsBurst), guesses: rate.NewLimiter(guessesPerSecond, guessesBurst),
	}
}

func newLimits() *limits {
	return &limits{inFlight: make(chan struct{}, inFlightMax), known: make(map[string]*limit), others: newLimit()}
}

// idleMax is how long an address is remembered: a limit that was not used for so long is full again.
const idleMax = time.Minute

func (l *limits) of(r *http.Request, now time.Time) *limit {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		host = r.RemoteAddr
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	found := l.known[host]
	if found == nil {
		if len(l.known) >= addressesMax {
			l.forget(now)
		}
		if len(l.known) >= addressesMax {
			return &l.others
		}
		made := newLimit()
		found = &made
		l.known[host] = found
	}
	found.seen = now
	return found
}

func (l *limits) forget(now time.Time) {
	for host, one := range l.known {
		if now.Sub(one.seen) > idleMax {
			delete(l.known, host)
		}
	}
}

// enter admits a request, and returns what ends it.
func (l *limits) enter(r *http.Request, now time.Time) (leave func(), err error) {
	one := l.of(r, now)
	// Who guesses is not even listened to; a right token would be refused too, for as long.
	if !one.requests.AllowN(now, 1) || one.guesses.TokensAt(now) < 1 {
		return nil, tooMany("asks too often")
	}
	select {
	case l.inFlight <- struct{}{}:
		return func() { <-l.inFlight }, nil
	default:
		return nil, tooMany("asks while too many others do")
	}
}

// guessed counts a token that is not known.
func (l *limits) guessed(r *http.Request, now time.Time) { l.of(r, now).guesses.AllowN(now, 1) }

func tooMany(detail string) error {
	return refuse(http.StatusTooManyRequests, &changefeed.Fault{
		Code: changefeed.CodeLimitExceeded, Field: "client", Detail: detail, Cure: "wait a second, and try again",
	})
}
