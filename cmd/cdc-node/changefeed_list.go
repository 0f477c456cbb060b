package main

import (
	"context"
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fencerow/api/client"
	"fencerow/api/shape"
)

func newChangefeedList(c *common) *cobra.Command {
	var follow bool
	cmd := watchFlag(c.nameFlags(&cobra.Command{
		Use: "list", Short: "List the changefeeds of a namespace", Args: cobra.NoArgs,
		Example: "  cdc-node changefeed list -A\n  cdc-node changefeed list --watch",
		RunE: func(cmd *cobra.Command, _ []string) error {
			asked, err := c.connect()
			if err != nil {
				return err
			}
			defer asked.Close()
			namespace := c.namespace
			if c.allNamespaces {
				namespace = ""
			}
			fetch := func(ctx context.Context) (client.Answer[shape.List[shape.Changefeed]], error) {
				return asked.All(ctx, namespace)
			}
			if follow {
				if err := watch(cmd, c, watchedChangefeeds, fetch); err != nil {
					return fmt.Errorf("watch changefeeds: %w", err)
				}
				return nil
			}
			answer, err := fetch(cmd.Context())
			if err != nil {
				return fmt.Errorf("list changefeeds: %w", err)
			}
			return show(cmd, c, answer, func(w io.Writer, list shape.List[shape.Changefeed]) { tableOfChangefeeds(w, list.Items) })
		},
	}), &follow)
	cmd.Flags().BoolVarP(&c.allNamespaces, "all-namespaces", "A", false, "of all namespaces")
	return cmd
}
