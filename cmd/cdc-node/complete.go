package main

import (
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"
)

// completeMax bounds how long a shell waits for names after a tab.
const completeMax = 2 * time.Second

// complete has the shell offer words for a flag.
func complete(cmd *cobra.Command, flag string, words func() []string) {
	_ = cmd.RegisterFlagCompletionFunc(flag, func(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) { //nolint:errcheck // the flag is there
		return offered(cmd, words), cobra.ShellCompDirectiveNoFileComp
	})
}

// completeArgument has the shell offer words for the one argument of a command.
func completeArgument(cmd *cobra.Command, words func() []string) *cobra.Command {
	cmd.ValidArgsFunction = func(cmd *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return offered(cmd, words), cobra.ShellCompDirectiveNoFileComp
	}
	return cmd
}

// offered are the words; where to ask for them may be said by the environment.
func offered(cmd *cobra.Command, words func() []string) []string {
	if err := readEnv(cmd.Flags(), os.LookupEnv); err != nil {
		return nil
	}
	return words()
}

// changefeedNames are those of the namespace, and the others with theirs. A server that doesn't answer has none.
func (c *common) changefeedNames() []string {
	asked, err := c.connectWithin(completeMax)
	if err != nil {
		return nil
	}
	defer asked.Close()
	ctx, cancel := context.WithTimeout(context.Background(), completeMax)
	defer cancel()
	page, err := asked.Page(ctx, "", "")
	if err != nil {
		return nil
	}
	names := make([]string, len(page.Value.Items))
	for i, one := range page.Value.Items {
		if names[i] = one.ID().String(); one.Namespace == c.namespace {
			names[i] = one.Name
		}
	}
	return names
}

func (c *common) nodeNames() []string {
	asked, err := c.connectWithin(completeMax)
	if err != nil {
		return nil
	}
	defer asked.Close()
	ctx, cancel := context.WithTimeout(context.Background(), completeMax)
	defer cancel()
	list, err := asked.Nodes(ctx)
	if err != nil {
		return nil
	}
	names := make([]string, len(list.Value.Items))
	for i, one := range list.Value.Items {
		names[i] = one.Name
	}
	return names
}
