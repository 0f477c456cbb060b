package coordinator

import (
	"errors"

	"fencerow/changefeed"
)

// Bounds of the core.
const (
	// BumpsInFlightMax bounds the takeovers that are under way: when many leases expire at once they are paced, so that
	// status writes of healthy owners get through. It is 8 transactions of 32.
	BumpsInFlightMax = 256
	// troubledInFlightMax bounds them while writes fail, so that a store that is out of space isn't hammered.
	troubledInFlightMax = 8
	// choresInFlightMax bounds handoffs and removals that are under way.
	choresInFlightMax = 64
	// trimsInFlightMax bounds trims of histories: they are never urgent.
	trimsInFlightMax = 4
	// trimEvery is after how many bumps of a changefeed its history is trimmed: 64 and these are what it can hold.
	trimEvery = 16
	// avoidedMax bounds the nodes that are remembered for having failed one changefeed.
	avoidedMax = 16
	// refusedMax is how many stale answers in a row, in about ten seconds and without news of spec or epoch, are put down to
	// a watch that lags.
	refusedMax = 10
)

// Delays of the core.
const (
	staleBackoffMin  = 20e6  // 20 ms: the watch that lags is usually there by then
	staleBackoffMax  = 5e9   // 5 s
	failedBackoffMin = 200e6 // 200 ms
	failedBackoffMax = 10e9  // 10 s: how long after healing a bump may still wait
	ownerRetryMin    = 1e9   // 1 s: no owner is replaced more often because it fails
	ownerRetryMax    = 600e9 // 10 min: the longest backoff that a status can ask for
	ownerRetryUnsaid = 10e9  // 10 s: for a status that says no next try
	recheckAfter     = 1e9   // 1 s: what is due and can't be done yet, for want of a node or of a write that succeeds
)

// Defaults in terms of the session's TTL, and of how often an unchanged status is stored.
const (
	statusHeartbeat    = 10e9
	silenceFactor      = 3
	handoffFactor      = 2
	watchAgeDefault    = 5e9
	sessionTTLSmallest = 1e9
)

// Config is what a core is made with.
type Config struct {
	// Term is the create revision of the election key. A core lives for one term.
	Term int64
	// SessionTTL is that of the nodes.
	SessionTTL changefeed.Duration
	// SilenceLimit is how long an owner may write no status before it is replaced; 0 is 3 × max(SessionTTL, 10 s).
	SilenceLimit changefeed.Duration
	// HandoffLimit is how long an owner that was asked to release may take; 0 is 2 × SessionTTL.
	HandoffLimit changefeed.Duration
	// WatchAgeMax is how old what was watched may be for decisions to be made on it; 0 is 5 s.
	WatchAgeMax changefeed.Duration
	// Nonce returns a new random word for each decision.
	Nonce func() string
}

func (c Config) withDefaults() Config {
	if c.SilenceLimit == 0 {
		c.SilenceLimit = silenceFactor * max(c.SessionTTL, statusHeartbeat)
	}
	if c.HandoffLimit == 0 {
		c.HandoffLimit = handoffFactor * c.SessionTTL
	}
	if c.WatchAgeMax == 0 {
		c.WatchAgeMax = watchAgeDefault
	}
	return c
}

func (c Config) validate() error {
	var faults []error
	if c.Term <= 0 {
		faults = append(faults, errors.New("coordinator: a term is a positive revision"))
	}
	if c.SessionTTL < sessionTTLSmallest {
		faults = append(faults, errors.New("coordinator: the session TTL is below 1 s"))
	}
	if c.SilenceLimit < 0 || c.HandoffLimit < 0 || c.WatchAgeMax < 0 {
		faults = append(faults, errors.New("coordinator: a limit is negative"))
	}
	if c.Nonce == nil {
		faults = append(faults, errors.New("coordinator: no source of nonces"))
	}
	return errors.Join(faults...)
}
