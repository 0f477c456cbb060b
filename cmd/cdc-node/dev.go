package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"fencerow/node"
)

func newDev() *cobra.Command {
	var config node.DevConfig
	cmd := &cobra.Command{
		Use: "dev", Short: "Run everything in one process, with a demo changefeed; nothing to set up", Args: cobra.NoArgs,
		Long: "Run an embedded etcd, one node and a demo changefeed over a small workload. Its changes are printed on stdout as JSON\n" +
			"lines, and what to try next on stderr. Without --data-dir everything is in a temporary folder that Ctrl-C removes.",
		Example: "  cdc-node dev",
		RunE: func(cmd *cobra.Command, _ []string) (err error) {
			remove := func() error { return nil }
			if config.DataDir == "" {
				if config.DataDir, err = os.MkdirTemp("", "cdc-node-dev-"); err != nil {
					return fmt.Errorf("a folder for the demo: %w", err)
				}
				remove = func() error { return os.RemoveAll(config.DataDir) }
			}
			defer func() { err = errors.Join(err, remove()) }()
			ctx, stop := untilSignal(cmd.Context(), func() { _ = remove() }) //nolint:errcheck // the process ends at once
			defer stop()
			config.Version = version
			return node.RunDev(ctx, config)
		},
	}
	cmd.Flags().StringVar(&config.DataDir, "data-dir", "", "keep the data here (default: a temporary folder)")
	cmd.Flags().StringVar(&config.HTTPAddr, "http-addr", node.DefaultHTTPAddr, "API, metrics and health")
	return cmd
}
