package main

import (
	"errors"

	"github.com/spf13/cobra"

	"fencerow/api/client"
)

func newChangefeedUpdate(c *common) *cobra.Command {
	var edit client.Edit
	var options []string
	cmd := c.nameFlags(&cobra.Command{
		Use: "update NAME", Short: "Change options, and while it is paused the hosts and users of source and sink", Args: cobra.ExactArgs(1),
		Long: "Change options of a changefeed; its owner hands over to one that obeys them, and nothing is replayed. The hosts and users\n" +
			"of source and sink can be changed while it is paused; what they point at, and the start, are fixed: see reset.",
		Example: "  cdc-node changefeed update orders --option batch_changes=1000 --unset flush_interval",
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if edit.Set, err = parseOptions(options); err != nil {
				return usageError{err}
			}
			if edit.Source == "" && edit.Sink == "" && len(edit.Set)+len(edit.Unset) == 0 {
				return usageError{errors.New("nothing is to be changed; give --option, --unset, --source or --sink")}
			}
			return c.onFeed(cmd, args[0], "update", func(asked *asking) (answer, error) { return asked.Change(asked.ctx, asked.id, edit) })
		},
	})
	f := cmd.Flags()
	f.StringVar(&edit.Source, "source", "", "the source with other hosts or another user")
	f.StringVar(&edit.Sink, "sink", "", "the sink with other hosts or another user")
	f.StringArrayVar(&options, "option", nil, "k=v; may be given several times")
	f.StringArrayVar(&edit.Unset, "unset", nil, "an option that takes its default again; may be given several times")
	return cmd
}
