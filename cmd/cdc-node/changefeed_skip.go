package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"fencerow/change"
)

func newChangefeedSkip(c *common) *cobra.Command {
	var position string
	var index uint32
	cmd := c.nameFlags(&cobra.Command{
		Use: "skip NAME --position P --index I", Short: "Leave out one change that the sink refuses", Args: cobra.ExactArgs(1),
		Long: "Leave out one change that the sink refuses, so that those after it go on. It is not written, now or later, and that it\n" +
			"is missing is recorded with the changefeed. The error of the changefeed names position and index. Changes of a snapshot\n" +
			"can't be left out.",
		Example: "  cdc-node changefeed skip orders --position 20817 --index 3",
		RunE: func(cmd *cobra.Command, args []string) error {
			at, err := change.ParsePosition(position)
			if err != nil {
				return usageError{fmt.Errorf("--position: %w; give the one that the error names", err)}
			}
			return c.onFeed(cmd, args[0], "skip a change of", func(asked *asking) (answer, error) {
				return asked.Skip(asked.ctx, asked.id, at, index)
			})
		},
	})
	cmd.Flags().StringVar(&position, "position", "", "position of the change")
	cmd.Flags().Uint32Var(&index, "index", 0, "its index within the position")
	_ = cmd.MarkFlagRequired("position") //nolint:errcheck // the flag is there
	return cmd
}
