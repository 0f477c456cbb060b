package main

import (
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"fencerow/api/shape"
)

// checkTimeout is how long a check may take by default: it reads every sink.
const checkTimeout = 2 * time.Minute

// errFound ends a check that found something: what it is was printed.
var errFound = errors.New("something is inconsistent; see above for what to do")

func newCheck(c *common) *cobra.Command {
	return c.connectFlags(&cobra.Command{
		Use: "check", Short: "Say what is inconsistent among records, nodes and sinks, and what to do", Args: cobra.NoArgs,
		Long: "Read the records, the nodes and what the sinks keep, and say what is inconsistent: claims without a changefeed, owners\n" +
			"without a node, epochs or checkpoints behind a sink, clocks that are far off, records that don't parse. It changes nothing.\n" +
			"What time may settle is looked at twice. Exit code 1 when something was found.",
		Example: "  cdc-node check",
		RunE: func(cmd *cobra.Command, _ []string) error {
			timeout := c.timeout
			if !cmd.Flags().Changed("timeout") {
				timeout = checkTimeout
			}
			asked, err := c.connectWithin(timeout)
			if err != nil {
				return err
			}
			defer asked.Close()
			answer, err := asked.Check(cmd.Context())
			if err != nil {
				return fmt.Errorf("check: %w", err)
			}
			if err := show(cmd, c, answer, tableOfFindings); err != nil {
				return err
			}
			if len(answer.Value.Items) > 0 {
				return errFound
			}
			return nil
		},
	})
}

func tableOfFindings(w io.Writer, list shape.List[shape.Finding]) {
	if len(list.Items) == 0 {
		_, _ = fmt.Fprintln(w, "nothing is inconsistent")
	}
	for _, one := range list.Items {
		_, _ = fmt.Fprintf(w, "%s: %s\n  %s\n  do: %s\n", one.Code, one.Subject, one.Detail, one.Cure)
	}
}
