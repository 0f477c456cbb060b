package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"time"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/record"
)

// Bounds of comparisons.
const (
	verifiesMax       = 2 // at once, on one node
	verifyRateDefault = 20_000
	verifyRateMax     = 10_000_000
	verifyLimitMax    = 10_000
	verifyLimit       = 100
	verifyTold        = 250 * time.Millisecond // how often progress is told
	verifyQuiet       = 5 * time.Second        // after which it is told again, so that a cut connection is noticed
)

// Comparing compares what a changefeed's target holds with its source.
type Comparing interface {
	// Verify reads both with the secrets of this node, and ends with ctx. reached returns the checkpoint.
	Verify(ctx context.Context, spec record.Spec, how VerifyHow) (shape.Verified, error)
}

// VerifyHow says how a comparison is made.
type VerifyHow struct {
	Rows  int // a second, of either side, at most
	Limit int // of differences that are named
	// Reached returns the stored checkpoint of the creation that is compared.
	Reached func(ctx context.Context) (Stored[record.Status], error)
	Tell    func(shape.VerifyProgress)
}

// verify compares, and tells as server-sent events how far it is and what differs: `progress`, `difference`, and at the end
// `report`, or `problem`. It ends when the caller leaves. It is for admins, since it reads all of both sides.
func (s *Server) verify(w http.ResponseWriter, r *http.Request) {
	leave, err := s.admit(r, RoleAdmin)
	if err != nil {
		writeProblem(w, err)
		return
	}
	leave() // it is counted apart: it lasts
	how, spec, err := s.verifyHow(r)
	if err != nil {
		writeProblem(w, err)
		return
	}
	select {
	case s.verifies <- struct{}{}:
		defer func() { <-s.verifies }()
	default:
		writeProblem(w, tooMany(fmt.Sprintf("asks for a comparison while %d others run on this node", verifiesMax)))
		return
	}
	s.tellVerify(w, r, spec, how)
}

// verifyHow reads what is asked for.
func (s *Server) verifyHow(r *http.Request) (VerifyHow, record.Spec, error) {
	how := VerifyHow{}
	var err error
	if how.Rows, err = numberOf(r, "rate", verifyRateDefault, verifyRateMax); err != nil {
		return how, record.Spec{}, err
	}
	if how.Limit, err = numberOf(r, "limit", verifyLimit, verifyLimitMax); err != nil {
		return how, record.Spec{}, err
	}
	bounded, cancel := context.WithTimeout(r.Context(), requestMax)
	defer cancel()
	view, err := s.viewOf(r.WithContext(bounded))
	if err != nil {
		return how, record.Spec{}, err
	}
	if view.Spec.Value == nil {
		return how, record.Spec{}, &changefeed.Fault{
			Code: changefeed.CodeRecordInvalid, Field: "changefeed", Value: view.ID.String(), Detail: "has a spec that does not parse: " + view.Spec.Fault,
			Cure: "see what cdc-node check says",
		}
	}
	spec := *view.Spec.Value
	how.Reached = func(ctx context.Context) (Stored[record.Status], error) {
		bounded, cancel := context.WithTimeout(ctx, requestMax)
		defer cancel()
		now, err := s.backend.Changefeed(bounded, view.ID)
		if err != nil {
			return Stored[record.Status]{}, err
		}
		if now.Spec.Value == nil || now.Spec.Value.UID != spec.UID || now.Spec.Value.Desired == changefeed.DesiredRemoved {
			return Stored[record.Status]{}, &changefeed.Fault{
				Code: changefeed.CodeSpecConflict, Field: "changefeed", Value: view.ID.String(), Detail: "was removed or reset while it was compared",
				Cure: "compare again",
			}
		}
		if status := now.Status.Value; status == nil || status.UID != spec.UID {
			return Stored[record.Status]{}, nil
		}
		return now.Status, nil
	}
	return how, spec, nil
}

// numberOf reads a parameter that is a whole number from 1 on.
func numberOf(r *http.Request, name string, absent, most int) (int, error) {
	text := r.URL.Query().Get(name)
	if text == "" {
		return absent, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 1 || n > most {
		return 0, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: name, Value: fmt.Sprintf("%.60q", text), Detail: fmt.Sprintf("is not from 1 to %d", most),
			Cure: fmt.Sprintf("leave it out for %d", absent),
		}
	}
	return n, nil
}

// tellVerify runs the comparison beside the stream that tells of it.
func (s *Server) tellVerify(w http.ResponseWriter, r *http.Request, spec record.Spec, how VerifyHow) {
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	told := make(chan sent)
	how.Tell = func(p shape.VerifyProgress) {
		one := sent{event: "progress", data: p}
		if p.Difference != nil {
			one = sent{event: "difference", data: p.Difference}
		}
		select {
		case told <- one:
		case <-ctx.Done():
		}
	}
	running := newRunning(cancel)
	defer running.wait()
	defer cancel()
	running.run(func() error {
		last := sent{event: "report", last: true}
		report, err := s.backend.Verify(ctx, spec, how)
		if last.data = report; err != nil {
			s.logFailure(r, err)
			last.event, last.data = "problem", problemOf(err)
		}
		select {
		case told <- last:
		case <-ctx.Done():
		}
		return nil
	})
	s.sendVerify(ctx, w, told)
}

// sent is one event of a comparison.
type sent struct {
	event string
	data  any
	last  bool
}

// sendVerify sends differences as they come, and progress now and then.
func (s *Server) sendVerify(ctx context.Context, w http.ResponseWriter, told <-chan sent) {
	stream, err := s.begin(w)
	if err != nil {
		return
	}
	quiet := time.NewTicker(verifyQuiet)
	defer quiet.Stop()
	var next time.Time
	for {
		text := ": still comparing\n\n"
		var one sent
		select {
		case <-ctx.Done():
			return
		case <-quiet.C:
		case one = <-told:
			if one.event == "progress" {
				if s.now().Before(next) {
					continue
				}
				next = s.now().Add(verifyTold)
			}
			data, err := json.Marshal(one.data)
			if err != nil {
				return
			}
			text = fmt.Sprintf("event: %s\ndata: %s\n\n", one.event, data)
		}
		if stream.send(text) != nil || one.last {
			return
		}
	}
}
