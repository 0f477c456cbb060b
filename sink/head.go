package sink

import (
	"encoding/json"
	"errors"
	"fmt"

	"fencerow/changefeed"
	"fencerow/fence"
)

// Head is what a sink keeps once per changefeed: whose it is, the floor below which no claim is taken, and whether it
// was removed. The zero value is a head that does not exist. Its methods are pure: they return the head that is to be
// stored in place of the one that was read.
type Head struct {
	Identity Identity
	Floor    fence.Epoch
	Removed  bool
}

// ErrRemoved says that the changefeed was removed from the sink, for good. It is a [fence.ErrStale]. An owner that is to
// remove it goes on: one before it came as far, and nobody can claim or write.
var ErrRemoved = fmt.Errorf("%w: it was removed from the sink", fence.ErrStale)

// Exists reports whether a head was found.
func (h Head) Exists() bool { return h != Head{} }

// Raise returns the head with its floor at epoch. A missing head is created, unless a checkpoint is known: then
// positions that were durable are gone (sink.lost). The head of an older creation of the same changefeed is taken over
// by a higher epoch, since epochs are never reused for a name; the caller then forgets the map that it holds
// ([Head.Succeeds]). A floor above epoch refuses with the fault epoch.behind_sink, which is [fence.ErrStale]: an owner
// that was superseded stops; one that the records still name learns from the fault that they were set back.
func (h Head) Raise(as Identity, epoch fence.Epoch, known Known) (Head, error) {
	if epoch == 0 {
		return Head{}, fmt.Errorf("sink: raise to epoch 0: %w", fence.ErrStale)
	}
	if !h.Exists() {
		if known == KnownCheckpoint {
			return Head{}, lost("holds nothing of this changefeed although a checkpoint is stored")
		}
		return Head{Identity: as, Floor: epoch}, nil
	}
	if err := h.checkOwner(as); err != nil {
		return Head{}, err
	}
	if epoch.OlderThan(h.Floor) { // fence:F26
		return Head{}, behind(h.Floor, epoch)
	}
	if h.Identity.UID != as.UID {
		return h.succeed(as, epoch, known)
	}
	if h.Removed { // fence:F26
		return Head{}, fmt.Errorf("sink: raise: changefeed %s, uid %s: %w", as.Changefeed, as.UID, ErrRemoved)
	}
	h.Floor = epoch
	return h, nil
}

// succeed gives the head of an older creation to a newer one.
func (h Head) succeed(as Identity, epoch fence.Epoch, known Known) (Head, error) {
	if !h.Floor.OlderThan(epoch) {
		return Head{}, InUse(h.Identity)
	}
	if known == KnownCheckpoint {
		return Head{}, lost("holds another creation of this changefeed although a checkpoint is stored")
	}
	return Head{Identity: as, Floor: epoch}, nil
}

// Succeeds reports whether h took the place of an older creation's head: the map that belonged to it is void.
func (h Head) Succeeds(older Head) bool {
	return older.Exists() && older.Identity.UID != h.Identity.UID
}

// Remove returns the head that nobody can claim under any more. It stays. A missing head is created as removed, so
// that a writer that comes late finds it. Where a newer creation has taken the head, nothing of this one is left, and
// the head is returned as it is.
func (h Head) Remove(as Identity, epoch fence.Epoch) (Head, error) {
	if epoch == 0 {
		return Head{}, fmt.Errorf("sink: remove at epoch 0: %w", fence.ErrStale)
	}
	if !h.Exists() {
		return Head{Identity: as, Floor: epoch, Removed: true}, nil
	}
	if err := h.checkOwner(as); err != nil {
		return Head{}, err
	}
	if h.Identity.UID != as.UID && !h.Floor.OlderThan(epoch) {
		return h, nil
	}
	if h.Removed && h.Identity.UID == as.UID {
		return h, nil
	}
	if epoch.OlderThan(h.Floor) { // fence:F26
		return Head{}, behind(h.Floor, epoch)
	}
	return Head{Identity: as, Floor: epoch, Removed: true}, nil
}

// checkOwner refuses another cluster and another changefeed.
func (h Head) checkOwner(as Identity) error {
	if h.Identity.Cluster != as.Cluster || h.Identity.Changefeed != as.Changefeed { // fence:F22
		return InUse(h.Identity)
	}
	return nil
}

// admit checks what a claim needs of the head, but for the floor.
func (h Head) admit(as Identity, token fence.Token) error {
	if !h.Exists() { // fence:F22
		return lost("has no head for this changefeed")
	}
	if err := h.checkOwner(as); err != nil {
		return err
	}
	if h.Identity.UID != as.UID { // fence:F22
		if token.Epoch().OlderThan(h.Floor) {
			return fmt.Errorf("sink: claim: a newer creation of %s holds the sink: %w", as.Changefeed, fence.ErrStale)
		}
		return InUse(h.Identity)
	}
	if h.Removed { // fence:F22
		return fmt.Errorf("sink: claim: changefeed %s, uid %s: %w", as.Changefeed, as.UID, ErrRemoved)
	}
	return nil
}

// InUse is the fault of a target that another identity has claimed.
func InUse(holder Identity) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkInUse, Permanent: true,
		Detail: fmt.Sprintf("the target belongs to changefeed %s, uid %s, of cluster %s", holder.Changefeed, holder.UID, holder.Cluster),
		Cure:   "choose another target, or remove that changefeed first",
	}
}

func lost(detail string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkLost, Permanent: true,
		Detail: "the target " + detail,
		Cure:   "bring the target back, or remove the changefeed and create it anew",
	}
}

func behind(floor, epoch fence.Epoch) error {
	return &changefeed.Fault{
		Code: changefeed.CodeEpochBehindSink, Permanent: true,
		Detail: fmt.Sprintf("the sink has seen epoch %d, and this owner has %d", floor, epoch),
		Cure:   fmt.Sprintf("if etcd was restored from a backup, run `cdc-node epoch bump NAME --above %d`", floor),
		Err:    fence.ErrStale,
	}
}

// headBytesMax bounds the JSON of a head: three names and a few numbers.
const headBytesMax = 4096

type headJSON struct {
	Cluster   string      `json:"cluster"`
	Namespace string      `json:"namespace"`
	Name      string      `json:"name"`
	UID       string      `json:"uid"`
	Floor     fence.Epoch `json:"floor"`
	Removed   bool        `json:"removed,omitempty"`
}

// MarshalJSON writes the head.
func (h Head) MarshalJSON() ([]byte, error) {
	return json.Marshal(headJSON{
		Cluster: h.Identity.Cluster, Namespace: h.Identity.Changefeed.Namespace, Name: h.Identity.Changefeed.Name,
		UID: string(h.Identity.UID), Floor: h.Floor, Removed: h.Removed,
	})
}

var errHeadInvalid = errors.New("sink: head is not valid")

// UnmarshalJSON reads what MarshalJSON writes, and refuses a head that names nobody.
func (h *Head) UnmarshalJSON(data []byte) error {
	if len(data) > headBytesMax {
		return fmt.Errorf("%w: %d bytes, at most %d", errHeadInvalid, len(data), headBytesMax)
	}
	var in headJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("%w: %w", errHeadInvalid, err)
	}
	out := Head{
		Identity: Identity{
			Cluster:    in.Cluster,
			Changefeed: changefeed.ID{Namespace: in.Namespace, Name: in.Name},
			UID:        changefeed.UID(in.UID),
		},
		Floor: in.Floor, Removed: in.Removed,
	}
	if out.Identity.Cluster == "" || out.Identity.UID == "" || out.Floor == 0 {
		return fmt.Errorf("%w: cluster, uid or floor is missing", errHeadInvalid)
	}
	if err := out.Identity.Changefeed.Validate(); err != nil {
		return fmt.Errorf("%w: %w", errHeadInvalid, err)
	}
	*h = out
	return nil
}
