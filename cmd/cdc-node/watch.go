package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"fencerow/api/client"
	"fencerow/api/shape"
)

// watchFlag adds --watch.
func watchFlag(cmd *cobra.Command, watch *bool) *cobra.Command {
	cmd.Flags().BoolVarP(watch, "watch", "w", false, "print a line whenever something changed, until Ctrl-C")
	return cmd
}

// watch prints a row of each changefeed at first, and then of those that changed. Lag alone is no change.
func (c *common) watch(cmd *cobra.Command, fetch func(context.Context) (client.Answer[shape.List[shape.Changefeed]], error)) error {
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	out := cmd.OutOrStdout()
	known := map[string]string{}
	var silent bool
	tell := func(answer client.Answer[shape.List[shape.Changefeed]]) error {
		silent = false
		var raw shape.List[json.RawMessage]
		if err := json.Unmarshal(answer.Raw, &raw); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		seen := map[string]string{}
		for i, f := range answer.Value.Items {
			id := f.ID().String()
			f.LagSeconds = nil
			row := strings.Join(rowOfChangefeed(f), "\t")
			seen[id] = row
			if known[id] == row {
				continue
			}
			if err := c.watched(cmd, answer.Value.Items[i], raw.Items[i], len(known)+i == 0); err != nil {
				return err
			}
		}
		for id := range known {
			if _, found := seen[id]; !found && c.output != outputJSON {
				_, _ = fmt.Fprintf(out, "%s is gone\n", id)
			}
		}
		known = seen
		return nil
	}
	return client.Follow(ctx, fetch, tell, func(err error) {
		if !silent {
			_, _ = fmt.Fprintln(os.Stderr, "cdc-node: "+oneLine(err)+"; trying again")
		}
		silent = true
	})
}

// watched prints one changefeed: a row, or a line of JSON.
func (c *common) watched(cmd *cobra.Command, f shape.Changefeed, raw json.RawMessage, first bool) error { //nolint:revive // a row of a table
	if c.output == outputJSON {
		var line bytes.Buffer
		if err := json.Compact(&line, raw); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), line.String())
		return err
	}
	rows := [][]string{rowOfChangefeed(f)}
	if first {
		rows = append([][]string{strings.Fields(headerOfChangefeeds)}, rows...)
	}
	for _, row := range rows {
		if _, err := fmt.Fprintln(cmd.OutOrStdout(), fixedColumns(row)); err != nil {
			return err
		}
	}
	return nil
}

// widths of the columns of a changefeed's row, so that rows which come one by one stand below each other.
var widths = [...]int{10, 16, 9, 10, 10, 11, 6} //nolint:gochecknoglobals // read only

func fixedColumns(row []string) string {
	var b strings.Builder
	for i, cell := range row {
		if i < len(widths) {
			cell = fmt.Sprintf("%-*s", widths[i], cell)
		}
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(cell)
	}
	return strings.TrimRight(b.String(), " ")
}
