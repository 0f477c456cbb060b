package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"fencerow/node"
)

// FuzzConfig reads any file of flags: what is wrong with it is the caller's fault.
func FuzzConfig(f *testing.F) {
	f.Add([]byte("name: file\nsession-ttl: 7s\nallow-old-etcd: true\netcd: [a:1, b:2]\n"))
	f.Add([]byte("- a"))
	f.Add([]byte("etcd: {a: [1, ~]}\nhttp-hosts: ['\"', 'a,b']\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		path := filepath.Join(t.TempDir(), "node.yaml")
		require.NoError(t, os.WriteFile(path, data, 0o600))
		var config node.Config
		flags := pflag.NewFlagSet("server", pflag.ContinueOnError)
		serverFlags(flags, &config)
		if err := readConfig(flags, path); err != nil {
			require.Equal(t, exitUsage, exitCode(err), "%v", err)
		}
	})
}
