package file

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

var (
	_ sink.Syncing    = (*Sink)(nil)
	_ sink.SyncWriter = (*Writer)(nil)
)

// syncsDirectory holds the sync points, a file each.
const syncsDirectory = "syncs"

// syncPoint says that everything up to a position is in the directory, for ever: what is here does not go.
type syncPoint struct {
	Format      int              `json:"format"`
	Position    change.Position  `json:"position"`
	UID         changefeed.UID   `json:"uid"`
	Incarnation sink.Incarnation `json:"incarnation"` // of the claim under which it was recorded
	Epoch       fence.Epoch      `json:"epoch"`
	Seq         fence.Seq        `json:"seq"`
	At          string           `json:"at"` // for people
}

func syncName(directory string, uid changefeed.UID, at change.Position) string {
	return filepath.Join(directory, syncsDirectory, fmt.Sprintf("%020d-%s.json", at, uid))
}

// syncPoints lists the sync points of a creation, in order.
func syncPoints(d disk, directory string, uid changefeed.UID) ([]change.Position, error) {
	entries, err := d.ReadDir(filepath.Join(directory, syncsDirectory))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var out []change.Position
	for _, found := range entries {
		digits, mine := strings.CutSuffix(found.Name(), "-"+string(uid)+".json")
		if at, err := strconv.ParseUint(digits, 10, 64); mine && err == nil {
			out = append(out, change.Position(at))
		}
	}
	slices.Sort(out)
	return out, nil
}

// LastSync implements [sink.Syncing].
func (s *Sink) LastSync(ctx context.Context) (change.Position, error) {
	if err := ctx.Err(); err != nil {
		return 0, s.wrap("read the sync points", err)
	}
	all, err := syncPoints(s.disk, s.directory, s.identity.UID)
	if err != nil || len(all) == 0 {
		return 0, s.wrap("read the sync points", err)
	}
	// Somebody else's may not be durable yet, and its owner goes on from here.
	return all[len(all)-1], s.wrap("read the sync points", s.syncDirectories(syncsDirectory))
}

// Sync implements [sink.SyncWriter]. What the record says stays true, since a log only grows: a writer that was paused right
// before it creates the record, and does so late, says nothing wrong.
func (w *Writer) Sync(ctx context.Context, whole changefeed.Span, at change.Position) error {
	if w.isClosed || w.ended != nil {
		return fmt.Errorf("file: sync: %w", errors.Join(errWriterEnded, w.ended))
	}
	err := w.sync(ctx, whole, at)
	if err == nil || errors.Is(err, sink.ErrApart) || errors.Is(err, sink.ErrSynced) {
		return err
	}
	w.ended = err
	return w.sink.wrap("sync", err)
}

func (w *Writer) sync(ctx context.Context, whole changefeed.Span, at change.Position) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	st, err := w.sink.refresh()
	if err != nil {
		return err
	}
	// How far claims are that have not ended, their segments tell: what a seal would say now.
	if st, err = st.ended(changefeed.Whole(), w.sink.measure); err != nil {
		return err
	}
	if err := st.m.HasReached(whole, at); err != nil { // fence:F24 file
		return err
	}
	if err := w.look(); err != nil { // fence:F24 file
		return err
	}
	w.sink.step(pointSyncLooked)
	return w.sink.record(syncPoint{
		Format: formatVersion, Position: at, UID: w.sink.identity.UID, Incarnation: w.incarnation,
		Epoch: w.token.Epoch(), Seq: w.token.Seq(),
	})
}

// record creates the sync point's file, which must not exist yet, and deletes the oldest.
func (s *Sink) record(point syncPoint) error {
	point.At = s.now().UTC().Format(time.RFC3339Nano)
	data, err := sign(point, nil)
	if err != nil {
		return err
	}
	directory := filepath.Join(s.directory, syncsDirectory)
	if err := s.disk.Mkdir(directory); err == nil {
		err = s.disk.SyncDir(s.directory)
		if err != nil {
			return err
		}
	} else if !errors.Is(err, fs.ErrExist) {
		return err
	}
	err = createWhole(s.disk, syncName(s.directory, point.UID, point.Position), s.nonce(), append(data, '\n'))
	if errors.Is(err, fs.ErrExist) { // fence:F24 file
		return sink.ErrSynced
	}
	if err != nil {
		return err
	}
	removeTemporaries(s.disk, directory, s.now().Add(-temporaryAgeMax))
	all, err := syncPoints(s.disk, s.directory, point.UID)
	if err != nil {
		return nil //nolint:nilerr // it is recorded; old ones go next time
	}
	for _, old := range all[:max(len(all)-sink.SyncPointsMax, 0)] {
		_ = s.disk.Remove(syncName(s.directory, point.UID, old)) //nolint:errcheck // tried again with the next one
	}
	return nil
}

// Cut has the reader leave out everything above a sync point, 0 for the newest, and returns its position. It is called
// before the first change is read. A position that was not recorded is refused.
func (r *Reader) Cut(at change.Position) (change.Position, error) {
	all, err := syncPoints(r.disk, r.config.Directory, r.config.UID)
	if err != nil {
		return 0, fmt.Errorf("file: read: %w", diskFault(r.config.Directory, err))
	}
	if at == 0 && len(all) > 0 {
		at = all[len(all)-1]
	}
	if at == 0 || !slices.Contains(all, at) {
		fault := &changefeed.Fault{
			Code: changefeed.CodeNotFound, Field: "sync point", Value: at.String(), Detail: "is not recorded here",
			Cure: "set the option sync_point_interval of the changefeed, and wait for the first one",
		}
		if at == 0 {
			fault.Value = "last"
		}
		if len(all) > 0 {
			fault.Cure = fmt.Sprintf("name one of the %d from %d to %d, or last", len(all), all[0], all[len(all)-1])
		}
		return 0, fault
	}
	r.cut = at
	return at, nil
}

// checkCut makes sure at the end that everything up to the cut was there.
func (r *Reader) checkCut() error {
	if reached := r.Resolved(); r.cut != 0 && reached < r.cut {
		return &changefeed.Fault{
			Code: changefeed.CodeSinkLost, Field: "sink", Value: "file://" + r.config.Directory, Permanent: true,
			Detail: fmt.Sprintf("recorded the sync point %d, and has everything only up to %d", r.cut, reached),
			Cure:   "restore the files that are missing",
		}
	}
	return nil
}
