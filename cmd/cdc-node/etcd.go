package main

import (
	"github.com/spf13/cobra"
	"go.etcd.io/etcd/server/v3/etcdmain"
)

func newEtcd() *cobra.Command {
	return &cobra.Command{
		Use: "etcd [args]", Short: "Run a stock etcd member", DisableFlagParsing: true,
		Example: "  cdc-node etcd --data-dir /var/lib/etcd",
		Run:     func(_ *cobra.Command, args []string) { etcdmain.Main(append([]string{"etcd"}, args...)) },
	}
}
