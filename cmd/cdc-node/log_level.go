package main

import (
	"fmt"
	"io"

	"github.com/spf13/cobra"

	"fencerow/api/shape"
)

func newLogLevel(c *common) *cobra.Command {
	return c.connectFlags(&cobra.Command{
		Use: "log-level LEVEL", Short: "Change what the node at --server logs, until it is restarted", Args: cobra.ExactArgs(1),
		Long:    "Change what the node at --server logs, until it is restarted: debug, info, warn or error.",
		Example: "  cdc-node log-level debug --server http://10.0.0.5:8300",
		RunE: func(cmd *cobra.Command, args []string) error {
			asked, err := c.connect()
			if err != nil {
				return err
			}
			defer asked.Close()
			answer, err := asked.SetLogLevel(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("set the log level: %w", err)
			}
			return show(cmd, c, answer, func(w io.Writer, level shape.LogLevel) { _, _ = fmt.Fprintln(w, level.Level) })
		},
	})
}
