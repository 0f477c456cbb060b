package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fencerow/api/shape"
)

func newNode(c *common) *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use: "node", Short: "The nodes of the cluster", Example: "  cdc-node node list",
	})
	cmd.AddCommand(newNodeList(c), newNodeDrain(c), newNodeUndrain(c))
	return cmd
}

func newNodeList(c *common) *cobra.Command {
	var follow bool
	return watchFlag(c.connectFlags(&cobra.Command{
		Use: "list", Short: "List the live nodes", Args: cobra.NoArgs,
		Example: "  cdc-node node list\n  cdc-node node list --watch",
		RunE: func(cmd *cobra.Command, _ []string) error {
			asked, err := c.connect()
			if err != nil {
				return err
			}
			defer asked.Close()
			if follow {
				if err := watch(cmd, c, watchedNodes, asked.Nodes); err != nil {
					return fmt.Errorf("watch nodes: %w", err)
				}
				return nil
			}
			answer, err := asked.Nodes(cmd.Context())
			if err != nil {
				return fmt.Errorf("list nodes: %w", err)
			}
			return show(cmd, c, answer, func(w io.Writer, list shape.List[shape.Node]) { tableOfNodes(w, list.Items) })
		},
	}), &follow)
}
