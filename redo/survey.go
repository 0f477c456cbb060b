package redo

import (
	"context"
	"errors"
	"fmt"
	"io"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
	"fencerow/sink/file"
)

// Survey is what a log holds.
type Survey struct {
	About      About
	Identity   sink.Identity
	Whole      changefeed.Span // the key space of the source
	Head       sink.Head
	Map        sink.Map // how far each part of the key space is
	Batches    int
	Changes    int
	Bytes      int64
	Page       change.Position // highest position of a page of a snapshot; 0: there is none
	Retired    []sink.Piece    // where up to the way is not in the log any more
	SyncPoints []change.Position
}

// Progress is how far a log was read.
type Progress struct {
	Doing string
	Read  int64 // bytes
	Size  int64
}

// surveyor reads a log, and goes on with what comes to it.
type surveyor struct {
	reader *file.LogReader
	tell   func(Progress)
	size   int64
	Survey
}

// Look reads all of a log, whether it is written to or not.
func Look(ctx context.Context, directory string, tell func(Progress)) (found Survey, err error) {
	s, err := openSurvey(directory, tell)
	if err != nil {
		return Survey{}, err
	}
	defer func() { err = errors.Join(err, s.reader.Close()) }()
	if err := s.read(ctx); err != nil {
		return Survey{}, err
	}
	return s.Survey, nil
}

func openSurvey(directory string, tell func(Progress)) (*surveyor, error) {
	about, err := ReadAbout(directory)
	if err != nil {
		return nil, err
	}
	whole, err := about.whole()
	if err != nil {
		return nil, err
	}
	reader, err := file.OpenLog(directory)
	if err != nil {
		return nil, ofLog(err)
	}
	if tell == nil {
		tell = func(Progress) {}
	}
	s := &surveyor{reader: reader, tell: tell, Survey: Survey{About: about, Identity: reader.Identity(), Whole: whole}}
	if about.UID != s.Identity.UID {
		// Crash between the head of a new creation and this file: its owner stores it before anything is claimed.
		return nil, errors.Join(&changefeed.Fault{
			Code: changefeed.CodeRecordInvalid, Field: "directory", Value: directory, Permanent: true,
			Detail: fmt.Sprintf("is of uid %s, and its %s is of uid %s", s.Identity.UID, aboutName, about.UID),
			Cure:   "let the changefeed start once, or restore the file",
		}, reader.Close())
	}
	return s, nil
}

// read reads to the end as it is now.
func (s *surveyor) read(ctx context.Context) error {
	var err error
	if s.size, err = s.reader.Size(); err != nil {
		return ofLog(err)
	}
	for {
		entries, err := s.reader.Next(ctx)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return ofLog(err)
		}
		for i := range entries {
			s.take(&entries[i])
		}
		s.tell(Progress{Doing: "reading the log", Read: s.reader.Read(), Size: s.size})
	}
	s.Head = s.reader.Head()
	if s.Map, err = s.reader.Marks(); err != nil {
		return ofLog(err)
	}
	s.SyncPoints, err = s.reader.SyncPoints()
	return ofLog(err)
}

func (s *surveyor) take(entry *file.Entry) {
	if entry.Retired {
		s.Retired = append(s.Retired, sink.Piece{Span: entry.Span, Mark: entry.To})
		return
	}
	s.Batches++
	s.Changes += len(entry.Changes)
	s.Bytes = s.reader.Read()
	if entry.Snapshot {
		s.Page = max(s.Page, entry.To.Position)
	}
}

// Consistent returns the highest position up to which every part of the key space is complete, or why there is none.
func (s *Survey) Consistent() (change.Position, error) {
	none := func(detail string, of any) (change.Position, error) {
		return 0, &changefeed.Fault{
			Code: changefeed.CodeSinkBehind, Field: "log", Value: s.Identity.Changefeed.String(), Permanent: true,
			Detail: fmt.Sprintf("has no consistent position: "+detail, of), Cure: "there is one once the changefeed has caught up over all spans",
		}
	}
	held := s.Map.Held()
	if gaps := changefeed.Gaps(s.Whole, spansOf(s.Map)); len(gaps) > 0 {
		return none("nobody ever wrote %v", gaps[0])
	}
	at := held[0].Mark
	for _, piece := range held {
		if (piece.Mark == change.Mark{}) {
			return none("the snapshot of %v was not read to its end", piece.Span)
		}
		at = change.Earlier(at, piece.Mark)
	}
	if at.Whole() < s.Page {
		return none("a page of a snapshot was read at %d, and not all spans have come there", s.Page)
	}
	return at.Whole(), nil
}

// ReachesTo returns nil if the log has everything between the pieces and what it holds, or what it has no longer.
func (s *Survey) ReachesTo(pieces []sink.Piece) error {
	for _, gone := range s.Retired {
		for _, piece := range pieces {
			if part, overlaps := piece.Span.Intersect(gone.Span); overlaps && piece.Mark.Before(gone.Mark) {
				return &changefeed.Fault{
					Code: changefeed.CodeSinkLost, Field: "log", Value: s.Identity.Changefeed.String(), Permanent: true,
					Detail: fmt.Sprintf("no longer has what is below %v in %v, and the target is at %v there: files were deleted by the option %s",
						gone.Mark, part, piece.Mark, OptionRetain),
					Cure: "apply it to a target that has come as far, such as the changefeed's own or a backup of it",
				}
			}
		}
	}
	return nil
}
