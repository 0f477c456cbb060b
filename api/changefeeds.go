package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/fence"
	"fencerow/record"
)

func idOf(r *http.Request) (changefeed.ID, error) {
	id := changefeed.ID{Namespace: r.PathValue("namespace"), Name: r.PathValue("name")}
	return id, id.Validate()
}

// viewOf reads the changefeed that a path names.
func (s *Server) viewOf(r *http.Request) (View, error) {
	id, err := idOf(r)
	if err != nil {
		return View{}, err
	}
	return s.backend.Changefeed(r.Context(), id)
}

func show(status int, view View) reply {
	out := present(view)
	return reply{status: status, etag: out.Revision, body: out}
}

func (s *Server) get(r *http.Request) (reply, error) {
	view, err := s.viewOf(r)
	if err != nil {
		return reply{}, err
	}
	out := []shape.Changefeed{present(view)}
	s.addProgress(r, out)
	return reply{status: http.StatusOK, etag: out[0].Revision, body: out[0]}, nil
}

func (s *Server) list(r *http.Request) (reply, error) {
	query := r.URL.Query()
	wanted, err := parseWindow(r)
	if err != nil {
		return reply{}, err
	}
	after, err := parseAfter(wanted.after)
	if err != nil {
		return reply{}, err
	}
	namespace := query.Get("namespace")
	if namespace != "" {
		if err := (changefeed.ID{Namespace: namespace, Name: "name"}).Validate(); err != nil {
			return reply{}, err
		}
	}
	views, more, err := s.backend.List(r.Context(), namespace, after, wanted.limit)
	if err != nil {
		return reply{}, err
	}
	out := shape.List[shape.Changefeed]{Items: make([]shape.Changefeed, len(views))}
	for i, view := range views {
		out.Items[i] = present(view)
	}
	s.addProgress(r, out.Items)
	if more && len(views) > 0 {
		out.Next = views[len(views)-1].ID.String()
	}
	return reply{status: http.StatusOK, body: out}, nil
}

func (s *Server) literals() literals { return literals{s.config.Literals, s.config.Literals} }

func (s *Server) create(r *http.Request) (reply, error) {
	var request shape.Create
	if err := decode(r, &request); err != nil {
		return reply{}, err
	}
	dry, err := dryRun(r)
	if err != nil {
		return reply{}, err
	}
	draft, err := s.config.Kinds.validate(request, s.literals())
	if err != nil {
		return reply{}, err
	}
	head, err := draft.look(r.Context(), s.backend)
	if err != nil {
		return reply{}, err
	}
	if draft.unfit != nil {
		return reply{}, draft.unfit
	}
	if dry {
		spec := draft.spec(head)
		return show(http.StatusOK, View{ID: draft.id, Spec: Stored[record.Spec]{Value: &spec}}), s.mustBeFree(r.Context(), draft.id)
	}
	if err := s.backend.CreateSpec(r.Context(), draft.spec(head)); err != nil {
		return reply{}, err
	}
	view, err := s.backend.Changefeed(r.Context(), draft.id)
	if err != nil {
		return reply{}, err
	}
	return show(http.StatusCreated, view), nil
}

// dryRun reports whether a request only asks what it would do.
func dryRun(r *http.Request) (bool, error) {
	switch text := r.URL.Query().Get("dry_run"); text {
	case "", "false":
		return false, nil
	case "true":
		return true, nil
	default:
		return false, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "dry_run", Value: fmt.Sprintf("%.100q", text), Detail: "is neither true nor false",
			Cure: "give true, or leave it out",
		}
	}
}

// mustBeFree says of a name that is taken what its creation would say.
func (s *Server) mustBeFree(ctx context.Context, id changefeed.ID) error {
	_, err := s.backend.Changefeed(ctx, id)
	switch {
	case err == nil:
		return &changefeed.Fault{
			Code: changefeed.CodeExists, Field: "changefeed", Value: id.String(), Detail: "exists",
			Cure: "choose another name, or update or remove the one that exists",
		}
	case changefeed.AsFault(err, "").Code == changefeed.CodeNotFound:
		return nil
	default:
		return err
	}
}

func (s *Server) put(r *http.Request) (reply, error) {
	var request shape.Create
	if err := decode(r, &request); err != nil {
		return reply{}, err
	}
	dry, err := dryRun(r)
	if err != nil {
		return reply{}, err
	}
	match := strings.Trim(r.Header.Get("If-Match"), `"`)
	if match == "" {
		return reply{}, refuse(http.StatusPreconditionRequired, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "If-Match",
			Detail: "is missing", Cure: "send the ETag of the changefeed that you read",
		})
	}
	view, err := s.readable(r)
	if err != nil {
		return reply{}, err
	}
	if match != "*" && match != strconv.FormatInt(view.Spec.Revision, 10) { // fence:F25
		return reply{}, overtaken(view.ID)
	}
	if err := sameName(view.ID, request); err != nil {
		return reply{}, err
	}
	spec, changed, err := s.config.Kinds.update(view, request, s.literals())
	if err != nil || !changed {
		return show(http.StatusOK, view), err
	}
	if err := s.checkUpdate(r.Context(), view, spec); err != nil {
		return reply{}, err
	}
	if dry {
		view.Spec.Value = &spec
		return show(http.StatusOK, view), nil
	}
	if err := s.backend.UpdateSpec(r.Context(), view.Spec, spec); err != nil {
		if changefeed.AsFault(err, "").Code == changefeed.CodeSpecConflict {
			return reply{}, overtaken(view.ID)
		}
		return reply{}, err
	}
	if view, err = s.viewOf(r); err != nil {
		return reply{}, err
	}
	return show(http.StatusOK, view), nil
}

// checkUpdate refuses that an update of hosts makes a loop.
func (s *Server) checkUpdate(ctx context.Context, view View, spec record.Spec) error {
	if spec.Source == view.Spec.Value.Source && spec.Sink == view.Spec.Value.Sink {
		return nil
	}
	allowed := literals{endpoint.AllowLiterals, endpoint.AllowLiterals} // judged before
	draft, err := s.config.Kinds.validate(shape.Create{
		Namespace: spec.Namespace, Name: spec.Name, Source: spec.Source, Sink: spec.Sink, Options: spec.Options,
	}, allowed)
	if err != nil {
		return err
	}
	_, err = draft.look(ctx, s.backend)
	return err
}

func sameName(id changefeed.ID, request shape.Create) error {
	if (request.Name == "" || request.Name == id.Name) && (request.Namespace == "" || request.Namespace == id.Namespace) {
		return nil
	}
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "name",
		Value:  fmt.Sprintf("%.300q", request.Namespace+"/"+request.Name),
		Detail: "is not the name in the path", Cure: "leave it out: a changefeed can't be renamed",
	}
}

func overtaken(id changefeed.ID) error {
	return refuse(http.StatusPreconditionFailed, &changefeed.Fault{
		Code: changefeed.CodeSpecConflict, Field: "If-Match", Value: id.String(),
		Detail: "was changed by somebody else since you read it", Cure: "read it again, and repeat the change",
	})
}

// readable reads a changefeed whose spec parses.
func (s *Server) readable(r *http.Request) (View, error) {
	view, err := s.viewOf(r)
	if err == nil && view.Spec.Value == nil {
		err = &changefeed.Fault{
			Code: changefeed.CodeRecordInvalid, Field: "specs/" + view.ID.String(), Detail: view.Spec.Fault,
			Cure: "correct the record with cdc-node etcdctl, or remove the changefeed with --force",
		}
	}
	return view, err
}

// change reads, changes and stores a spec until nobody else was faster. What users asked for once is dropped by every
// other change, as the record says.
//
//nolint:unparam // what it answers is said where it is asked for
func (s *Server) change(r *http.Request, status int, change func(View, *record.Spec) (bool, error)) (reply, error) {
	for attempt := 1; ; attempt++ {
		view, err := s.readable(r)
		if err != nil {
			return reply{}, err
		}
		spec := *view.Spec.Value
		spec.Move, spec.Bump = nil, ""
		todo, err := change(view, &spec)
		if err != nil {
			return reply{}, err
		}
		if !todo {
			return show(http.StatusOK, view), nil
		}
		err = s.backend.UpdateSpec(r.Context(), view.Spec, spec)
		if err == nil {
			if view, err = s.viewOf(r); err != nil {
				return s.goneMeanwhile(status, spec, err)
			}
			return show(status, view), nil
		}
		if changefeed.AsFault(err, "").Code != changefeed.CodeSpecConflict || attempt == attemptsMax {
			return reply{}, err
		}
	}
}

// goneMeanwhile answers a removal that was done before it was read again.
func (s *Server) goneMeanwhile(status int, spec record.Spec, err error) (reply, error) {
	if spec.Desired != changefeed.DesiredRemoved || changefeed.AsFault(err, "").Code != changefeed.CodeNotFound {
		return reply{}, err
	}
	return show(status, View{ID: spec.ID(), Spec: Stored[record.Spec]{Value: &spec}}), nil
}

func (s *Server) pause(r *http.Request) (reply, error) {
	return s.change(r, http.StatusAccepted, func(view View, spec *record.Spec) (bool, error) {
		if spec.Desired == changefeed.DesiredRemoved {
			return false, beingRemoved(view.ID)
		}
		changed := spec.Desired != changefeed.DesiredPaused
		spec.Desired = changefeed.DesiredPaused
		return changed, nil
	})
}

// resume also has one that failed or waits for its next try tried again at once.
func (s *Server) resume(r *http.Request) (reply, error) {
	return s.change(r, http.StatusAccepted, func(view View, spec *record.Spec) (bool, error) {
		if spec.Desired == changefeed.DesiredRemoved {
			return false, beingRemoved(view.ID)
		}
		state := present(view).State
		changed := spec.Desired != changefeed.DesiredRunning || state == changefeed.StateFailed || state == changefeed.StateRetrying
		spec.Desired = changefeed.DesiredRunning
		return changed, nil
	})
}

func (s *Server) remove(r *http.Request) (reply, error) {
	if force := r.URL.Query().Get("force"); force == "true" {
		view, err := s.viewOf(r)
		if err != nil {
			return reply{}, err
		}
		if err := s.backend.ForceRemove(r.Context(), view.ID); err != nil {
			return reply{}, err
		}
		return show(http.StatusAccepted, view), nil
	}
	out, err := s.change(r, http.StatusAccepted, func(_ View, spec *record.Spec) (bool, error) {
		changed := spec.Desired != changefeed.DesiredRemoved
		spec.Desired = changefeed.DesiredRemoved
		return changed, nil
	})
	out.status = http.StatusAccepted
	return out, err
}

func (s *Server) bump(r *http.Request) (reply, error) {
	var request shape.Bump
	if err := decodeOptional(r, &request); err != nil {
		return reply{}, err
	}
	if above := request.Above; above != nil {
		if uint64(*above) >= record.NumberMax {
			return reply{}, &changefeed.Fault{
				Code: changefeed.CodeRequestInvalid, Field: "above", Value: strconv.FormatUint(uint64(*above), 10),
				Detail: "is too large", Cure: "give the epoch that the sink holds",
			}
		}
		if _, err := s.readable(r); err != nil {
			return reply{}, err
		}
		if err := s.backend.RaiseFloor(r.Context(), *above); err != nil {
			return reply{}, err
		}
	}
	return s.change(r, http.StatusAccepted, func(view View, spec *record.Spec) (bool, error) {
		if spec.Desired == changefeed.DesiredRemoved {
			return false, beingRemoved(view.ID)
		}
		spec.Bump = uuid.NewString()
		return true, nil
	})
}

func (s *Server) history(r *http.Request) (reply, error) {
	id, err := idOf(r)
	if err != nil {
		return reply{}, err
	}
	wanted, err := parseWindow(r)
	if err != nil {
		return reply{}, err
	}
	ended, err := s.backend.History(r.Context(), id)
	if err != nil {
		return reply{}, err
	}
	view, err := s.backend.Changefeed(r.Context(), id)
	var fault *changefeed.Fault
	gone := errors.As(err, &fault) && fault.Code == changefeed.CodeNotFound && len(ended) > 0
	if err != nil && !gone { // the history outlives the changefeed
		return reply{}, err
	}
	all := ownerships(view, ended)
	skipped := 0
	if wanted.after != "" {
		after, err := strconv.ParseUint(wanted.after, 10, 64)
		if err != nil {
			return reply{}, badAfter(wanted.after)
		}
		skipped = sort.Search(len(all), func(i int) bool { return all[i].Epoch.OlderThan(fence.Epoch(after)) })
	}
	return reply{status: http.StatusOK, body: page(all, skipped, wanted, func(one shape.Ownership) string { return strconv.FormatUint(uint64(one.Epoch), 10) })}, nil
}
