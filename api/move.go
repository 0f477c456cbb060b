package api

import (
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/record"
)

// move asks for another owner. The owner hands over: its dispatchers run on and are adopted, nothing is replayed.
func (s *Server) move(r *http.Request) (reply, error) {
	var request shape.Move
	if err := decode(r, &request); err != nil {
		return reply{}, err
	}
	cluster, err := s.backend.Cluster(r.Context())
	if err != nil {
		return reply{}, err
	}
	target, err := moveTarget(cluster, request.To)
	if err != nil {
		return reply{}, err
	}
	return s.change(r, http.StatusAccepted, func(view View, spec *record.Spec) (bool, error) {
		switch epoch := view.Epoch.Value; {
		case spec.Desired != changefeed.DesiredRunning:
			return false, refuseMove(request.To, "can't own a changefeed that is not wanted running", "resume the changefeed first")
		case epoch != nil && epoch.UID == spec.UID && epoch.Owner == target.ID:
			return false, refuseMove(request.To, "owns the changefeed already", "name another node")
		}
		spec.Move = &record.Move{To: target.ID, ID: uuid.NewString()}
		return true, nil
	})
}

func refuseMove(to, detail, cure string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "to", Value: fmt.Sprintf("%.140q", to), Detail: detail, Cure: cure,
	}
}

// moveTarget finds the live node of that name or id.
func moveTarget(cluster ClusterView, to string) (record.Node, error) {
	for _, node := range cluster.Nodes {
		if node.Name != to && string(node.ID) != to {
			continue
		}
		if node.Liveness != record.Alive {
			return node, &changefeed.Fault{
				Code: changefeed.CodeNodeDraining, Field: "to", Value: fmt.Sprintf("%.140q", to), Detail: "is being emptied",
				Cure: "name another node, or undrain this one",
			}
		}
		return node, nil
	}
	return record.Node{}, noNode("to", to)
}

func noNode(field, name string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeNodeNotFound, Field: field, Value: fmt.Sprintf("%.140q", name), Detail: "is no live node",
		Cure: "list the nodes with cdc-node node list",
	}
}

// drain has a node emptied, until undrain, over its restarts.
func (s *Server) drain(r *http.Request) (reply, error) {
	name := r.PathValue("name")
	cluster, err := s.backend.Cluster(r.Context())
	if err != nil {
		return reply{}, err
	}
	node, found := nodeOfName(cluster, name)
	switch {
	case !found:
		return reply{}, noNode("name", name)
	case node.Liveness == record.Stopping:
		return reply{}, &changefeed.Fault{
			Code: changefeed.CodeNodeDraining, Field: "name", Value: fmt.Sprintf("%.140q", name), Detail: "is leaving by itself",
			Cure: "wait until it is gone",
		}
	}
	if err := s.backend.Drain(r.Context(), name, r.RemoteAddr); err != nil {
		return reply{}, err
	}
	return s.showNode(r, http.StatusAccepted, name)
}

// undrain lets a node be given work again. A name without a live node may be undrained too: its drain is a record.
func (s *Server) undrain(r *http.Request) (reply, error) {
	name := r.PathValue("name")
	was, err := s.backend.Undrain(r.Context(), name)
	if err != nil {
		return reply{}, err
	}
	cluster, err := s.backend.Cluster(r.Context())
	if err != nil {
		return reply{}, err
	}
	if _, found := nodeOfName(cluster, name); found {
		return s.showNode(r, http.StatusOK, name)
	}
	if !was {
		return reply{}, noNode("name", name)
	}
	return reply{status: http.StatusNoContent}, nil
}

func (s *Server) showNode(r *http.Request, status int, name string) (reply, error) {
	cluster, err := s.backend.Cluster(r.Context())
	if err != nil {
		return reply{}, err
	}
	for _, node := range s.presentNodes(r, cluster) {
		if node.Name == name {
			return reply{status: status, body: node}, nil
		}
	}
	return reply{}, noNode("name", name)
}

func nodeOfName(cluster ClusterView, name string) (record.Node, bool) {
	for _, node := range cluster.Nodes {
		if node.Name == name {
			return node, true
		}
	}
	return record.Node{}, false
}
