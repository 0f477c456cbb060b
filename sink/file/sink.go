package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// Config is what a Sink is opened with.
type Config struct {
	Identity  sink.Identity
	Directory string             // absolute; created by the first Raise, but not its parent
	Options   changefeed.Options // those of other kinds are passed over
	Logger    *zap.Logger
	Now       func() time.Time // for rotation, retention and what people read; nil: the system's clock
	Log       *Log             // nil: the directory is what the changefeed writes to, and nobody's log
}

// Sink is one changefeed's directory as one node sees it.
type Sink struct {
	identity  sink.Identity
	directory string
	settings  settings
	logger    *zap.Logger
	now       func() time.Time
	disk      disk
	log       *Log
	// hook, in tests, is called at every point between two steps. It may wait there, or panic, as a crash would.
	hook func(point)

	mutex sync.Mutex
	state state
}

// point names a moment between two steps, for tests that pause or crash there.
type point string

const (
	pointClaimRead    point = "claim: the claims were read, the new one is not there"
	pointClaimMade    point = "claim: it is there, nothing is sealed"
	pointMeasured     point = "seal: the length was read, the seal is not there"
	pointClaimSealed  point = "claim: what it ended is sealed"
	pointRaiseRead    point = "raise: the claims were read, the new head is not there"
	pointWriteBegin   point = "write: found current, nothing is written"
	pointWriteDone    point = "write: the batch is written, not synced"
	pointWriteSynced  point = "write: synced, before the look"
	pointWriteLooked  point = "write: looked, before the commit mark"
	pointWriteCounted point = "write: the commit mark is there"
	pointSyncLooked   point = "sync: found current, the record is not there"
)

func (s *Sink) step(p point) {
	if s.hook != nil {
		s.hook(p)
	}
}

// Open returns the sink. It does no I/O.
func Open(config Config) (*Sink, error) {
	settings, err := parseSettings(config.Options)
	if err != nil {
		return nil, err
	}
	if !filepath.IsAbs(config.Directory) {
		return nil, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "sink", Value: fmt.Sprintf("%.200q", config.Directory), Permanent: true,
			Detail: "is not an absolute directory", Cure: "write file:///absolute/directory",
		}
	}
	s := &Sink{
		identity: config.Identity, directory: filepath.Clean(config.Directory), settings: settings,
		logger: config.Logger, now: config.Now, disk: osDisk{}, log: config.Log,
	}
	if s.logger == nil {
		s.logger = zap.NewNop()
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

func (s *Sink) nonce() string { return uuid.NewString() }

// Raise implements [sink.Sink].
func (s *Sink) Raise(ctx context.Context, epoch fence.Epoch, known sink.Known) error {
	err := s.changeHead(ctx, func(head sink.Head) (sink.Head, error) {
		return head.Raise(s.identity, epoch, known)
	})
	return s.wrap("raise", err)
}

// Remove implements [sink.Sink]. The data and the claims stay: readers may not be done with them.
func (s *Sink) Remove(ctx context.Context, epoch fence.Epoch) error {
	err := s.changeHead(ctx, func(head sink.Head) (sink.Head, error) {
		return head.Remove(s.identity, epoch)
	})
	return s.wrap("remove", err)
}

// Close implements [sink.Sink].
func (s *Sink) Close() error { return nil }

func (s *Sink) wrap(doing string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("file: %s: %w", doing, diskFault(s.directory, err))
}

// changeHead makes an entry with the head that change returns. Losing the number to somebody else means that there is
// something new to read, so it is tried again until the context ends.
func (s *Sink) changeHead(ctx context.Context, change func(sink.Head) (sink.Head, error)) error {
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		st, err := s.refresh()
		if err != nil {
			return err
		}
		next, err := change(st.head)
		if err != nil || next == st.head {
			return err
		}
		if st.last == 0 {
			if err := s.makeDirectories(); err != nil {
				return err
			}
		}
		removeTemporaries(s.disk, filepath.Join(s.directory, claimsDirectory), s.now().Add(-temporaryAgeMax))
		removeTemporaries(s.disk, filepath.Join(s.directory, sealsDirectory), s.now().Add(-temporaryAgeMax))
		s.step(pointRaiseRead)
		err = s.append(entry{Number: st.last + 1, Head: &next})
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return err
		}
		_, err = s.refresh() // seals what a removed or succeeded uid wrote
		return err
	}
}

// temporaryAgeMax is far longer than anybody takes between creating a temporary file and its link.
const temporaryAgeMax = time.Hour

// append makes the entry durable, or fails with fs.ErrExist if its number is taken.
func (s *Sink) append(e entry) error {
	e.Format, e.At = formatVersion, s.now().UTC().Format(time.RFC3339Nano)
	data, err := sign(e, nil)
	if err != nil {
		return err
	}
	return createWhole(s.disk, claimName(s.directory, e.Number), s.nonce(), append(data, '\n'))
}

// makeDirectories makes the directory and what it needs below. Its parent must be there: creating that as well would
// hide a file system that isn't mounted.
func (s *Sink) makeDirectories() error {
	for _, directory := range []string{
		s.directory,
		filepath.Join(s.directory, sealsDirectory), filepath.Join(s.directory, dataDirectory), filepath.Join(s.directory, claimsDirectory),
	} {
		if err := s.disk.Mkdir(directory); err != nil && !errors.Is(err, fs.ErrExist) {
			return err
		}
		if err := s.disk.SyncDir(filepath.Dir(directory)); err != nil {
			return err
		}
	}
	return nil
}

// Claim implements [sink.Sink].
func (s *Sink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	w, err := s.claim(ctx, claim)
	if err != nil {
		return nil, s.wrap("claim "+claim.Token.String(), err)
	}
	return w, nil
}

func (s *Sink) claim(ctx context.Context, claim sink.Claim) (*Writer, error) {
	before, number, err := s.takeNumber(ctx, claim)
	if err != nil {
		return nil, err
	}
	s.step(pointClaimMade)
	// Crash here: the earlier writers are shut out, and not sealed. Whoever reads this entry next seals them.
	before, err = before.ended(claim.Span, s.sealed)
	if err != nil {
		return nil, err
	}
	incarnation := sink.Incarnation(number)
	// Only now are the marks final, so only now can they be held against the stored checkpoint.
	after, err := before.m.Claim(before.head, s.identity, claim, incarnation)
	if err != nil {
		return nil, err
	}
	s.step(pointClaimSealed)
	s.retire(ctx, 0, 0)
	return newWriter(s, claim, incarnation, state{last: number, head: before.head, m: after, wrote: before.wrote}), nil
}

// takeNumber creates the claim's entry after everything that was there, and returns the state before it.
func (s *Sink) takeNumber(ctx context.Context, claim sink.Claim) (state, uint64, error) {
	floorless := claim
	floorless.Floor = 0 // the marks of claims that have not ended are not known yet
	for {
		if err := ctx.Err(); err != nil {
			return state{}, 0, err
		}
		st, err := s.refresh()
		if err != nil {
			return state{}, 0, err
		}
		if _, err := st.m.Claim(st.head, s.identity, floorless, sink.Incarnation(st.last+1)); err != nil { // fence:F22 file
			return state{}, 0, err
		}
		if st.head.Floor.OlderThan(claim.Token.Epoch()) { // fence:F26 file
			return state{}, 0, s.otherDirectory(st.head.Floor, claim.Token.Epoch())
		}
		s.step(pointClaimRead)
		err = s.append(entry{Number: st.last + 1, Claim: &claimEntry{
			UID: s.identity.UID, Epoch: claim.Token.Epoch(), Seq: claim.Token.Seq(), Span: toSpanJSON(claim.Span), From: toMarkJSON(claim.From),
		}})
		if errors.Is(err, fs.ErrExist) {
			continue // the number decides: read what it says, and check again
		}
		return st, st.last + 1, err
	}
}

// otherDirectory is the fault of a token whose epoch was never raised here. A maintainer raises the floor before it
// places anything, so it raised it in another directory: this path isn't the same on every node.
func (s *Sink) otherDirectory(floor, epoch fence.Epoch) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkLost, Field: "sink", Value: "file://" + s.directory, Permanent: true,
		Detail: fmt.Sprintf("holds floor %d, although the owner of epoch %d has raised it: it is not the same directory on every node", floor, epoch),
		Cure:   "mount one shared file system at this path on every node",
	}
}
