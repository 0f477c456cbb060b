package epochstore

import (
	"reflect"
	"time"

	"fencerow/changefeed"
	"fencerow/record"
)

// StatusRepeat is how often an unchanged status is stored, as a sign of life.
const StatusRepeat = 10 * time.Second

// Pacer decides when a changefeed's status is stored: when it changed, at most once per interval; at once when its
// state changed; and every StatusRepeat when nothing did, so that the store doesn't fill with history. It is pure; the
// zero value with an Interval is ready.
type Pacer struct {
	Interval changefeed.Duration

	stored record.Status
	at     changefeed.Time
	any    bool
}

// Due reports whether the status is to be stored now.
func (p *Pacer) Due(now changefeed.Time, status record.Status) bool {
	return !p.NextDue(status).after(now)
}

// NextDue returns when the status is to be stored, if it stays as it is.
func (p *Pacer) NextDue(status record.Status) Due {
	if !p.any || status.State != p.stored.State || status.Epoch.Compare(p.stored.Epoch) != 0 {
		return Due{Now: true}
	}
	if sameStatus(status, p.stored) {
		return Due{At: p.at.Add(max(StatusRepeat, p.Interval))}
	}
	return Due{At: p.at.Add(p.Interval)}
}

// Due is now, or at a moment.
type Due struct {
	Now bool
	At  changefeed.Time
}

func (d Due) after(now changefeed.Time) bool { return !d.Now && d.At > now }

// Stored takes in that the status was stored.
func (p *Pacer) Stored(now changefeed.Time, status record.Status) {
	p.stored, p.at, p.any = status, now, true
}

// sameStatus reports whether two statuses differ in nothing but their time.
func sameStatus(a, b record.Status) bool {
	a.At, b.At = time.Time{}, time.Time{}
	return reflect.DeepEqual(a, b)
}
