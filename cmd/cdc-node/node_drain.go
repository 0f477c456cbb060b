package main

import (
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"fencerow/api/shape"
)

func newNodeDrain(c *common) *cobra.Command {
	var wait bool
	cmd := completeArgument(c.connectFlags(&cobra.Command{
		Use: "drain NODE", Short: "Empty a node: its changefeeds and spans go to others", Args: cobra.ExactArgs(1),
		Long: "Empty the node of that name, until undrain, over its restarts. The last node keeps what it runs until another comes:\n" +
			"with --wait the command says so and waits.",
		Example: "  cdc-node node drain n2 --wait",
		RunE: func(cmd *cobra.Command, args []string) error {
			asked, err := c.connect()
			if err != nil {
				return err
			}
			defer asked.Close()
			answer, err := asked.Drain(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("drain %s: %w", args[0], err)
			}
			if !wait {
				return show(cmd, c, answer, tableOfNode)
			}
			ctx, cancel := context.WithTimeout(cmd.Context(), c.timeout)
			defer cancel()
			if err := asked.AwaitDrained(ctx, args[0], tellDrain()); err != nil {
				return fmt.Errorf("drain %s: it is marked, and goes on being emptied: %w", args[0], err)
			}
			return show(cmd, c, answer, tableOfNode)
		},
	}), c.nodeNames)
	cmd.Flags().BoolVar(&wait, "wait", false, "until nothing runs there any more, at most --timeout")
	return cmd
}

func newNodeUndrain(c *common) *cobra.Command {
	return completeArgument(c.connectFlags(&cobra.Command{
		Use: "undrain NODE", Short: "Let a drained node be given work again", Args: cobra.ExactArgs(1),
		Example: "  cdc-node node undrain n2",
		RunE: func(cmd *cobra.Command, args []string) error {
			asked, err := c.connect()
			if err != nil {
				return err
			}
			defer asked.Close()
			answer, err := asked.Undrain(cmd.Context(), args[0])
			if err != nil {
				return fmt.Errorf("undrain %s: %w", args[0], err)
			}
			return show(cmd, c, answer, tableOfNode)
		},
	}), c.nodeNames)
}

func tableOfNode(w io.Writer, node shape.Node) {
	if node.Name != "" {
		tableOfNodes(w, []shape.Node{node})
	}
}

// tellDrain says that a node is the last one, and so can't be emptied, and on a terminal what is left, whenever that changes.
func tellDrain() func(node shape.Node, others int) {
	last, lonely := "", false
	return func(node shape.Node, others int) {
		if (others == 0) != lonely {
			if lonely = others == 0; lonely {
				_, _ = fmt.Fprintf(os.Stderr, "%s is the last node: it keeps what it runs until another comes; waiting\n", node.Name)
			}
		}
		if node.Maintainers == nil || node.Dispatchers == nil || !terminal(os.Stderr) {
			return
		}
		line := fmt.Sprintf("%s: %d changefeeds and %d spans are left", node.Name, *node.Maintainers, *node.Dispatchers)
		if line != last {
			_, _ = fmt.Fprintln(os.Stderr, line)
			last = line
		}
	}
}
