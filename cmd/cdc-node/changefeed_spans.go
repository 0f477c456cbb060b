package main

import (
	"io"

	"github.com/spf13/cobra"

	"fencerow/api/shape"
)

func newChangefeedSpans(c *common) *cobra.Command {
	return c.nameFlags(&cobra.Command{
		Use: "spans NAME", Short: "Show the cover: span, node, token, checkpoint, lag", Args: cobra.ExactArgs(1),
		Example: "  cdc-node changefeed spans orders",
		RunE: func(cmd *cobra.Command, args []string) error {
			return c.withFeed(cmd, args[0], "spans of", func(asked *asking) error {
				answer, err := asked.Spans(asked.ctx, asked.id)
				if err != nil {
					return err
				}
				return show(cmd, c, answer, func(w io.Writer, list shape.List[shape.Span]) { tableOfSpans(w, list.Items) })
			})
		},
	})
}
