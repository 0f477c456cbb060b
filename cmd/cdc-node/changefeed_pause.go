package main

import "github.com/spf13/cobra"

func newChangefeedPause(c *common) *cobra.Command {
	return c.nameFlags(&cobra.Command{
		Use: "pause NAME", Short: "Stop a changefeed and keep its checkpoint", Args: cobra.ExactArgs(1),
		Example: "  cdc-node changefeed pause orders",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.onFeed(cmd, args[0], "pause", func(asked *asking) (answer, error) { return asked.Pause(asked.ctx, asked.id) })
		},
	})
}
