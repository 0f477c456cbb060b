package sqltest

import (
	"bytes"
	"context"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/sink"
	"fencerow/sink/sinktest"
)

// DataTable is the table that the conformance suite of sinks writes when its pairs are taken for rows: of two texts, of which
// the first is the key.
const DataTable = "data"

// AsTables makes a sink of tables look like one of key-value pairs to the conformance suite: each pair is a row.
func AsTables(inner sink.Sink) sink.Sink { return &tablesSink{Sink: inner, of: dataRelation()} }

func dataRelation() *change.Relation {
	return &change.Relation{Schema: "public", Name: DataTable, Columns: []change.Column{
		{Name: "key", Type: "text", Key: 1}, {Name: "value", Type: "text", Null: true},
	}}
}

type tablesSink struct {
	sink.Sink
	of *change.Relation
}

// Claim implements [sink.Sink].
func (s *tablesSink) Claim(ctx context.Context, claim sink.Claim) (sink.Writer, error) {
	claim.Span = toTable(claim.Span)
	w, err := s.Sink.Claim(ctx, claim)
	if err != nil {
		return nil, err
	}
	return &tablesWriter{Writer: w, of: s.of}, nil
}

// LastSync implements [sink.Syncing].
func (s *tablesSink) LastSync(ctx context.Context) (change.Position, error) {
	return s.Sink.(sink.Syncing).LastSync(ctx)
}

// Inspect implements [sink.Inspector].
func (s *tablesSink) Inspect(ctx context.Context) (sink.Kept, error) {
	return s.Sink.(sink.Inspector).Inspect(ctx)
}

type tablesWriter struct {
	sink.Writer
	of *change.Relation
}

// Pieces implements [sink.Writer].
func (w *tablesWriter) Pieces() []sink.Piece {
	var out []sink.Piece
	for _, piece := range w.Writer.Pieces() {
		piece.Span = changefeed.Span{Start: toPair(piece.Span.Start), End: toPair(piece.Span.End)}
		out = append(out, piece)
	}
	return out
}

// Write implements [sink.Writer].
func (w *tablesWriter) Write(ctx context.Context, batch sink.Batch) error {
	rows := batch
	rows.Span = toTable(batch.Span)
	rows.Changes = make([]change.Change, len(batch.Changes))
	for i, c := range batch.Changes {
		key := bytes.TrimPrefix(c.Key, []byte(sinktest.KeyPrefix))
		c.Key, c.Table = tableKey(c.Key), w.of.String()
		if pair, ok := c.After.(*change.KV); ok {
			c.After = &change.Tuple{Of: w.of, Cells: [][]byte{key, pair.Value}}
		}
		if c.Op == change.OpDelete {
			c.Before = &change.Tuple{Of: w.of, Cells: [][]byte{key, nil}, KeyOnly: true}
		}
		rows.Changes[i] = c
	}
	return w.Writer.Write(ctx, rows)
}

// Sync implements [sink.SyncWriter].
func (w *tablesWriter) Sync(ctx context.Context, whole changefeed.Span, at change.Position) error {
	return w.Writer.(sink.SyncWriter).Sync(ctx, toTable(whole), at)
}

func toTable(span changefeed.Span) changefeed.Span {
	return changefeed.Span{Start: tableKey(span.Start), End: tableKey(span.End)}
}

// tableKey returns the key of the row that a pair is.
func tableKey(key []byte) []byte {
	if len(key) == 0 {
		return key
	}
	start, _ := change.TableSpan("public", DataTable)
	return append(start, bytes.TrimPrefix(key, []byte(sinktest.KeyPrefix))...)
}

func toPair(key []byte) []byte {
	if len(key) == 0 {
		return key
	}
	start, _ := change.TableSpan("public", DataTable)
	return append([]byte(sinktest.KeyPrefix), bytes.TrimPrefix(key, start)...)
}
