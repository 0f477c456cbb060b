package main

import "github.com/spf13/cobra"

func newDebug(c *common) *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use: "debug", Short: "What somebody needs who wasn't there",
		Example: "  cdc-node debug dump /tmp/cdc.zip",
	})
	cmd.AddCommand(newDebugDump(c))
	return cmd
}
