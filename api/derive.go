package api

import (
	"strconv"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/record"
)

// present derives what people see of a changefeed from its records.
func present(view View) shape.Changefeed {
	out := shape.Changefeed{
		Namespace: view.ID.Namespace, Name: view.ID.Name, Revision: strconv.FormatInt(view.Spec.Revision, 10),
	}
	if fault := faultOf(view); fault != "" {
		out.Error = &record.Error{Code: changefeed.CodeRecordInvalid, Message: fault}
	}
	spec := view.Spec.Value
	if spec == nil {
		out.State = changefeed.StateFailed
		return out
	}
	created, updated := spec.Created, spec.Updated
	out.UID, out.Start, out.Options, out.Desired = spec.UID, spec.Start, spec.Options, spec.Desired
	out.Source, out.Sink = endpoint.Redact(spec.Source), endpoint.Redact(spec.Sink)
	out.Skips = spec.Skips
	out.StartPosition, out.Created, out.Updated = spec.StartPosition, &created, &updated
	epoch := view.Epoch.Value
	if epoch != nil && epoch.UID == spec.UID {
		out.Epoch, out.Owner, out.OwnerName, out.Reason = epoch.Epoch, epoch.Owner, epoch.OwnerName, epoch.Reason
	} else {
		epoch = nil
	}
	status := view.Status.Value
	if status != nil && status.UID == spec.UID {
		presentStatus(&out, status)
	} else {
		status = nil
	}
	out.State = stateOf(spec, epoch, status)
	if out.Error != nil && out.Error.Code == changefeed.CodeRecordInvalid {
		out.State = changefeed.StateFailed
	}
	if out.State != changefeed.StateStalled {
		out.Stalled = nil
	}
	return out
}

func faultOf(view View) string {
	for _, fault := range []string{view.Spec.Fault, view.Epoch.Fault, view.Status.Fault} {
		if fault != "" {
			return fault
		}
	}
	return ""
}

func presentStatus(out *shape.Changefeed, status *record.Status) {
	if status.Checkpoint > 0 {
		checkpoint := status.Checkpoint
		out.Checkpoint = &checkpoint
	}
	if status.Resolved > 0 {
		resolved := status.Resolved
		out.Resolved = &resolved
	}
	if status.Checkpoint > 0 && status.Checkpoint >= status.Resolved {
		zero := 0.0
		out.LagSeconds = &zero
	}
	if out.StartPosition == nil {
		out.StartPosition = status.StartPosition
	}
	if out.Error == nil {
		out.Error = status.Error
	}
	out.Stalled, out.Spans = status.Stalled, status.Spans
	if status.SyncPoint > 0 {
		out.SyncPoint = &status.SyncPoint
	}
}

// stateOf derives the state. epoch and status are nil if there are none of the spec's uid.
func stateOf(spec *record.Spec, epoch *record.Epoch, status *record.Status) changefeed.State {
	owned := epoch != nil && epoch.Owner != ""
	current := status != nil && epoch != nil && epoch.Epoch.Confirm(status.Epoch) == nil
	switch {
	case spec.Desired == changefeed.DesiredRemoved:
		return changefeed.StateRemoving
	case spec.Desired == changefeed.DesiredPaused && !owned:
		return changefeed.StatePaused
	case !owned, !current:
		return changefeed.StateStarting
	case status.State == changefeed.StateReleased && spec.Desired == changefeed.DesiredPaused:
		return changefeed.StateRunning // it has stopped; it is paused once nobody owns it
	case status.State == changefeed.StateReleased:
		return changefeed.StateStarting
	default:
		return status.State
	}
}

// ownerships lists the current ownership and those that ended, newest first.
func ownerships(view View, ended []record.History) []shape.Ownership {
	out := []shape.Ownership{}
	if epoch := view.Epoch.Value; epoch != nil {
		out = append(out, ownership(epoch))
	}
	for i := range ended {
		one := ownership(&ended[i].Epoch)
		until, final := ended[i].Until, ended[i].FinalCheckpoint
		one.Until, one.Ended, one.Unanswered = &until, ended[i].Ended, ended[i].Unanswered
		if final > 0 {
			one.FinalCheckpoint = &final
		}
		out = append(out, one)
	}
	return out
}

func ownership(epoch *record.Epoch) shape.Ownership {
	return shape.Ownership{
		UID: epoch.UID, Epoch: epoch.Epoch, Owner: epoch.Owner, OwnerName: epoch.OwnerName, Term: epoch.Term,
		Reason: epoch.Reason, From: epoch.At,
	}
}

func presentSpan(span Span, names map[changefeed.NodeID]string) shape.Span {
	out := shape.Span{
		Start: span.Span.Start, End: span.Span.End, Node: span.Node, NodeName: names[span.Node],
		Epoch: span.Token.Epoch(), Seq: span.Token.Seq(), State: span.State,
		SnapshotRows: span.SnapshotRows, SnapshotTotal: span.SnapshotTotal, Rate: span.Rate,
	}
	if whole := span.Mark.Whole(); span.Known && whole > 0 {
		out.Checkpoint = &whole
	}
	if resolved := span.Resolved; resolved > 0 {
		out.Resolved = &resolved
	}
	if lag := span.LagSeconds; lag >= 0 {
		out.LagSeconds = &lag
	}
	return out
}
