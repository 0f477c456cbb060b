package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"slices"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/internal/wait"
	"fencerow/sink"
)

// ReadMode says what a reader does when it has read all that there is.
type ReadMode uint8

// The modes. The zero value is invalid.
const (
	ReadPresent ReadMode = iota + 1 // ends with io.EOF
	ReadFollow                      // waits for more, and holds changes back until every span has come as far
)

// pollInterval is how often a following reader looks for more.
const pollInterval = 100 * time.Millisecond

// ReaderConfig says what is read.
type ReaderConfig struct {
	Directory string
	UID       changefeed.UID // empty: the newest creation of the changefeed that the directory belongs to
	Mode      ReadMode

	overlap changefeed.Span // only claims that overlap it are read
}

// Reader yields the changes that a reader of the directory is entitled to, merged over spans by (position, index). It
// never drops one that is there twice. It writes nothing, and is used by one goroutine.
//
// What an earlier claim of a key wrote comes before what a later claim wrote, so the order per key does not depend on
// positions. Pages of a snapshot follow each other by key, not by position.
type Reader struct {
	config  ReaderConfig
	disk    disk
	state   state
	pending []*stream // in order of claims; something has to come before
	active  []*stream
	current *stream         // the line that was returned last came from it
	stale   bool            // streams that wait have to be looked at again
	cut     change.Position // nothing above it is yielded; 0: no cut
}

// Item is one change.
type Item struct {
	Line     []byte // one JSON object, without line end; valid until the next call
	Position change.Position
	Index    uint32
}

// OpenReader opens a reader. A directory that holds nothing of ours is the fault sink.lost.
func OpenReader(config ReaderConfig) (*Reader, error) {
	r, err := openReader(osDisk{}, config)
	if err != nil {
		return nil, fmt.Errorf("file: read: %w", diskFault(config.Directory, err))
	}
	return r, nil
}

func openReader(d disk, config ReaderConfig) (*Reader, error) {
	if config.Mode != ReadPresent && config.Mode != ReadFollow {
		return nil, fmt.Errorf("file: read mode %d is unknown", config.Mode)
	}
	r := &Reader{config: config, disk: d}
	if config.UID == "" {
		if err := r.newest(); err != nil {
			return nil, err
		}
	}
	if err := r.refresh(); err != nil {
		return nil, err
	}
	if r.state.last == 0 {
		return nil, &changefeed.Fault{
			Code: changefeed.CodeSinkLost, Field: "sink", Value: "file://" + config.Directory, Permanent: true,
			Detail: "holds no changefeed's files", Cure: "name the directory that the changefeed writes to",
		}
	}
	return r, nil
}

// Identity returns whose changes are read.
func (r *Reader) Identity() sink.Identity {
	identity := r.state.head.Identity
	identity.UID = r.config.UID
	return identity
}

// newest finds the last creation in the claims.
func (r *Reader) newest() error {
	for number := uint64(1); ; number++ {
		e, err := readEntry(r.disk, r.config.Directory, number)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		if e.Head != nil {
			r.config.UID = e.Head.Identity.UID
		}
	}
}

// refresh takes in new claims, up to one that has ended others whose seals are not there yet: it has written nothing.
// Seals are read before segments are listed, so that every segment that a seal names is seen.
func (r *Reader) refresh() error {
	for {
		e, err := readEntry(r.disk, r.config.Directory, r.state.last+1)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		next, err := r.state.with(e, r.sealed)
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		r.state = next
		if e.Claim != nil && e.Claim.UID == r.config.UID && e.Claim.Span.span().Overlaps(r.config.overlap) {
			r.addStream(&e)
		}
	}
	all, err := segments(r.disk, r.config.Directory)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for st := range r.streams() {
		st.segments, st.waits = all[st.incarnation], false
		if st.reader != nil {
			// What was read ahead is older than what is known now, and would end too early.
			st.reader.seek(st.reader.offset)
		}
	}
	r.stale = true
	return nil
}

// sealed is the sealer of a reader, who makes no seals.
func (r *Reader) sealed(incarnation sink.Incarnation, _ fence.Token, _ []sink.Piece) (seal, error) {
	found, err := readSeal(r.disk, r.config.Directory, incarnation)
	if err != nil {
		return seal{}, err
	}
	for st := range r.streams() {
		if st.incarnation == incarnation {
			st.seal = &found
		}
	}
	return found, nil
}

// streams yields those that are not finished.
func (r *Reader) streams() iter.Seq[*stream] {
	return func(yield func(*stream) bool) {
		for _, list := range [][]*stream{r.active, r.pending} {
			for _, st := range list {
				if !yield(st) {
					return
				}
			}
		}
	}
}

func (r *Reader) addStream(e *entry) {
	st := &stream{
		incarnation: sink.Incarnation(e.Number), span: e.Claim.Span.span(), token: e.Claim.token(),
		pieces: r.state.m,
	}
	// The last that held a part comes after all that held it before, so the last for each part is enough.
	open := []changefeed.Span{st.span}
	for _, list := range [][]*stream{r.pending, r.active} {
		for _, before := range slices.Backward(list) {
			left := subtract(open, before.span)
			if len(left) != len(open) || !slices.EqualFunc(left, open, changefeed.Span.Equal) {
				st.from = append(st.from, before)
			}
			open = left
		}
	}
	r.pending = append(r.pending, st)
}

func subtract(spans []changefeed.Span, minus changefeed.Span) []changefeed.Span {
	var out []changefeed.Span
	for _, span := range spans {
		out = append(out, span.Subtract(minus)...)
	}
	return out
}

// Next returns the next change. io.EOF: there is no more, now in mode ReadPresent, ever in mode ReadFollow.
func (r *Reader) Next(ctx context.Context) (Item, error) {
	item, err := r.next(ctx)
	if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
		err = fmt.Errorf("file: read: %w", diskFault(r.config.Directory, err))
	}
	return item, err
}

func (r *Reader) next(ctx context.Context) (Item, error) {
	for {
		if err := ctx.Err(); err != nil {
			return Item{}, err
		}
		if err := r.fill(); err != nil {
			return Item{}, err
		}
		st := r.first()
		if st != nil && (r.config.Mode == ReadPresent || st.position <= r.Resolved()) {
			item := Item{Position: st.position, Index: st.index}
			var err error
			item.Line, err = st.take()
			r.current = st
			if err == nil && r.cut != 0 && item.Position > r.cut {
				continue
			}
			return item, err
		}
		if r.isOver() {
			return Item{}, cmp.Or(r.checkCut(), io.EOF)
		}
		if !wait.For(ctx, pollInterval) {
			return Item{}, ctx.Err()
		}
		if err := r.refresh(); err != nil {
			return Item{}, err
		}
	}
}

// fill reads on in every stream that has no change at hand and may go on.
func (r *Reader) fill() error {
	if !r.stale && r.current != nil && r.current.isReady() {
		return nil
	}
	r.stale = false
	for {
		r.activate()
		finished := false
		for _, st := range r.active {
			if st.isReady() || st.waits {
				continue
			}
			if err := st.fill(r.disk, r.config.Directory); err != nil {
				return err
			}
			st.waits = !st.isReady()
			finished = finished || st.finished
		}
		if !finished {
			return nil
		}
		r.active = slices.DeleteFunc(r.active, func(st *stream) bool { return st.finished })
	}
}

// activate opens the streams before which everything was taken.
func (r *Reader) activate() {
	r.pending = slices.DeleteFunc(r.pending, func(st *stream) bool {
		if !st.isOpen() {
			return false
		}
		st.from = nil
		r.active = append(r.active, st)
		return true
	})
}

// first returns the stream with the next change in order, or nil.
func (r *Reader) first() *stream {
	var first *stream
	for _, st := range r.active {
		if st.isReady() && (first == nil || st.before(first)) {
			first = st
		}
	}
	return first
}

// isOver reports whether nothing more can come.
func (r *Reader) isOver() bool {
	if r.config.Mode == ReadPresent {
		return true
	}
	head := r.state.head
	return len(r.active)+len(r.pending) == 0 && (head.Removed || head.Identity.UID != r.config.UID)
}

// Resolved returns the position up to which all spans that were ever claimed have been read: what comes later is above
// it. Streams with a change at hand don't hold it back, since that change is itself compared.
func (r *Reader) Resolved() change.Position {
	lowest := ^change.Position(0)
	live := make(map[sink.Incarnation]bool)
	for st := range r.streams() {
		live[st.incarnation] = true
		if !st.isReady() {
			lowest = min(lowest, st.reached())
		}
	}
	for _, held := range r.state.m.Held() {
		if !live[held.Incarnation] && r.state.head.Identity.UID == r.config.UID {
			lowest = min(lowest, held.Mark.Whole())
		}
	}
	return lowest
}

// Close ends the reader.
func (r *Reader) Close() error {
	var errs []error
	for st := range r.streams() {
		errs = append(errs, st.close())
	}
	r.active, r.pending = nil, nil
	return errors.Join(errs...)
}
