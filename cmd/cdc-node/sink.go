package main

import "github.com/spf13/cobra"

func newSink() *cobra.Command {
	cmd := asGroup(&cobra.Command{
		Use: "sink", Short: "Look at what is in a sink", Example: "  cdc-node sink cat file:///var/lib/orders",
	})
	cmd.AddCommand(newSinkCat())
	return cmd
}
