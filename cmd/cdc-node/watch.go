package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
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

// lines are how things are watched that have a line each.
type lines[T any] struct {
	header string
	widths []int // of the columns, so that rows which come one by one stand below each other
	id     func(T) string
	row    func(T) []string
	same   func(T) T // without what changes all the time
}

var watchedChangefeeds = lines[shape.Changefeed]{ //nolint:gochecknoglobals // read only
	header: headerOfChangefeeds, widths: []int{10, 16, 9, 10, 10, 11, 6},
	id: func(f shape.Changefeed) string { return f.ID().String() }, row: rowOfChangefeed,
	same: func(f shape.Changefeed) shape.Changefeed {
		f.LagSeconds = nil
		return f
	},
}

var watchedNodes = lines[shape.Node]{ //nolint:gochecknoglobals // read only
	header: headerOfNodes, widths: []int{8, 8, 8, 11, 5, 5, 21},
	id: func(n shape.Node) string { return n.Name }, row: rowOfNode, same: func(n shape.Node) shape.Node { return n },
}

type fetched[T any] = client.Answer[shape.List[T]]

// watch prints a row of each thing at first, and then of those that changed.
func watch[T any](cmd *cobra.Command, c *common, l lines[T], fetch func(context.Context) (fetched[T], error)) error {
	ctx, stop := untilSignal(cmd.Context())
	defer stop()
	w := &watcher[T]{lines: l, out: cmd.OutOrStdout(), json: c.output == outputJSON}
	silent := false
	return client.Follow(ctx, fetch, func(answer fetched[T]) error {
		silent = false
		return w.tell(answer)
	}, func(err error) {
		if !silent {
			_, _ = fmt.Fprintln(os.Stderr, "cdc-node: "+oneLine(err)+"; trying again")
		}
		silent = true
	})
}

// watcher knows what was printed.
type watcher[T any] struct {
	lines[T]
	out    io.Writer
	json   bool
	titled bool
	known  map[string]string
}

func (w *watcher[T]) tell(answer fetched[T]) error {
	var raw shape.List[json.RawMessage]
	if err := json.Unmarshal(answer.Raw, &raw); err != nil {
		return fmt.Errorf("watch: %w", err)
	}
	seen := map[string]string{}
	for i, one := range answer.Value.Items {
		id, row := w.id(one), strings.Join(w.row(w.same(one)), "\t")
		seen[id] = row
		if w.known[id] == row {
			continue
		}
		if err := w.print(one, raw.Items[i]); err != nil {
			return err
		}
	}
	for id := range w.known {
		if _, found := seen[id]; !found && !w.json {
			_, _ = fmt.Fprintf(w.out, "%s is gone\n", id)
		}
	}
	w.known = seen
	return nil
}

// print prints one thing: a row, or a line of JSON.
func (w *watcher[T]) print(one T, raw json.RawMessage) error {
	if w.json {
		var line bytes.Buffer
		if err := json.Compact(&line, raw); err != nil {
			return fmt.Errorf("watch: %w", err)
		}
		_, err := fmt.Fprintln(w.out, line.String())
		return err
	}
	if !w.titled {
		w.titled = true
		_, _ = fmt.Fprintln(w.out, fixedColumns(strings.Fields(w.header), w.widths))
	}
	_, err := fmt.Fprintln(w.out, fixedColumns(w.row(one), w.widths))
	return err
}

func fixedColumns(row []string, widths []int) string {
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
