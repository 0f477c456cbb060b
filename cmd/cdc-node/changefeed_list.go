package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fencerow/api/shape"
)

func newChangefeedList(c *common) *cobra.Command {
	cmd := c.nameFlags(&cobra.Command{
		Use: "list", Short: "List the changefeeds of a namespace", Args: cobra.NoArgs,
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
			answer, err := asked.All(cmd.Context(), namespace)
			if err != nil {
				return fmt.Errorf("list changefeeds: %w", err)
			}
			return show(cmd, c, answer, func(w io.Writer, list shape.List[shape.Changefeed]) { tableOfChangefeeds(w, list.Items) })
		},
	})
	cmd.Flags().BoolVarP(&c.allNamespaces, "all-namespaces", "A", false, "of all namespaces")
	return cmd
}
