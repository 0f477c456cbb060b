package main

import (
	"context"
	"encoding/json"

	"github.com/spf13/cobra"

	"fencerow/api/client"
	"fencerow/api/shape"
)

func newChangefeedGet(c *common) *cobra.Command {
	var follow bool
	return watchFlag(c.nameFlags(&cobra.Command{
		Use: "get NAME", Short: "Show a changefeed", Args: cobra.ExactArgs(1),
		Example: "  cdc-node changefeed get orders\n  cdc-node changefeed get orders --watch -o json",
		RunE: func(cmd *cobra.Command, args []string) error {
			if follow {
				return c.withFeed(cmd, args[0], "watch", func(asked *asking) error { return watch(cmd, c, watchedChangefeeds, asked.alone) })
			}
			return c.onFeed(cmd, args[0], "get", func(asked *asking) (answer, error) { return asked.Changefeed(asked.ctx, asked.id) })
		},
	}), &follow)
}

// alone returns the changefeed as a list of one.
func (a *asking) alone(ctx context.Context) (client.Answer[shape.List[shape.Changefeed]], error) {
	one, err := a.Changefeed(ctx, a.id)
	if err != nil {
		return client.Answer[shape.List[shape.Changefeed]]{}, err
	}
	out := client.Answer[shape.List[shape.Changefeed]]{Value: shape.List[shape.Changefeed]{Items: []shape.Changefeed{one.Value}}}
	out.Raw, err = json.Marshal(shape.List[json.RawMessage]{Items: []json.RawMessage{one.Raw}})
	return out, err
}
