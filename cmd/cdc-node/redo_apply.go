package main

import (
	"encoding/json"
	"fmt"

	"github.com/spf13/cobra"
	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/node"
	"fencerow/record"
	"fencerow/redo"
	"fencerow/sink"
)

func newRedoApply() *cobra.Command {
	var to, output string
	var options []string
	var allow bool
	cmd := &cobra.Command{
		Use: "apply DIR --sink URI", Short: "Bring a target to the one position up to which a redo log is complete", Args: cobra.ExactArgs(1),
		Long: "Write to a target what it lacks, up to the consistent position of a redo log (redo show), each change once. It may be killed, and\n" +
			"goes on where it was when it is started again. It asks no server and no source.\n\n" +
			"If the target is the changefeed's own, it first sees to it for " + redo.QuietFor.String() + " that nobody writes there, and then shuts out whoever might: an owner of\n" +
			"the changefeed that lives on writes nothing any more, and the next one may go on from the position. A changefeed that writes is\n" +
			"refused: pause it first. Another target must be empty, or have been applied to before; the changefeed is left alone.",
		Example: "  cdc-node redo apply /var/redo/orders --sink etcd://10.0.0.7:2379/copy/",
		RunE: func(cmd *cobra.Command, args []string) error {
			if to == "" {
				return usageError{fmt.Errorf("--sink is needed; see %s --help", cmd.CommandPath())}
			}
			if err := checkOutput(output); err != nil {
				return err
			}
			given, err := parseOptions(options)
			if err != nil {
				return usageError{err}
			}
			directory, err := redo.ParseDirectory(args[0])
			if err != nil {
				return err
			}
			literals := endpoint.RefuseLiterals
			if allow {
				literals = endpoint.AllowLiterals
			}
			if err := checkTarget(to, given, literals); err != nil {
				return err
			}
			ctx, stop := untilSignal(cmd.Context())
			defer stop()
			tell, done := redoProgress()
			result, err := redo.Apply(ctx, redo.ApplyConfig{
				Directory: directory, Tell: tell, Logger: zap.NewNop(),
				Open: func(about redo.About, as sink.Identity) (redo.Target, error) {
					return node.OpenTarget(as, record.Spec{Source: about.Source, Sink: to, Options: given}, literals, zap.NewNop())
				},
			})
			done()
			if err != nil {
				return fmt.Errorf("apply %s: %w", directory, err)
			}
			return printApplied(cmd, output, result)
		},
	}
	f := cmd.Flags()
	f.StringVar(&to, "sink", "", "the target, as in etcd://127.0.0.1:2379/copy/")
	f.StringArrayVar(&options, "option", nil, "k=v of the sink, such as tls_ca; may be given several times")
	f.StringVarP(&output, "output", "o", outputTable, "table or json")
	f.BoolVar(&allow, "allow-literal-secrets", false, "take a password that is written into the URI")
	return cmd
}

// checkTarget refuses what is no sink, before anything is read.
func checkTarget(to string, given changefeed.Options, literals endpoint.Literals) error {
	uri, err := endpoint.Parse(to, endpoint.Policy{Field: "--sink", Literals: literals})
	if err != nil {
		return err
	}
	return given.Validate(node.Kinds().Sinks[uri.Scheme])
}

// applied is what apply prints.
type applied struct {
	Changefeed string          `json:"changefeed"`
	UID        changefeed.UID  `json:"uid"`
	Position   change.Position `json:"position"`
	Changes    int             `json:"changes"`
}

func printApplied(cmd *cobra.Command, output string, result redo.Result) error {
	if output == outputJSON {
		raw, err := json.Marshal(applied{
			Changefeed: result.Identity.Changefeed.String(), UID: result.Identity.UID, Position: result.Position, Changes: result.Changes,
		})
		if err != nil {
			return fmt.Errorf("apply: %w", err)
		}
		return printJSON(cmd.OutOrStdout(), raw)
	}
	_, err := fmt.Fprintf(cmd.OutOrStdout(), "the target holds %s as it was at position %s; it lacked %d changes\n",
		result.Identity.Changefeed, result.Position, result.Changes)
	return err
}
