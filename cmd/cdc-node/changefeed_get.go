package main

import "github.com/spf13/cobra"

func newChangefeedGet(c *common) *cobra.Command {
	return c.nameFlags(&cobra.Command{
		Use: "get NAME", Short: "Show a changefeed", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.onFeed(cmd, args[0], "get", func(asked *asking) (answer, error) { return asked.Changefeed(asked.ctx, asked.id) })
		},
	})
}
