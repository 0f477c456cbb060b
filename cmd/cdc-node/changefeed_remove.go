package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fencerow/api/shape"
)

func newChangefeedRemove(c *common) *cobra.Command {
	var wait, force bool
	cmd := c.nameFlags(&cobra.Command{
		Use: "remove NAME", Short: "Stop a changefeed, clean up what it kept beside its data, and forget it", Args: cobra.ExactArgs(1),
		Long: "Stop a changefeed, clean up what it kept in the source and beside the data in the sink, and forget it. The data that it has\n" +
			"written stays. With --force only the records are deleted, at once and whoever owns it: until the owner notices, which\n" +
			"takes up to its session's TTL, it may still write, and what it kept in the source and the sink stays there.",
		Example: "  cdc-node changefeed remove orders --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.onFeed(cmd, args[0], "remove", func(asked *asking) (answer, error) {
				do := asked.Remove
				if force {
					do = asked.ForceRemove
				}
				out, err := do(asked.ctx, asked.id)
				if err == nil && force {
					warnOfForce(cmd.ErrOrStderr(), out.Value)
				}
				if err != nil || !wait {
					return out, err
				}
				ctx, cancel := context.WithTimeout(asked.ctx, c.timeout)
				defer cancel()
				tell, done := asked.progress(ctx)
				defer done()
				return out, asked.AwaitRemoved(ctx, asked.id, out.Value.UID, tell)
			})
		},
	})
	cmd.Flags().BoolVar(&wait, "wait", false, "until it is gone and its name is free, at most --timeout")
	cmd.Flags().BoolVar(&force, "force", false, "delete the records only; see above for what may still write")
	return cmd
}

// warnOfForce says what may still write after the records are gone.
func warnOfForce(w io.Writer, f shape.Changefeed) {
	if f.OwnerName != "" {
		_, _ = fmt.Fprintf(w, "%s: node %s may still write until it notices, at most its session's TTL\n", f.ID(), f.OwnerName)
	}
	_, _ = fmt.Fprintf(w, "%s: what it kept in its source and its sink stays there\n", f.ID())
}
