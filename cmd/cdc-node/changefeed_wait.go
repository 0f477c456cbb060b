package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"fencerow/api/client"
	"fencerow/change"
)

func newChangefeedWait(c *common) *cobra.Command {
	var checkpoint string
	var caughtUp bool
	cmd := c.nameFlags(&cobra.Command{
		Use: "wait NAME", Short: "Wait until a changefeed has come as far as asked", Args: cobra.ExactArgs(1),
		Long: "Wait until a changefeed has come as far as the source was when the command began, or, with --checkpoint, as far as that\n" +
			"position. Exit code 1 if it fails meanwhile, 5 if it takes longer than --timeout.",
		Example: "  cdc-node changefeed wait orders --caught-up --timeout 5m",
		RunE: func(cmd *cobra.Command, args []string) error {
			var target change.Position
			var err error
			if checkpoint != "" && caughtUp {
				return usageError{errors.New("--checkpoint and --caught-up ask for different things; give one")}
			}
			if checkpoint != "" {
				if target, err = change.ParsePosition(checkpoint); err != nil {
					return usageError{fmt.Errorf("--checkpoint %q is not a position; give a decimal number, as in the checkpoint of get", checkpoint)}
				}
			}
			return c.withFeed(cmd, args[0], "wait for", func(asked *asking) error {
				ctx, cancel := context.WithTimeout(asked.ctx, c.timeout)
				defer cancel()
				tell, done := asked.progress(ctx)
				defer done()
				if checkpoint != "" {
					err = asked.AwaitCheckpoint(ctx, asked.id, target, client.Progress(tell))
				} else {
					err = asked.AwaitCaughtUp(ctx, asked.id, client.Progress(tell))
				}
				if err != nil || c.output != outputJSON {
					return err
				}
				out, err := asked.Changefeed(asked.ctx, asked.id)
				if err != nil {
					return err
				}
				return show(cmd, c, out, tableOfChangefeed)
			})
		},
	})
	cmd.Flags().StringVar(&checkpoint, "checkpoint", "", "the position to wait for")
	cmd.Flags().BoolVar(&caughtUp, "caught-up", false, "wait for the source's position of now, which is the default")
	return cmd
}
