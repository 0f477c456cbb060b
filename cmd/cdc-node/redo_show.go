package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/redo"
)

func newRedoShow() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use: "show DIR", Short: "Say what a redo log holds, and up to which position it is complete", Args: cobra.ExactArgs(1),
		Long: "Say what a redo log holds: whose it is, how far each span is, and the consistent position, up to which every span is complete.\n" +
			"It reads all of the log, and finds damage. It changes nothing, and may be asked while the changefeed runs.",
		Example: "  cdc-node redo show /var/redo/orders",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			directory, err := redo.ParseDirectory(args[0])
			if err != nil {
				return err
			}
			tell, done := redoProgress()
			survey, err := redo.Look(ctx, directory, tell)
			done()
			if err != nil {
				return fmt.Errorf("show %s: %w", directory, err)
			}
			shown := shownOf(&survey)
			if output == outputJSON {
				raw, err := json.Marshal(shown)
				if err != nil {
					return fmt.Errorf("show %s: %w", directory, err)
				}
				return printJSON(cmd.OutOrStdout(), raw)
			}
			tableOfRedo(cmd.OutOrStdout(), shown)
			return nil
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", outputTable, "table or json")
	return cmd
}

// redoShown is what show prints.
type redoShown struct {
	Changefeed   string            `json:"changefeed"`
	UID          changefeed.UID    `json:"uid"`
	Cluster      string            `json:"cluster"`
	Source       string            `json:"source"`
	Sink         string            `json:"sink"`
	Removed      bool              `json:"removed,omitempty"`
	Floor        fence.Epoch       `json:"floor"`
	Consistent   *change.Position  `json:"consistent,omitempty"`
	Reason       string            `json:"reason,omitempty"` // why there is no consistent position
	RetiredBelow *change.Position  `json:"retired_below,omitempty"`
	Changes      int               `json:"changes"`
	Batches      int               `json:"batches"`
	Bytes        int64             `json:"bytes"`
	Spans        []redoSpan        `json:"spans"`
	SyncPoints   []change.Position `json:"sync_points"`
}

type redoSpan struct {
	Start    changefeed.Key  `json:"start"`
	End      changefeed.Key  `json:"end"`
	Position change.Position `json:"position"`
	Index    uint32          `json:"index,omitempty"`
	Epoch    fence.Epoch     `json:"epoch"`
	Seq      fence.Seq       `json:"seq"`
}

func shownOf(survey *redo.Survey) redoShown {
	out := redoShown{
		Changefeed: survey.Identity.Changefeed.String(), UID: survey.Identity.UID, Cluster: survey.Identity.Cluster,
		Source: survey.About.Source, Sink: survey.About.Sink, Removed: survey.Head.Removed, Floor: survey.Head.Floor,
		Changes: survey.Changes, Batches: survey.Batches, Bytes: survey.Bytes, SyncPoints: survey.SyncPoints, Spans: []redoSpan{},
	}
	if out.SyncPoints == nil {
		out.SyncPoints = []change.Position{}
	}
	if at, err := survey.Consistent(); err == nil {
		out.Consistent = &at
	} else {
		out.Reason = changefeed.AsFault(err, "").Detail
	}
	for _, gone := range survey.Retired {
		if below := gone.Mark.Whole(); out.RetiredBelow == nil || *out.RetiredBelow < below {
			out.RetiredBelow = &below
		}
	}
	for _, piece := range survey.Map.Held() {
		out.Spans = append(out.Spans, redoSpan{
			Start: piece.Span.Start, End: piece.Span.End, Position: piece.Mark.Position, Index: piece.Mark.Index,
			Epoch: piece.Token.Epoch(), Seq: piece.Token.Seq(),
		})
	}
	return out
}

func tableOfRedo(w io.Writer, shown redoShown) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name, value string) { _, _ = fmt.Fprintf(t, "%s\t%s\n", name, value) }
	line("changefeed", shown.Changefeed)
	line("uid", string(shown.UID))
	line("source", shown.Source)
	line("sink", shown.Sink)
	if shown.Removed {
		line("removed", "yes")
	}
	line("floor", number(uint64(shown.Floor)))
	if shown.Consistent != nil {
		line("consistent position", shown.Consistent.String())
	} else {
		line("consistent position", "none: "+shown.Reason)
	}
	begins := "where the changefeed began"
	if shown.RetiredBelow != nil {
		begins = "above " + shown.RetiredBelow.String() + ", older files were deleted"
	}
	line("begins", begins)
	line("holds", fmt.Sprintf("%d changes in %d batches, %d bytes", shown.Changes, shown.Batches, shown.Bytes))
	if n := len(shown.SyncPoints); n > 0 {
		line("sync points", fmt.Sprintf("%d, the last at %s", n, shown.SyncPoints[n-1]))
	}
	_ = t.Flush()
	_, _ = fmt.Fprintln(w)
	rows := make([][]string, len(shown.Spans))
	for i, span := range shown.Spans {
		end := "∞"
		if len(span.End) > 0 {
			end = strconv.Quote(string(span.End))
		}
		rows[i] = []string{
			strconv.Quote(string(span.Start)), end, fmt.Sprintf("%d.%d", span.Epoch, span.Seq), change.Mark{Position: span.Position, Index: span.Index}.String(),
		}
	}
	grid(w, "START END TOKEN POSITION", rows)
}
