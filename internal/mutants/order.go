package mutants

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// orderMutants stands for a fence in mutants of order. Tests with Order in their names are named for them.
const orderMutants = "order"

// order is a step that is taken too early, as a replacement of text that stands in a file once.
type order struct{ what, file, function, old, text string }

// orders are the orders on which the promise rests, each turned round: what is durable is counted after it is, the
// positions are those of the claim, nothing is sent before what it depends on is stored.
func orders() []order {
	return []order{
		{
			"acknowledges a batch before it is stored", "dispatcher/pump_copy.go", "write",
			"	if err := a.writer.Write(limited, batch); err != nil {",
			"	a.pieces.advance(batch.Span, batch.To)\n	a.count(batch, bytes, resolved)\n	if err := a.writer.Write(limited, batch); err != nil {",
		},
		{
			"claims after the position was read", "dispatcher/pump_attempt.go", "claim",
			"newPieces(writer.Pieces())",
			"newPieces([]sink.Piece{{Span: a.start.Span, Mark: from}})",
		},
		{
			"sends a placement before the number of spans is stored", "maintainer/core_active.go", "mayPlace",
			"return c.report.armed &&",
			"return (true || c.report.armed) &&",
		},
		{
			"shuts the sink before the final checkpoint is stored", "maintainer/core_release.go", "advanceStopping",
			"		c.become(phaseStoring)\n",
			"		c.become(phaseStoring)\n		c.shut()\n",
		},
		{
			"lets the source forget before the checkpoint is stored", "maintainer/core_report.go", "progress",
			"		r.checkpoint, r.movedAt = lowest, c.now.At\n",
			"		r.checkpoint, r.movedAt = lowest, c.now.At\n		if c.serial.served {\n			c.emit(Acknowledge{Stored: lowest})\n		}\n",
		},
		{
			"counts what an owner was asked as done before it says so", "coordinator/core_decide.go", "releasedFor",
			"	if done := f.current().ReleasedFor; done != \"\" {",
			"	if done := f.current().ReleasedFor; false && done != \"\" {",
		},
		{
			"changes what the source keeps before an older owner can't", "source/postgres/vacate.go", "sit",
			"	err := s.oust(ctx, c, \"lock for the changefeed\", courtesy, func(ctx context.Context) (holder, error) { return trySeat(ctx, c, key) })",
			"	_, err := trySeat(ctx, c, key)",
		},
		{
			"writes to the target before the redo log has it", "redo/writer.go", "Write",
			"	if err := w.Stage(ctx, batch); err != nil {",
			"	if err := write(ctx, w.target, w.inTarget, batch); err != nil {\n		return err\n	}\n	if err := w.Stage(ctx, batch); err != nil {",
		},
		{
			"raises the target's floor before the redo log's", "redo/sink.go", "Raise",
			"	if err := s.log.Raise(ctx, epoch, known); err != nil {",
			"	if err := s.target.Raise(ctx, epoch, known); err != nil {\n		return err\n	}\n	if err := s.log.Raise(ctx, epoch, known); err != nil {",
		},
	}
}

// Orders returns the mutants of order.
func Orders(root string) ([]Mutant, error) {
	var out []Mutant
	for _, one := range orders() {
		src, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(one.file)))
		if err != nil {
			return nil, fmt.Errorf("mutants: %w", err)
		}
		if n := strings.Count(string(src), one.old); n != 1 {
			return nil, fmt.Errorf("mutants: %q stands %d times in %s: say in order.go what is too early now", one.old, n, one.file)
		}
		at := bytes.Index(src, []byte(one.old))
		out = append(out, Mutant{
			Fence: orderMutants, Note: one.what, Place: one.file + " " + one.function, Line: 1 + bytes.Count(src[:at], []byte("\n")), What: one.what,
			Edits: []Edit{{File: one.file, Start: at, End: at + len(one.old), Old: one.old, Text: one.text}},
		})
	}
	return out, nil
}
