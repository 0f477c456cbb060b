package main

import (
	"time"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdutl/v3/etcdutl"
)

// etcdutlLockWait is how long etcdutl waits for a database that somebody else has open; its own default.
const etcdutlLockWait = 10 * time.Second

func newEtcdutl() *cobra.Command {
	return &cobra.Command{
		Use: "etcdutl [args]", Short: "Run a stock etcdutl, which restores snapshots", DisableFlagParsing: true,
		Example: "  cdc-node etcdutl snapshot restore backup.db --data-dir /var/lib/etcd",
		RunE: func(cmd *cobra.Command, args []string) error {
			root := &cobra.Command{Use: "etcdutl", Short: "An administrative command line tool for etcd3.", SilenceUsage: true}
			flags := root.PersistentFlags()
			flags.DurationVar(&etcdutl.FlockTimeout, "timeout", etcdutlLockWait, "time to wait to obtain a file lock on db file, 0 to block indefinitely")
			flags.StringVarP(&etcdutl.OutputFormat, "write-out", "w", "simple", "set the output format (fields, json, protobuf, simple, table)")
			root.AddCommand(
				etcdutl.NewDefragCommand(), etcdutl.NewSnapshotCommand(), etcdutl.NewHashKVCommand(), etcdutl.NewVersionCommand(),
				etcdutl.NewMigrateCommand(),
			)
			root.SetArgs(args)
			return root.ExecuteContext(cmd.Context())
		},
	}
}
