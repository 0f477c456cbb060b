package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/node"
)

func newChangefeedCreate(c *common) *cobra.Command {
	var request shape.Create
	var options []string
	cmd := c.nameFlags(&cobra.Command{
		Use: "create NAME --source URI --sink URI", Short: "Create a changefeed, which begins to run at once", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if request.Source == "" || request.Sink == "" {
				return usageError{fmt.Errorf("--source and --sink are needed; see %s --help", cmd.CommandPath())}
			}
			var err error
			if request.Options, err = parseOptions(options); err != nil {
				return usageError{err}
			}
			return c.onFeed(cmd, args[0], "create", func(asked *asking) (answer, error) {
				request.Namespace, request.Name = asked.id.Namespace, asked.id.Name
				return asked.Create(asked.ctx, request)
			})
		},
	})
	f := cmd.Flags()
	f.StringVar(&request.Source, "source", "", "what is copied, as in etcd://127.0.0.1:2379/orders/")
	f.StringVar(&request.Sink, "sink", "", "where to, as in file:///var/lib/orders")
	f.StringVar(&request.Start, "start", "now", "now, snapshot, or a position")
	f.StringArrayVar(&options, "option", nil, "k=v; may be given several times")
	cmd.Long = createHelp()
	cmd.Example = "  cdc-node changefeed create orders --source etcd://127.0.0.1:2379/orders/ --sink file:///var/lib/orders --start snapshot"
	return cmd
}

// createHelp lists the options by kind.
func createHelp() string {
	kinds := node.Kinds()
	var b strings.Builder
	b.WriteString("Create a changefeed, which begins to run at once.\n")
	list := func(title string, options []changefeed.Option) {
		if len(options) == 0 {
			return
		}
		fmt.Fprintf(&b, "\n%s:\n", title)
		for _, option := range options {
			fallback := ""
			if option.Default != "" {
				fallback = " (default " + option.Default + ")"
			}
			fmt.Fprintf(&b, "  %-20s %s%s\n", option.Name, option.Doc, fallback)
		}
	}
	list("Options of every changefeed", kinds.Common)
	byScheme := func(title string, of map[endpoint.Scheme][]changefeed.Option) {
		for _, scheme := range slices.Sorted(maps.Keys(of)) {
			list(fmt.Sprintf("Options of %s %s", title, scheme), of[scheme])
		}
	}
	byScheme("source", kinds.Sources)
	byScheme("sink", kinds.Sinks)
	return b.String()
}

func parseOptions(words []string) (changefeed.Options, error) {
	out := changefeed.Options{}
	for _, word := range words {
		name, value, found := strings.Cut(word, "=")
		if !found || name == "" {
			return nil, fmt.Errorf("--option %q is not k=v; write one such as batch_changes=1000", word)
		}
		if _, twice := out[name]; twice {
			return nil, fmt.Errorf("--option %s is given twice; give it once", name)
		}
		out[name] = value
	}
	return out, nil
}
