package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fencerow/api/shape"
)

func newHealth(c *common) *cobra.Command {
	url := ""
	cmd := c.connectFlags(&cobra.Command{
		Use: "health", Short: "Exit with 0 when the node is ready", Args: cobra.NoArgs,
		Example: "  cdc-node health --url http://127.0.0.1:8300",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if url != "" { // goes before CDC_NODE_SERVER, which --server has taken by now
				c.server = url
			}
			asked, err := c.connect()
			if err != nil {
				return err
			}
			defer asked.Close()
			answer, err := asked.Ready(cmd.Context())
			if err != nil {
				return fmt.Errorf("health of %s: %w", c.server, err)
			}
			return show(cmd, c, answer, func(w io.Writer, _ shape.Health) { _, _ = fmt.Fprintln(w, "ready") })
		},
	})
	cmd.Flags().StringVar(&url, "url", "", "URL of the node (default: --server)")
	return cmd
}
