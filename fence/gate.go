package fence

import "strconv"

// Claimant is who claims to own a changefeed: what the envelope of a command says, or what a record says. The zero
// value claims nothing.
type Claimant struct {
	UID   string // of the changefeed; new at every creation of its name
	Epoch Epoch
	Owner string // node id; "" in a record: nobody owns the changefeed at this epoch
}

// Refusal is the rule by which a gate turned a command away. It is an error that is [ErrStale]; the zero value means
// that nothing was refused and is never returned as an error.
type Refusal uint8

// The refusals of a gate, by the rule that each stands for (the fences of the design).
const (
	RefusedOlder       Refusal = 9  // the command's epoch is below the held one
	RefusedOtherSender Refusal = 10 // the held epoch, from a sender that does not own it
	RefusedUnraised    Refusal = 11 // an epoch above the held one, by a command that must not raise it
	RefusedUnconfirmed Refusal = 12 // a Bootstrap that the records do not confirm, or before the first listing
	RefusedZero        Refusal = 14 // epoch 0
	RefusedUID         Refusal = 15 // another or a removed changefeed
	RefusedToken       Refusal = 16 // within the epoch: stopped, overlapped or evicted token
)

// Rule returns the fence's name, as in "F9".
func (r Refusal) Rule() string { return "F" + strconv.Itoa(int(r)) }

// Error says what was refused and by which rule.
func (r Refusal) Error() string {
	switch r {
	case RefusedOlder:
		return "F9: the epoch is older than the one held here"
	case RefusedOtherSender:
		return "F10: the sender does not own this epoch"
	case RefusedUnraised:
		return "F11: only a bootstrap may bring a newer epoch"
	case RefusedUnconfirmed:
		return "F12: the records do not confirm this owner"
	case RefusedZero:
		return "F14: epoch 0 is invalid"
	case RefusedUID:
		return "F15: the changefeed of this uid is not served here"
	case RefusedToken:
		return "F16: the token was superseded"
	default:
		return r.Rule() + ": refused"
	}
}

// Is makes every refusal an [ErrStale].
func (r Refusal) Is(target error) bool { return target == ErrStale }

// Verdict is a gate's answer to a Bootstrap.
type Verdict uint8

// The verdicts on a Bootstrap. The zero value refuses.
const (
	BootstrapRefused     Verdict = iota // see the error
	BootstrapAdmitted                   // of the held epoch, from its owner
	BootstrapUnconfirmed                // it would raise the epoch: ask the records, then Confirm
)

// Gate is what a host holds locally for one changefeed name: the highest (uid, epoch, owner) that it knows. Epochs are
// never reused for a name, also over removal and re-creation, so one gate serves all uids of a name, and what it holds
// only grows. The zero value holds nothing and admits nothing. It is owned by one goroutine.
type Gate struct {
	held    Claimant
	removed bool // the held uid was removed: nothing of it is served again
	legacy  bool // the cluster is still being upgraded from a version without epochs
}

// NewLegacyGate returns a gate that admits epoch 0 from the owner that a record of epoch 0 names, until it has seen a
// real epoch. Only for clusters whose feature level says that they are being upgraded from a version without epochs.
func NewLegacyGate() Gate { return Gate{legacy: true} }

// EndLegacy has the gate admit epoch 0 no more: every node of the cluster has been upgraded.
func (g *Gate) EndLegacy() { g.legacy = false }

// Held returns what the gate holds. Owner "" means that nobody may command this changefeed.
func (g *Gate) Held() Claimant { return g.held }

// Removed reports whether the held changefeed was removed.
func (g *Gate) Removed() bool { return g.removed }

// Admit decides on a command other than Bootstrap: nil, or a [Refusal]. It changes nothing and allocates nothing.
func (g *Gate) Admit(c Claimant) error {
	if err := g.admitUID(c); err != nil {
		return err
	}
	if c.Epoch > g.held.Epoch { // fence:F11
		return RefusedUnraised
	}
	return g.admitHeld(c)
}

// AdmitBootstrap decides on a Bootstrap. One that would raise the held epoch, or brings another uid, is
// [BootstrapUnconfirmed]: the caller asks the records and calls [Gate.Confirm].
func (g *Gate) AdmitBootstrap(c Claimant) (Verdict, error) {
	if c.Epoch > g.held.Epoch && !(g.removed && c.UID == g.held.UID) { // fence:F15
		return BootstrapUnconfirmed, nil
	}
	if err := g.admitUID(c); err != nil {
		return BootstrapRefused, err
	}
	if err := g.admitHeld(c); err != nil {
		return BootstrapRefused, err
	}
	return BootstrapAdmitted, nil
}

// admitUID refuses what is not about the changefeed that is held, and epoch 0.
func (g *Gate) admitUID(c Claimant) error {
	if c.Epoch == 0 && (!g.legacy || g.held.Epoch != 0) { // fence:F14
		return RefusedZero
	}
	if c.UID != g.held.UID || g.removed { // fence:F15
		return RefusedUID
	}
	return nil
}

// admitHeld refuses what is not of the held epoch and its owner.
func (g *Gate) admitHeld(c Claimant) error {
	if c.Epoch < g.held.Epoch { // fence:F9
		return RefusedOlder
	}
	if c.Owner == "" || c.Owner != g.held.Owner { // fence:F10
		return RefusedOtherSender
	}
	return nil
}

// Confirm raises the gate to a claimant whose Bootstrap was [BootstrapUnconfirmed], if the record, read linearizably
// or held by a current watch, says the same; else it returns [RefusedUnconfirmed]. What the record says is observed in
// either case.
func (g *Gate) Confirm(c, record Claimant) error {
	g.Observe(record)
	// The record's deletion may have been seen after it was read.
	if c.Owner == "" || c != record || g.held != c || g.removed { // fence:F12
		return RefusedUnconfirmed
	}
	return nil
}

// Observe takes in a record that was read or watched. It reports whether the gate was raised: then the dispatchers of
// what was held before obey nobody until the new owner adopts them, and, if the record names no owner or another uid,
// must stop. An older record changes nothing.
func (g *Gate) Observe(record Claimant) (raised bool) {
	if g.removed && record.UID == g.held.UID { // fence:F15
		return false
	}
	// A record without an epoch counts only while the cluster is being upgraded, and until a real epoch was seen.
	legacy := record.Epoch == 0 && g.legacy && g.held.Epoch == 0 && record.UID != "" && g.held != record // fence:F14

	if record.Epoch <= g.held.Epoch && !legacy { // fence:F13
		return false
	}
	g.held, g.removed = record, false
	return true
}

// Remove takes in the deletion of the record: the held uid is never served again. The caller stops its dispatchers.
func (g *Gate) Remove() { g.removed = true }
