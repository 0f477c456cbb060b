package records

import (
	"fencerow/coordinator"
	"fencerow/epochstore"
	"fencerow/record"
)

// CoordinatorKinds are the records that a coordinator decides on.
func CoordinatorKinds() []record.Kind {
	return []record.Kind{
		record.KindMeta, record.KindNode, record.KindDrain, record.KindSpec, record.KindEpoch, record.KindHandoff, record.KindStatus,
		record.KindEviction,
	}
}

// CoordinatorInputs turns an update into what the coordinator's core takes in.
func CoordinatorInputs(update epochstore.Update) []coordinator.Input {
	inputs := make([]coordinator.Input, 0, len(update.Changes)+1)
	for _, change := range update.Changes {
		if input := coordinatorInput(change); input != nil {
			inputs = append(inputs, input)
		}
	}
	if update.Snapshot {
		inputs = append(inputs, coordinator.Listed{})
	}
	return inputs
}

// coordinatorInput returns nil for a record that the coordinator does not decide on.
func coordinatorInput(change epochstore.Change) coordinator.Input {
	switch change.Ref.Kind {
	case record.KindSpec:
		return coordinator.SpecSeen{ID: change.Ref.ID, Observed: observe[record.Spec](change)}
	case record.KindEpoch:
		return coordinator.EpochSeen{ID: change.Ref.ID, Observed: observe[record.Epoch](change)}
	case record.KindStatus:
		return coordinator.StatusSeen{ID: change.Ref.ID, Observed: observe[record.Status](change)}
	case record.KindHandoff:
		return coordinator.HandoffSeen{ID: change.Ref.ID, Observed: observe[record.Handoff](change)}
	case record.KindNode:
		return coordinator.NodeSeen{ID: change.Ref.Node, Observed: observe[record.Node](change)}
	case record.KindDrain:
		return coordinator.DrainSeen{Name: change.Ref.Name, Observed: observe[record.Drain](change)}
	case record.KindMeta:
		return coordinator.MetaSeen{Observed: observe[record.Meta](change)}
	case record.KindEviction:
		return coordinator.EvictionSeen{UID: change.Ref.UID, Node: change.Ref.Node, Observed: observe[record.Eviction](change)}
	case record.KindName, record.KindCandidate, record.KindHistory:
		return nil
	default:
		return nil
	}
}

// observe is a watched record as the coordinator's core takes it in.
func observe[T any, P interface {
	*T
	record.Record
}](change epochstore.Change) coordinator.Observed[T] {
	out := coordinator.Observed[T]{Revision: change.ModRevision}
	if change.Err != nil {
		out.Fault = change.Err.Error()
		return out
	}
	if value, ok := change.Record.(P); ok && !change.Deleted {
		out.Value = value
	}
	return out
}
