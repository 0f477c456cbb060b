package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCoordinatorResign(c *common) *cobra.Command {
	return c.connectFlags(&cobra.Command{
		Use: "resign", Short: "End the coordinator's term, so that another is elected", Args: cobra.NoArgs,
		Example: "  cdc-node coordinator resign",
		RunE: func(cmd *cobra.Command, _ []string) error {
			asked, err := c.connect()
			if err != nil {
				return err
			}
			defer asked.Close()
			answer, err := asked.Resign(cmd.Context())
			if err != nil {
				return fmt.Errorf("resign the coordinator: %w", err)
			}
			return show(cmd, c, answer, tableOfCoordinator)
		},
	})
}
