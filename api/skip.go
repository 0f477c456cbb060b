package api

import (
	"fmt"
	"net/http"
	"slices"
	"strconv"

	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/record"
)

// skip leaves out one change that the sink refuses. It stays in the record: that it is missing in the sink is otherwise
// known to nobody.
func (s *Server) skip(r *http.Request) (reply, error) {
	var request shape.Skip
	if err := decode(r, &request); err != nil {
		return reply{}, err
	}
	if request.Position == 0 {
		return reply{}, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "position", Value: request.Position.String(), Detail: "is no change's",
			Cure: "give the position that the error names",
		}
	}
	return s.change(r, http.StatusAccepted, func(view View, spec *record.Spec) (bool, error) {
		if spec.Desired == changefeed.DesiredRemoved {
			return false, beingRemoved(view.ID)
		}
		done := change.Position(0)
		if status := view.Status.Value; status != nil && status.UID == spec.UID {
			done = status.Checkpoint
		}
		if request.Position <= done {
			return false, &changefeed.Fault{
				Code: changefeed.CodeRequestInvalid, Field: "position", Value: request.Position.String(),
				Detail: "is done: the checkpoint is " + done.String(), Cure: "give the position that the error names",
			}
		}
		same := func(one record.Skip) bool { return one.Position == request.Position && one.Index == request.Index }
		if slices.ContainsFunc(spec.Skips, same) {
			return false, nil
		}
		kept, err := roomForSkip(spec.Skips, done)
		if err != nil {
			return false, err
		}
		spec.Skips = append(kept, record.Skip{Position: request.Position, Index: request.Index, At: s.now().UTC().Round(0), By: r.RemoteAddr})
		return true, nil
	})
}

// roomForSkip returns a copy of the skips with room for one more: the oldest of those that are behind the checkpoint go.
func roomForSkip(skips []record.Skip, done change.Position) ([]record.Skip, error) {
	kept := slices.Clone(skips)
	for i := 0; len(kept) >= record.SkipsMax; {
		switch {
		case i == len(kept):
			return nil, &changefeed.Fault{
				Code: changefeed.CodeLimitExceeded, Field: "skips", Value: strconv.Itoa(len(kept)),
				Detail: fmt.Sprintf("would be more than %d changes that are left out and still lie ahead", record.SkipsMax),
				Cure:   "cure the sink, or reset the changefeed behind them",
			}
		case kept[i].Position <= done:
			kept = slices.Delete(kept, i, i+1)
		default:
			i++
		}
	}
	return kept, nil
}
