package dispatcher

import (
	"fencerow/message"
	"fencerow/record"
)

// Finals returns how far dispatchers came that have stopped, as it is recorded. Where that is not known, because the
// outcome of the last write is not, there is none: the span goes on from an older position.
func Finals(statuses []message.Status) []record.Final {
	var out []record.Final
	for i := range statuses {
		if s := &statuses[i]; s.Known {
			out = append(out, record.Final{
				Start: s.Span.Start, End: s.Span.End, Epoch: s.Token.Epoch(), Seq: s.Token.Seq(),
				Position: s.Mark.Position, Index: s.Mark.Index,
			})
		}
	}
	return out
}
