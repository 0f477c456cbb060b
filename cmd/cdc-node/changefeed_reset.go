package main

import "github.com/spf13/cobra"

func newChangefeedReset(c *common) *cobra.Command {
	var start string
	cmd := c.nameFlags(&cobra.Command{
		Use: "reset NAME --start S", Short: "Begin a paused changefeed anew from another position, under a new uid", Args: cobra.ExactArgs(1),
		Long: "Begin a paused changefeed anew from another position, under a new uid: its checkpoint and what the sink knows of its\n" +
			"positions are forgotten. What it has written stays in the sink, so that changes may be there twice, and those between the\n" +
			"old checkpoint and a later start are left out. It stays paused; resume starts it.",
		Example: "  cdc-node changefeed pause orders\n  cdc-node changefeed reset orders --start snapshot\n  cdc-node changefeed resume orders",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.onFeed(cmd, args[0], "reset", func(asked *asking) (answer, error) { return asked.Reset(asked.ctx, asked.id, start) })
		},
	})
	cmd.Flags().StringVar(&start, "start", "", "now, snapshot, or a position")
	_ = cmd.MarkFlagRequired("start") //nolint:errcheck // the flag is there
	return cmd
}
