package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newCoordinator(c *common) *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use: "coordinator", Short: "The node that decides on ownership", Example: "  cdc-node coordinator show",
	})
	cmd.AddCommand(newCoordinatorShow(c), newCoordinatorResign(c))
	return cmd
}

func newCoordinatorShow(c *common) *cobra.Command {
	return c.connectFlags(&cobra.Command{
		Use: "show", Short: "Show the coordinator and its term", Args: cobra.NoArgs,
		Example: "  cdc-node coordinator show",
		RunE: func(cmd *cobra.Command, _ []string) error {
			asked, err := c.connect()
			if err != nil {
				return err
			}
			defer asked.Close()
			answer, err := asked.Cluster(cmd.Context())
			if err != nil {
				return fmt.Errorf("show the coordinator: %w", err)
			}
			return show(cmd, c, answer, tableOfCoordinator)
		},
	})
}
