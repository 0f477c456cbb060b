package sqlsink

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// headRow is a row of heads.
type headRow struct {
	sink.Head
	id     int64            // names the changefeed in the other tables; 0 if there is no row
	target string           // the table that the positions speak of
	next   sink.Incarnation // never used before
	rest   sink.Map         // pieces that nobody may write until they are claimed again
}

// claimRow is a row of claims.
type claimRow struct {
	incarnation sink.Incarnation
	backend     string // the connection that writes under it
	held        []sink.Held
}

// partRow is one piece in claims.parts.
type partRow struct {
	Start    changefeed.Key  `json:"start"`
	End      changefeed.Key  `json:"end,omitempty"`
	Position change.Position `json:"position"`
	Index    uint32          `json:"index,omitempty"`
}

// reader reads the cells of a row one after another, and keeps the first fault.
type reader struct {
	row []string
	err error
}

func (r *reader) text() string {
	if len(r.row) == 0 {
		r.fail(fmt.Errorf("sink sql: a column is missing"))
		return ""
	}
	cell := r.row[0]
	r.row = r.row[1:]
	return cell
}

func (r *reader) fail(err error) {
	if r.err == nil {
		r.err = err
	}
}

func (r *reader) number(bits int) uint64 {
	value, err := strconv.ParseUint(r.text(), 10, bits)
	if err != nil {
		r.fail(fmt.Errorf("sink sql: a number can't be read: %w", err))
	}
	return value
}

func (r *reader) bytes() []byte {
	value, err := hex.DecodeString(r.text())
	if err != nil {
		r.fail(fmt.Errorf("sink sql: bytes can't be read: %w", err))
	}
	return value
}

// readHead decodes what headColumns returns.
func readHead(row []string) (headRow, error) {
	r := reader{row: row}
	out := headRow{id: int64(r.number(63))}
	out.Identity.Cluster = r.text()
	out.Identity.Changefeed = changefeed.ID{Namespace: r.text(), Name: r.text()}
	out.Identity.UID = changefeed.UID(r.text())
	out.Floor = fence.Epoch(r.number(63))
	out.Removed = r.number(1) == 1
	out.target = r.text()
	out.next = sink.Incarnation(r.number(63))
	if rest := r.text(); rest != "" && r.err == nil {
		r.fail(json.Unmarshal([]byte(rest), &out.rest))
	}
	if r.err == nil && (out.id == 0 || !out.Exists() || out.next == 0) {
		r.fail(unexpected("a head", row))
	}
	return out, r.err
}

// readClaim decodes what claimColumns returns.
func readClaim(row []string) (claimRow, error) {
	r := reader{row: row}
	out := claimRow{incarnation: sink.Incarnation(r.number(63))}
	token := fence.Mint(fence.Epoch(r.number(63)), fence.Seq(r.number(63)))
	whole := sink.Piece{Span: changefeed.Span{Start: r.bytes(), End: r.bytes()}}
	whole.Mark = change.Mark{Position: change.Position(r.number(64)), Index: uint32(r.number(32))}
	parts := r.text()
	out.backend = r.text()
	if r.err != nil {
		return claimRow{}, r.err
	}
	pieces := []sink.Piece{whole}
	if parts != "" {
		var err error
		if pieces, err = decodeParts(parts, whole.Span); err != nil {
			return claimRow{}, err
		}
	}
	for _, piece := range pieces {
		out.held = append(out.held, sink.Held{Piece: piece, Token: token, Incarnation: out.incarnation})
	}
	return out, nil
}

func decodeParts(text string, whole changefeed.Span) ([]sink.Piece, error) {
	var in []partRow
	if err := json.Unmarshal([]byte(text), &in); err != nil {
		return nil, fmt.Errorf("sink sql: the parts of a claim can't be read: %w", err)
	}
	var out []sink.Piece
	var spans []changefeed.Span
	for _, part := range in {
		span := changefeed.Span{Start: part.Start, End: part.End}
		spans = append(spans, span)
		out = append(out, sink.Piece{Span: span, Mark: change.Mark{Position: part.Position, Index: part.Index}})
	}
	if err := changefeed.CheckCover(whole, spans); err != nil {
		return nil, fmt.Errorf("sink sql: the parts of a claim are not its span: %w", err)
	}
	return out, nil
}

// encodeMarks returns the lowest mark of a claim's pieces, and the pieces themselves where they are several.
func encodeMarks(pieces []sink.Piece) (lowest change.Mark, parts any, err error) {
	lowest = pieces[0].Mark
	if len(pieces) == 1 {
		return lowest, nil, nil
	}
	rows := make([]partRow, 0, len(pieces))
	for _, piece := range pieces {
		lowest = change.Earlier(lowest, piece.Mark)
		rows = append(rows, partRow{
			Start: piece.Span.Start, End: piece.Span.End, Position: piece.Mark.Position, Index: piece.Mark.Index,
		})
	}
	text, err := json.Marshal(rows)
	if err != nil {
		return change.Mark{}, nil, fmt.Errorf("sink sql: encode the parts of a claim: %w", err)
	}
	return lowest, string(text), nil
}

// encodeRest returns the pieces without writer, nil if there are none.
func encodeRest(held sink.Map) (any, error) {
	rest := held.Rest()
	if len(rest.Held()) == 0 {
		return nil, nil
	}
	text, err := json.Marshal(rest)
	if err != nil {
		return nil, fmt.Errorf("sink sql: encode the pieces without a writer: %w", err)
	}
	return string(text), nil
}

// state is what a target holds of one changefeed.
type state struct {
	head   headRow
	claims []claimRow
	held   sink.Map
}

// readState decodes the rows of claims, beside a head.
func readState(head headRow, rows [][]string) (*state, error) {
	out := &state{head: head}
	held := head.rest.Held()
	for _, row := range rows {
		claim, err := readClaim(row)
		if err != nil {
			return nil, broken("claims", err)
		}
		out.claims = append(out.claims, claim)
		held = append(held, claim.held...)
	}
	var err error
	if out.held, err = sink.NewMap(held); err != nil {
		return nil, broken("claims", err)
	}
	return out, nil
}

// backends returns the connections that write under some claims.
func (s *state) backends(of []sink.Incarnation) []string {
	var out []string
	for _, claim := range s.claims {
		for _, n := range of {
			if claim.incarnation == n && claim.backend != "" {
				out = append(out, claim.backend)
			}
		}
	}
	return out
}
