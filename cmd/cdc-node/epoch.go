package main

import (
	"github.com/spf13/cobra"

	"fencerow/fence"
)

func newEpoch(c *common) *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use: "epoch", Short: "The ownerships of changefeeds", Example: "  cdc-node epoch bump orders",
	})
	cmd.AddCommand(newEpochBump(c))
	return cmd
}

func newEpochBump(c *common) *cobra.Command {
	var above uint64
	cmd := c.nameFlags(&cobra.Command{
		Use: "bump NAME", Short: "Give a changefeed a new epoch now", Args: cobra.ExactArgs(1),
		Long: "Give a changefeed a new epoch now, which shuts its owner out and starts another. With --above the epoch lies above\n" +
			"that number, and so do all epochs of all changefeeds from then on: the cure after etcd was restored from a backup.",
		Example: "  cdc-node epoch bump orders\n  cdc-node epoch bump orders --above 20817",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.onFeed(cmd, args[0], "bump", func(asked *asking) (answer, error) {
				var floor *fence.Epoch
				if cmd.Flags().Changed("above") {
					floor = new(fence.Epoch(above))
				}
				return asked.Bump(asked.ctx, asked.id, floor)
			})
		},
	})
	cmd.Flags().Uint64Var(&above, "above", 0, "an epoch that the new one has to lie above")
	return cmd
}
