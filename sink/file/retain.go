package file

import (
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"

	"go.uber.org/zap"

	"fencerow/sink"
)

// retire deletes whole segments that are older than the option retain: of claims that are sealed, and, of the writer
// that calls, those before its current one. Positions don't go with them: seals and the headers of later segments hold
// them. The oldest goes first, so that what is left of a claim is always its end. What can't be deleted now is tried
// again at the next claim or rotation: it harms nobody. Of a log, a segment goes only when nobody needs what is in it.
func (s *Sink) retire(ctx context.Context, mine sink.Incarnation, current uint64) {
	if s.settings.retain == 0 {
		return
	}
	all, err := segments(s.disk, s.directory)
	if err != nil {
		s.logger.Warn("can't list files to retire", zap.Error(err))
		return
	}
	before := s.now().Add(-s.settings.retain)
	needed := s.needed(ctx)
	for _, incarnation := range slices.Sorted(maps.Keys(all)) {
		if incarnation != mine {
			if _, err := s.disk.Stat(sealName(s.directory, incarnation)); err != nil {
				continue // it may still be written to, or has to be measured
			}
		}
		for _, id := range all[incarnation] {
			info, err := s.disk.Stat(id.name(s.directory))
			if err != nil || !info.ModTime().Before(before) || incarnation == mine && id.number >= current {
				break
			}
			if is, err := needed(id); is || err != nil {
				if err != nil {
					s.logger.Warn("can't tell whether a file is needed, it stays", zap.Error(err))
				}
				break
			}
			if err := s.disk.Remove(id.name(s.directory)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				s.logger.Warn("can't retire a file", zap.Error(err))
				return
			}
		}
	}
}
