package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"fencerow/changefeed"
)

func newChangefeedSplit(c *common) *cobra.Command {
	var at []string
	cmd := c.nameFlags(&cobra.Command{
		Use: "split NAME --at KEY …", Short: "Split the spans of a changefeed at keys", Args: cobra.ExactArgs(1),
		Long: "Ask for borders between spans, each of which has a dispatcher of its own, on any node. They are kept with the changefeed's\n" +
			"options, as split_keys. Nothing is replayed; spans without such a key run on. A key is text, or base64:….",
		Example: "  cdc-node changefeed split orders --at /orders/m --at base64:L29yZGVycy/A",
		RunE: func(cmd *cobra.Command, args []string) error {
			keys := make([]changefeed.Key, len(at))
			for i, text := range at {
				key, err := changefeed.ParseKey(text)
				if err != nil {
					return usageError{fmt.Errorf("--at: %w", err)}
				}
				keys[i] = key
			}
			return c.onFeed(cmd, args[0], "split", func(asked *asking) (answer, error) { return asked.Split(asked.ctx, asked.id, keys) })
		},
	})
	cmd.Flags().StringArrayVar(&at, "at", nil, "key at which a span begins; may be given several times")
	_ = cmd.MarkFlagRequired("at") //nolint:errcheck // the flag is there
	return cmd
}

func newChangefeedMerge(c *common) *cobra.Command {
	var at string
	cmd := c.nameFlags(&cobra.Command{
		Use: "merge NAME --at KEY", Short: "Join the two spans of a changefeed that meet at a key", Args: cobra.ExactArgs(1),
		Long: "Ask for the two spans that meet at the key to become one, when neither is far behind. Nothing is replayed. The key is text,\n" +
			"or base64:…; changefeed spans shows where spans begin.",
		Example: "  cdc-node changefeed merge orders --at /orders/m",
		RunE: func(cmd *cobra.Command, args []string) error {
			key, err := changefeed.ParseKey(at)
			if err != nil {
				return usageError{fmt.Errorf("--at: %w", err)}
			}
			return c.onFeed(cmd, args[0], "merge", func(asked *asking) (answer, error) { return asked.Merge(asked.ctx, asked.id, key) })
		},
	})
	cmd.Flags().StringVar(&at, "at", "", "key at which the two spans meet")
	_ = cmd.MarkFlagRequired("at") //nolint:errcheck // the flag is there
	return cmd
}
