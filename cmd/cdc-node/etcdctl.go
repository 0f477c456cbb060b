package main

import (
	"os"

	"github.com/spf13/cobra"
	"go.etcd.io/etcd/etcdctl/v3/ctlv3"
)

func newEtcdctl() *cobra.Command {
	return &cobra.Command{
		Use: "etcdctl [args]", Short: "Run a stock etcdctl", DisableFlagParsing: true,
		Example: "  cdc-node etcdctl get --prefix /cdc/default/",
		Run: func(_ *cobra.Command, args []string) {
			os.Args = append([]string{"etcdctl"}, args...) // which is what it reads
			ctlv3.MustStart()
		},
	}
}
