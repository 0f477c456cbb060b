package main

import (
	"errors"
	"fmt"
	"os"

	"github.com/spf13/cobra"
)

// dumpMode is that of a file that shows how a cluster is built.
const dumpMode = 0o600

func newDebugDump(c *common) *cobra.Command {
	return c.connectFlags(&cobra.Command{
		Use: "dump FILE", Short: "Write redacted records, metrics and goroutines into a zip", Args: cobra.ExactArgs(1),
		Long: "Write the records of the cluster, and the metrics and goroutines of the node at --server, into a zip: what to send along\n" +
			"when asking for help. It has no password and no token; it does have the names of changefeeds, hosts and keys.",
		Example: "  cdc-node debug dump /tmp/cdc.zip",
		RunE: func(cmd *cobra.Command, args []string) (err error) {
			asked, err := c.connect()
			if err != nil {
				return err
			}
			defer asked.Close()
			file, err := os.OpenFile(args[0], os.O_WRONLY|os.O_CREATE|os.O_EXCL, dumpMode)
			if err != nil {
				return usageError{fmt.Errorf("%w; name a file that does not exist yet", err)}
			}
			defer func() {
				if err = errors.Join(err, file.Close()); err != nil {
					err = errors.Join(err, os.Remove(args[0]))
				}
			}()
			if err := asked.Dump(cmd.Context(), file); err != nil {
				return fmt.Errorf("dump: %w", err)
			}
			return nil
		},
	})
}
