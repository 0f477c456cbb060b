package file

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// formatVersion is the layout that this package writes. A reader refuses a higher one.
const formatVersion = 1

// The directories of the layout.
const (
	claimsDirectory = "claims"
	sealsDirectory  = "seals"
	dataDirectory   = "data"
)

func claimName(directory string, number uint64) string {
	return filepath.Join(directory, claimsDirectory, fmt.Sprintf("%020d.json", number))
}

func sealName(directory string, incarnation sink.Incarnation) string {
	return filepath.Join(directory, sealsDirectory, fmt.Sprintf("%020d.json", incarnation))
}

// segmentID names a data file: segments of one incarnation are numbered from 1.
type segmentID struct {
	incarnation sink.Incarnation
	number      uint64
	compress    compression
}

func (id segmentID) name(directory string) string {
	return filepath.Join(directory, dataDirectory, fmt.Sprintf("%020d-%06d%s", id.incarnation, id.number, id.compress.suffix()))
}

// parseSegmentID reads the name of a data file, and reports whether it is one.
func parseSegmentID(name string) (segmentID, bool) {
	id := segmentID{compress: compressNone}
	stem, found := strings.CutSuffix(name, compressNone.suffix())
	if !found {
		id.compress = compressZstd
		if stem, found = strings.CutSuffix(name, compressZstd.suffix()); !found {
			return segmentID{}, false
		}
	}
	left, right, found := strings.Cut(stem, "-")
	incarnation, errLeft := strconv.ParseUint(left, 10, 64)
	number, errRight := strconv.ParseUint(right, 10, 64)
	id.incarnation, id.number = sink.Incarnation(incarnation), number
	return id, found && errLeft == nil && errRight == nil && number > 0
}

// segments lists the data files by incarnation, in order.
func segments(d disk, directory string) (map[sink.Incarnation][]segmentID, error) {
	entries, err := d.ReadDir(filepath.Join(directory, dataDirectory))
	if err != nil {
		return nil, err
	}
	out := make(map[sink.Incarnation][]segmentID)
	for _, entry := range entries {
		if id, ok := parseSegmentID(entry.Name()); ok {
			out[id.incarnation] = append(out[id.incarnation], id)
		}
	}
	for _, ids := range out {
		slices.SortFunc(ids, func(a, b segmentID) int { return int(a.number) - int(b.number) })
	}
	return out, nil
}

type spanJSON struct {
	Start changefeed.Key `json:"start"`
	End   changefeed.Key `json:"end"`
}

func toSpanJSON(span changefeed.Span) spanJSON { return spanJSON{Start: span.Start, End: span.End} }

func (s spanJSON) span() changefeed.Span { return changefeed.Span{Start: s.Start, End: s.End} }

type markJSON struct {
	Position change.Position `json:"position"`
	Index    uint32          `json:"index,omitempty"`
}

func toMarkJSON(mark change.Mark) markJSON { return markJSON(mark) }

func (m markJSON) mark() change.Mark { return change.Mark(m) }

type pieceJSON struct {
	spanJSON
	markJSON
}

func toPiecesJSON(pieces []sink.Piece) []pieceJSON {
	out := make([]pieceJSON, 0, len(pieces))
	for _, piece := range pieces {
		out = append(out, pieceJSON{spanJSON: toSpanJSON(piece.Span), markJSON: toMarkJSON(piece.Mark)})
	}
	return out
}

func fromPiecesJSON(in []pieceJSON) []sink.Piece {
	out := make([]sink.Piece, 0, len(in))
	for _, piece := range in {
		out = append(out, sink.Piece{Span: piece.span(), Mark: piece.mark()})
	}
	return out
}

// entry is one numbered file of the claims: a head as it is from here on, or a claim. Its number is the incarnation of
// the claim.
type entry struct {
	Format int         `json:"format"`
	Number uint64      `json:"number"`
	At     string      `json:"at"` // for people
	Head   *sink.Head  `json:"head,omitempty"`
	Claim  *claimEntry `json:"claim,omitempty"`
}

type claimEntry struct {
	UID   changefeed.UID `json:"uid"`
	Epoch fence.Epoch    `json:"epoch"`
	Seq   fence.Seq      `json:"seq"`
	Span  spanJSON       `json:"span"`
	From  markJSON       `json:"from"`
}

func (c *claimEntry) token() fence.Token { return fence.Mint(c.Epoch, c.Seq) }

// ends reports whether the entry, which is later than the claim, takes the right to write from it.
func (e *entry) ends(uid changefeed.UID, span changefeed.Span) bool {
	if e.Head != nil {
		return e.Head.Removed || e.Head.Identity.UID != uid
	}
	return e.Claim.Span.span().Overlaps(span)
}

func readEntry(d disk, directory string, number uint64) (entry, error) {
	name := claimName(directory, number)
	var e entry
	if err := readRecord(d, name, &e); err != nil {
		return entry{}, err
	}
	if e.Number != number || (e.Head == nil) == (e.Claim == nil) || (e.Claim != nil && (!e.Claim.Span.span().Valid() || e.Claim.Epoch == 0)) {
		return entry{}, damaged(name, fmt.Errorf("it is not claim %d", number))
	}
	if e.Format > formatVersion {
		return entry{}, tooNew(name, e.Format)
	}
	return e, nil
}

// seal says where the data of an incarnation ends, for ever.
type seal struct {
	Format      int              `json:"format"`
	Incarnation sink.Incarnation `json:"incarnation"`
	At          string           `json:"at"`      // for people
	Segment     uint64           `json:"segment"` // the last one that holds data; 0: there is none
	Bytes       int64            `json:"bytes"`   // how much of that segment counts; of earlier ones, all
	Pieces      []pieceJSON      `json:"pieces"`  // how far the claim came
	Wrote       []spanJSON       `json:"wrote,omitempty"`
}

// covers reports whether what ends at the offset of the segment lies before the seal.
func (s *seal) covers(segment uint64, end int64) bool {
	return segment < s.Segment || segment == s.Segment && end <= s.Bytes
}

func readSeal(d disk, directory string, incarnation sink.Incarnation) (seal, error) {
	name := sealName(directory, incarnation)
	var s seal
	if err := readRecord(d, name, &s); err != nil {
		return seal{}, err
	}
	if s.Incarnation != incarnation {
		return seal{}, damaged(name, fmt.Errorf("it is not the seal of claim %d", incarnation))
	}
	if s.Format > formatVersion {
		return seal{}, tooNew(name, s.Format)
	}
	return s, nil
}

// readRecord reads a signed record, which is whole since the moment that its name exists.
func readRecord(d disk, name string, into any) error {
	data, err := readSmall(d, name)
	if err != nil {
		return err
	}
	body, err := verify([]byte(strings.TrimSuffix(string(data), "\n")), nil)
	if err != nil {
		return damaged(name, err)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return damaged(name, err)
	}
	return nil
}

func damaged(name string, err error) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkLost, Field: "sink", Value: name, Permanent: true,
		Detail: "is damaged", Cure: "restore the file from a backup, or remove the changefeed and create it anew into another directory", Err: err,
	}
}

func tooNew(name string, format int) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRecordInvalid, Field: "sink", Value: name, Permanent: true,
		Detail: fmt.Sprintf("has format %d, newer than %d", format, formatVersion), Cure: "use a newer cdc-node",
	}
}

// spanSet is a set of keys as spans that neither overlap nor touch, in order.
type spanSet []changefeed.Span

// with returns the set with the span added.
func (s spanSet) with(span changefeed.Span) spanSet {
	for _, have := range s {
		if have.Encloses(span) {
			return s
		}
	}
	parts := append(slices.Clone(s), changefeed.Gaps(span, s)...)
	slices.SortFunc(parts, changefeed.Span.Compare)
	out := parts[:1]
	for _, part := range parts[1:] {
		if last := &out[len(out)-1]; string(last.End) == string(part.Start) {
			last.End = part.End
			continue
		}
		out = append(out, part)
	}
	return out
}

func (s spanSet) overlaps(span changefeed.Span) bool {
	return slices.ContainsFunc(s, span.Overlaps)
}

func (s spanSet) toJSON() []spanJSON {
	var out []spanJSON
	for _, span := range s {
		out = append(out, toSpanJSON(span))
	}
	return out
}

func fromSpansJSON(in []spanJSON) spanSet {
	var out spanSet
	for _, span := range in {
		out = out.with(span.span())
	}
	return out
}
