// Command cdc-node is Fencerow in one binary: the server, and the commands that talk to it. There is one file for each
// subcommand; what they do is done by packages node, api/client and sink/file.
package main

//go:generate go test -run TestTheReferenceIsCurrent . -reference.write

import (
	"context"
	"fmt"
	"os"
)

// version is set when the binary is linked.
var version = "dev"

func main() {
	root := newRoot()
	err := root.ExecuteContext(context.Background())
	if err != nil {
		fmt.Fprintln(os.Stderr, "cdc-node: "+oneLine(err))
	}
	os.Exit(exitCode(err))
}
