package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"fencerow/redo"
)

func newRedo() *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use: "redo", Short: "Look at a redo log, and bring a target to one position from it",
		Example: "  cdc-node redo show /var/redo/orders\n  cdc-node redo apply /var/redo/orders --sink etcd://10.0.0.7:2379/copy/",
	})
	cmd.AddCommand(newRedoShow(), newRedoApply())
	return cmd
}

// redoProgress shows how far a log was read on a terminal, and nothing in a pipe. done ends the line.
func redoProgress() (tell func(redo.Progress), done func()) {
	if !terminal(os.Stderr) {
		return nil, func() {}
	}
	shown := ""
	return func(p redo.Progress) {
			text := p.Doing
			if p.Size > 0 {
				const hundred = 100
				text += fmt.Sprintf(" %d%%", min(p.Read*hundred/p.Size, hundred))
			}
			if text != shown {
				shown = text
				_, _ = fmt.Fprintf(os.Stderr, "\r\x1b[K%s", text)
			}
		}, func() {
			if shown != "" {
				_, _ = fmt.Fprint(os.Stderr, "\r\x1b[K")
			}
		}
}
