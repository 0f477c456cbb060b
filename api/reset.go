package api

import (
	"context"
	"net/http"

	"github.com/google/uuid"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/record"
)

// reset gives a changefeed another start, and so another uid: what the former one has written stays where it is, and
// counts for nothing. Only what nobody owns can be reset, so that nothing of the former uid runs.
func (s *Server) reset(r *http.Request) (reply, error) {
	var request shape.Reset
	if err := decode(r, &request); err != nil {
		return reply{}, err
	}
	view, err := s.readable(r)
	if err != nil {
		return reply{}, err
	}
	if request.Start == "" {
		return reply{}, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "start", Detail: "is missing",
			Cure: "give now, snapshot, or a position",
		}
	}
	spec, err := s.restarted(r.Context(), view, request.Start)
	if err != nil {
		return reply{}, err
	}
	if err := s.backend.ResetSpec(r.Context(), view, spec); err != nil {
		return reply{}, err
	}
	if view, err = s.viewOf(r); err != nil {
		return reply{}, err
	}
	return show(http.StatusOK, view), nil
}

// restarted returns the spec of the creation that follows.
func (s *Server) restarted(ctx context.Context, view View, start string) (record.Spec, error) {
	old := view.Spec.Value
	if old.Desired == changefeed.DesiredRemoved {
		return record.Spec{}, beingRemoved(view.ID)
	}
	if old.Desired != changefeed.DesiredPaused || stateOf(old, view.Epoch.Value, nil) != changefeed.StatePaused {
		return record.Spec{}, notPaused(view.ID, "only then does nothing of the former uid run")
	}
	if from, err := endpoint.Parse(old.Source, endpoint.Policy{Field: "source", Literals: endpoint.AllowLiterals}); err == nil &&
		s.config.Kinds.keepsLog(from.Scheme) {
		return record.Spec{}, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "changefeed", Value: view.ID.String(),
			Detail: "has a source that keeps a log for it, which a reset would leave behind",
			Cure:   "remove it, which ends that (cdc-node changefeed remove), and create it anew",
		}
	}
	allowed := literals{endpoint.AllowLiterals, endpoint.AllowLiterals} // judged before
	next, err := s.config.Kinds.validate(shape.Create{
		Namespace: old.Namespace, Name: old.Name, Source: old.Source, Sink: old.Sink, Start: start, Options: old.Options,
	}, allowed)
	if err != nil {
		return record.Spec{}, err
	}
	head, err := next.look(ctx, s.backend)
	if err != nil {
		return record.Spec{}, err
	}
	spec := next.spec(head)
	spec.UID, spec.Desired, spec.Extra = changefeed.UID(uuid.NewString()), changefeed.DesiredPaused, old.Extra
	return spec, nil
}

func notPaused(id changefeed.ID, why string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSpecConflict, Field: "changefeed", Value: id.String(), Detail: "is not paused: " + why,
		Cure: "pause it first (cdc-node changefeed pause), and resume it afterwards",
	}
}
