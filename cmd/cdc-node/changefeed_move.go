package main

import "github.com/spf13/cobra"

func newChangefeedMove(c *common) *cobra.Command {
	var to string
	cmd := c.nameFlags(&cobra.Command{
		Use: "move NAME --to NODE", Short: "Move the owner of a changefeed to another node", Args: cobra.ExactArgs(1),
		Long: "Ask the owner to hand the changefeed over to the node of that name or id. Its dispatchers run on meanwhile: nothing\n" +
			"stalls and nothing is replayed. An owner that doesn't answer in time is replaced.",
		Example: "  cdc-node changefeed move orders --to n2",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.onFeed(cmd, args[0], "move", func(asked *asking) (answer, error) { return asked.Move(asked.ctx, asked.id, to) })
		},
	})
	cmd.Flags().StringVar(&to, "to", "", "name or id of the node")
	complete(cmd, "to", c.nodeNames)
	_ = cmd.MarkFlagRequired("to") //nolint:errcheck // the flag is there
	return cmd
}
