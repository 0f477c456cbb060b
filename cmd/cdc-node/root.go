package main

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"fencerow/api/client"
	"fencerow/changefeed"
)

// envPrefix begins the environment variable of every flag, as in CDC_NODE_SERVER.
const envPrefix = "CDC_NODE_"

// Values of --output.
const (
	outputTable = "table"
	outputJSON  = "json"
)

// common is what the commands that talk to a server share.
type common struct {
	server        string
	output        string
	namespace     string
	allNamespaces bool
	timeout       time.Duration
	tokenFile     string
	tlsCA         string
	tlsCert       string
	tlsKey        string
}

func newRoot() *cobra.Command {
	root := &cobra.Command{
		Use: "cdc-node", Short: "Fencerow: clustered change data capture", SilenceErrors: true, SilenceUsage: true,
		Version: version,
		Example: "  cdc-node dev\n  cdc-node server --name n1 --etcd 127.0.0.1:2379 --data-dir /var/lib/cdc-node\n  cdc-node changefeed list",
	}
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
	})
	asGroup(root)
	c := &common{}
	root.AddCommand(
		newDev(), newServer(), newEtcd(), newEtcdctl(), newEtcdutl(), newHealth(c), newChangefeed(c), newNode(c), newCoordinator(c), newEpoch(c),
		newSink(), newVerify(c), newRedo(), newCheck(c), newDebug(c), newLogLevel(c), newVersion(),
	)
	root.InitDefaultCompletionCmd()
	if completion, _, err := root.Find([]string{"completion"}); err == nil {
		completion.Example = "  source <(cdc-node completion bash)"
		for _, shell := range completion.Commands() {
			shell.Example = "  cdc-node completion " + shell.Name()
		}
	}
	setUp(root)
	return root
}

// setUp has every command read its environment, and makes a wrong number of arguments a usage error.
func setUp(cmd *cobra.Command) {
	for _, sub := range cmd.Commands() {
		setUp(sub)
	}
	if args := cmd.Args; args != nil {
		cmd.Args = func(cmd *cobra.Command, given []string) error {
			if err := args(cmd, given); err != nil {
				return usageError{fmt.Errorf("%w; see %s --help", err, cmd.CommandPath())}
			}
			return nil
		}
	}
	if cmd.PreRunE == nil && !cmd.DisableFlagParsing {
		cmd.PreRunE = func(cmd *cobra.Command, _ []string) error { return readEnv(cmd.Flags(), os.LookupEnv) }
	}
}

// readEnv gives each flag that wasn't given the value of its environment variable.
func readEnv(flags *pflag.FlagSet, lookup func(string) (string, bool)) error {
	var faults []error
	flags.VisitAll(func(flag *pflag.Flag) {
		name := envName(flag.Name)
		value, found := lookup(name)
		if !found || flag.Changed || value == "" {
			return
		}
		if err := flags.Set(flag.Name, value); err != nil {
			faults = append(faults, usageError{fmt.Errorf("environment variable %s: %w", name, err)})
		}
	})
	return errors.Join(faults...)
}

func envName(flag string) string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))
}

// asGroup has a command that only holds others refuse what isn't one of them.
func asGroup(cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if len(args) == 0 {
			return cmd.Help()
		}
		return usageError{fmt.Errorf("unknown command %q for %q; see %s --help", args[0], cmd.CommandPath(), cmd.CommandPath())}
	}
	return cmd
}

// connectFlags adds what is needed to reach a server.
func (c *common) connectFlags(cmd *cobra.Command) *cobra.Command {
	f := cmd.Flags()
	f.StringVar(&c.server, "server", "http://127.0.0.1:8300", "URL of any node")
	f.StringVarP(&c.output, "output", "o", outputTable, "table or json")
	f.DurationVar(&c.timeout, "timeout", client.RequestMax, "how long a request may take; for wait: how long to wait")
	f.StringVar(&c.tokenFile, "token-file", "", "file with a bearer token")
	f.StringVar(&c.tlsCA, "tls-ca", "", "PEM file of the authority that signed the server's certificate")
	f.StringVar(&c.tlsCert, "tls-cert", "", "PEM file of a client certificate")
	f.StringVar(&c.tlsKey, "tls-key", "", "PEM file of its key")
	complete(cmd, "output", func() []string { return []string{outputTable, outputJSON} })
	return cmd
}

// nameFlags adds what is needed to name changefeeds.
func (c *common) nameFlags(cmd *cobra.Command) *cobra.Command {
	c.connectFlags(cmd)
	cmd.Flags().StringVarP(&c.namespace, "namespace", "n", changefeed.DefaultNamespace, "namespace of a NAME that is written without one")
	if strings.Contains(cmd.Use, "NAME") && !strings.HasPrefix(cmd.Use, "create") {
		completeArgument(cmd, c.changefeedNames)
	}
	return cmd
}

// connect returns a client. Its requests are bounded by --timeout.
func (c *common) connect() (*client.Client, error) { return c.connectWithin(c.timeout) }

func (c *common) connectWithin(timeout time.Duration) (*client.Client, error) {
	if err := checkOutput(c.output); err != nil {
		return nil, err
	}
	if c.timeout <= 0 {
		return nil, usageError{fmt.Errorf("--timeout %v is not positive; give a duration such as 30s", c.timeout)}
	}
	return client.New(client.Config{
		Server: c.server, Timeout: timeout, TokenFile: c.tokenFile, TLSCA: c.tlsCA, TLSCert: c.tlsCert, TLSKey: c.tlsKey,
	})
}

func checkOutput(output string) error {
	if output != outputTable && output != outputJSON {
		return usageError{fmt.Errorf("--output %q is unknown; give table or json", output)}
	}
	return nil
}

func (c *common) id(text string) (changefeed.ID, error) { return changefeed.ParseID(text, c.namespace) }

// show prints an answer: the JSON that came, or a table.
func show[T any](cmd *cobra.Command, c *common, answer client.Answer[T], table func(io.Writer, T)) error {
	if c.output == outputJSON {
		return printJSON(cmd.OutOrStdout(), answer.Raw)
	}
	table(cmd.OutOrStdout(), answer.Value)
	return nil
}
