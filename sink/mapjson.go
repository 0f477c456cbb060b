package sink

import (
	"encoding/json"
	"fmt"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
)

// mapBytesMax bounds the JSON of a map that is read, so that a broken record can't take all memory.
const mapBytesMax = 64 << 20

type heldJSON struct {
	Start       changefeed.Key  `json:"start"`
	End         changefeed.Key  `json:"end,omitempty"`
	Position    change.Position `json:"position"`
	Index       uint32          `json:"index,omitempty"`
	Epoch       fence.Epoch     `json:"epoch"`
	Seq         fence.Seq       `json:"seq"`
	Incarnation Incarnation     `json:"incarnation,omitempty"`
}

// MarshalJSON writes the map as an array of pieces, in order.
func (m Map) MarshalJSON() ([]byte, error) {
	out := make([]heldJSON, 0, len(m.held))
	for _, piece := range m.held {
		out = append(out, heldJSON{
			Start: piece.Span.Start, End: piece.Span.End,
			Position: piece.Mark.Position, Index: piece.Mark.Index,
			Epoch: piece.Token.Epoch(), Seq: piece.Token.Seq(), Incarnation: piece.Incarnation,
		})
	}
	return json.Marshal(out)
}

// UnmarshalJSON reads what MarshalJSON writes, and refuses pieces that can't be a map.
func (m *Map) UnmarshalJSON(data []byte) error {
	if len(data) > mapBytesMax {
		return fmt.Errorf("sink: map of %d bytes, at most %d", len(data), mapBytesMax)
	}
	var in []heldJSON
	if err := json.Unmarshal(data, &in); err != nil {
		return fmt.Errorf("sink: map: %w", err)
	}
	held := make([]Held, 0, len(in))
	for _, piece := range in {
		held = append(held, Held{
			Piece: Piece{
				Span: changefeed.Span{Start: piece.Start, End: piece.End},
				Mark: change.Mark{Position: piece.Position, Index: piece.Index},
			},
			Token: fence.Mint(piece.Epoch, piece.Seq), Incarnation: piece.Incarnation,
		})
	}
	read, err := NewMap(held)
	if err != nil {
		return err
	}
	*m = read
	return nil
}
