package main

import (
	"io"

	"github.com/spf13/cobra"

	"fencerow/api/shape"
)

func newChangefeedHistory(c *common) *cobra.Command {
	return c.nameFlags(&cobra.Command{
		Use: "history NAME", Short: "Show the last 64 ownerships: epoch, owner, term, from, until, why", Args: cobra.ExactArgs(1),
		Example: "  cdc-node changefeed history orders",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withFeed(cmd, args[0], "history of", func(asked *asking) error {
				answer, err := asked.History(asked.ctx, asked.id)
				if err != nil {
					return err
				}
				return show(cmd, c, answer, func(w io.Writer, list shape.List[shape.Ownership]) { tableOfOwnerships(w, list.Items) })
			})
		},
	})
}
