package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"fencerow/api/client"
	"fencerow/api/shape"
	"fencerow/changefeed"
)

func newChangefeed(c *common) *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use: "changefeed", Short: "Create, look at and change changefeeds", Aliases: []string{"cf"},
		Example: "  cdc-node changefeed list --all-namespaces\n  cdc-node changefeed get orders --watch",
	})
	cmd.AddCommand(
		newChangefeedCreate(c), newChangefeedList(c), newChangefeedGet(c), newChangefeedPause(c), newChangefeedResume(c),
		newChangefeedRemove(c), newChangefeedSpans(c), newChangefeedHistory(c), newChangefeedWait(c), newChangefeedMove(c),
		newChangefeedUpdate(c), newChangefeedApply(c), newChangefeedReset(c), newChangefeedSkip(c), newChangefeedSplit(c), newChangefeedMerge(c),
	)
	return cmd
}

type answer = client.Answer[shape.Changefeed]

// asking is a client that asks about one changefeed.
type asking struct {
	*client.Client
	ctx context.Context //nolint:containedctx // it lives for one call of a command
	id  changefeed.ID
}

// onFeed does something to the changefeed of that name, and shows it.
func (c *common) onFeed(cmd *cobra.Command, name, what string, do func(*asking) (answer, error)) error {
	return c.withFeed(cmd, name, what, func(asked *asking) error {
		out, err := do(asked)
		if err != nil {
			return err
		}
		return show(cmd, c, out, tableOfChangefeed)
	})
}

// withFeed is onFeed for what shows something else.
func (c *common) withFeed(cmd *cobra.Command, name, what string, do func(*asking) error) error {
	asked, err := c.connect()
	if err != nil {
		return err
	}
	defer asked.Close()
	id, err := c.id(name)
	if err != nil {
		return err
	}
	if err := do(&asking{Client: asked, ctx: cmd.Context(), id: id}); err != nil {
		return fmt.Errorf("%s %s: %w", what, id, err)
	}
	return nil
}
