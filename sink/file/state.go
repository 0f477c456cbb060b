package file

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// state is what the claims up to a number say, together with the seals of those that ended. It is a value: its methods
// return another one.
type state struct {
	last  uint64 // number of the last entry that is in it
	head  sink.Head
	m     sink.Map // marks of a claim that has not ended are those that it began with
	wrote spanSet  // where claims of this uid that ended wrote changes
}

// sealer returns the seal of an incarnation that was ended.
type sealer func(incarnation sink.Incarnation, token fence.Token, initial []sink.Piece) (seal, error)

// ended returns the state after every claim that holds a part of the span has come to its end, as its seal tells. The
// claims still hold their pieces.
func (st state) ended(span changefeed.Span, sealed sealer) (state, error) {
	for _, incarnation := range st.m.Writers(span) {
		var token fence.Token
		for _, held := range st.m.Held() {
			if held.Incarnation == incarnation {
				token = held.Token
			}
		}
		end, err := sealed(incarnation, token, st.m.Pieces(incarnation))
		if err != nil {
			return state{}, err
		}
		for _, piece := range fromPiecesJSON(end.Pieces) {
			if st.m, err = st.m.Advance(incarnation, piece.Span, piece.Mark); err != nil {
				return state{}, fmt.Errorf("file: seal of claim %d: %w", incarnation, err)
			}
		}
		for _, span := range fromSpansJSON(end.Wrote) {
			st.wrote = st.wrote.with(span)
		}
	}
	return st, nil
}

// with returns the state after the entry, which was admitted when it was made.
func (st state) with(e entry, sealed sealer) (state, error) {
	if e.Head != nil {
		return st.withHead(e, sealed)
	}
	claim := sink.Claim{Span: e.Claim.Span.span(), Token: e.Claim.token(), From: change.Mark(e.Claim.From)}
	as := st.head.Identity
	as.UID = e.Claim.UID
	st, err := st.ended(claim.Span, sealed)
	if err != nil {
		return state{}, err
	}
	if st.m, err = st.m.Claim(st.head, as, claim, sink.Incarnation(e.Number)); err != nil {
		return state{}, fmt.Errorf("file: claim %d does not follow from those before: %w", e.Number, err)
	}
	st.last = e.Number
	return st, nil
}

func (st state) withHead(e entry, sealed sealer) (state, error) {
	succeeds := e.Head.Succeeds(st.head)
	if succeeds || e.Head.Removed {
		var err error
		if st, err = st.ended(changefeed.Whole(), sealed); err != nil {
			return state{}, err
		}
		st.m = st.m.Release(st.m.Writers(changefeed.Whole())...)
	}
	if succeeds {
		st.m, st.wrote = sink.Map{}, nil
	}
	st.head, st.last = *e.Head, e.Number
	return st, nil
}

// refresh reads the entries that are new, seals what they ended, and returns the state. A directory that is not there
// is the empty state.
func (s *Sink) refresh() (state, error) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if err := s.checkStillThere(); err != nil {
		return state{}, err
	}
	st, before := s.state, s.state.last
	for {
		e, err := readEntry(s.disk, s.directory, st.last+1)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return state{}, err
		}
		if st, err = st.with(e, s.sealed); err != nil {
			return state{}, err
		}
		s.state = st
	}
	if st.last == 0 {
		return st, s.checkEmpty()
	}
	if st.last != before {
		// Whoever made them may not have come to this yet, and what follows builds on them.
		return st, s.syncDirectories(claimsDirectory)
	}
	return st, nil
}

// checkStillThere forgets the state when its last entry is gone: somebody has removed or replaced the directory.
func (s *Sink) checkStillThere() error {
	if s.state.last == 0 {
		return nil
	}
	_, err := s.disk.Stat(claimName(s.directory, s.state.last))
	if errors.Is(err, fs.ErrNotExist) {
		s.state = state{}
		return nil
	}
	return err
}

// checkEmpty refuses a directory of claims without the first one.
func (s *Sink) checkEmpty() error {
	entries, err := s.disk.ReadDir(filepath.Join(s.directory, claimsDirectory))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, found := range entries {
		if strings.HasSuffix(found.Name(), ".json") {
			return damaged(claimName(s.directory, 1), fmt.Errorf("it is missing, but %s is there", found.Name()))
		}
	}
	return err
}
