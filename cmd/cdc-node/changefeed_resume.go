package main

import "github.com/spf13/cobra"

func newChangefeedResume(c *common) *cobra.Command {
	return c.nameFlags(&cobra.Command{
		Use: "resume NAME", Short: "Go on with a changefeed that was paused, or try one that failed at once", Args: cobra.ExactArgs(1),
		Example: "  cdc-node changefeed resume orders",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.onFeed(cmd, args[0], "resume", func(asked *asking) (answer, error) { return asked.Resume(asked.ctx, asked.id) })
		},
	})
}
