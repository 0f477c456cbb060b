package main

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/node"
)

var writeReference = flag.Bool("reference.write", false, "write docs/reference.md instead of comparing it")

const docs = "../../docs/"

// The reference of the docs is what the code says.
func TestTheReferenceIsCurrent(t *testing.T) {
	want := reference()
	if *writeReference {
		require.NoError(t, os.WriteFile(docs+"reference.md", []byte(want), 0o644))
	}
	have, err := os.ReadFile(docs + "reference.md")
	require.NoError(t, err)
	require.Equal(t, want, string(have), "run make generate")
}

func reference() string {
	var b strings.Builder
	b.WriteString("# Reference\n\nMade from the code by `make generate`; a test compares it, and another runs the examples.\n\n<!-- test: source \"$PAGES/reference.sh\" -->\n")
	root := newRoot()
	server, _, err := root.Find([]string{"server"})
	if err != nil {
		panic(err)
	}
	b.WriteString("\n## Flags of `cdc-node server`\n\n" + oneParagraph(server.Long) + "\n\n| flag | environment | default | meaning |\n| --- | --- | --- | --- |\n")
	server.Flags().VisitAll(func(f *pflag.Flag) {
		if f.Name != "help" {
			fmt.Fprintf(&b, "| `--%s` | `%s` | %s | %s |\n", f.Name, envName(f.Name), fallbackOf(f), cell(f.Usage))
		}
	})
	kinds := node.Kinds()
	optionTable(&b, "Options of every changefeed", kinds.Common)
	for _, side := range []struct {
		name string
		of   map[endpoint.Scheme][]changefeed.Option
	}{{"source", kinds.Sources}, {"sink", kinds.Sinks}} {
		for _, scheme := range slices.Sorted(maps.Keys(side.of)) {
			optionTable(&b, fmt.Sprintf("Options of %s `%s`", side.name, scheme), side.of[scheme])
		}
	}
	b.WriteString("\n## Commands\n")
	shared := &common{}
	general := shared.nameFlags(&cobra.Command{}).Flags()
	commands(&b, root, general)
	b.WriteString("\n### Flags of most commands\n\nAlso as environment variables, as in `CDC_NODE_SERVER`.\n\n| flag | default | meaning |\n| --- | --- | --- |\n")
	general.VisitAll(func(f *pflag.Flag) { flagRow(&b, f) })
	return b.String()
}

func optionTable(b *strings.Builder, title string, options []changefeed.Option) {
	fmt.Fprintf(b, "\n## %s\n\n", title)
	if len(options) == 0 {
		b.WriteString("None.\n")
		return
	}
	b.WriteString("| option | default | meaning |\n| --- | --- | --- |\n")
	for _, option := range options {
		fmt.Fprintf(b, "| `%s` | %s | %s |\n", option.Name, value(option.Default), cell(option.Doc))
	}
}

// commands describes every command that does something, with the flags that are its own.
func commands(b *strings.Builder, cmd *cobra.Command, general *pflag.FlagSet) {
	for _, sub := range cmd.Commands() {
		if sub.Name() == "help" || sub.Name() == "completion" {
			continue
		}
		commands(b, sub, general)
		if sub.HasSubCommands() {
			continue
		}
		usage := strings.TrimSuffix(sub.CommandPath(), sub.Name()) + sub.Use
		fmt.Fprintf(b, "\n### `%s`\n\n%s\n\n```sh\n%s\n```\n", usage, about(sub), unindented(sub.Example))
		if sub.Name() == "server" {
			b.WriteString("\nIts flags: [above](#flags-of-cdc-node-server).\n")
			continue
		}
		var own strings.Builder
		sub.Flags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && general.Lookup(f.Name) == nil {
				flagRow(&own, f)
			}
		})
		if own.Len() > 0 {
			b.WriteString("\n| flag | default | meaning |\n| --- | --- | --- |\n" + own.String())
		}
	}
}

// about is what a command says of itself. That of create lists options, which have tables.
func about(cmd *cobra.Command) string {
	if cmd.Long == "" || cmd.Name() == "create" {
		return cmd.Short + "."
	}
	text, sample, found := strings.Cut(cmd.Long, "\n\n")
	if !found {
		return oneParagraph(text)
	}
	return oneParagraph(text) + "\n\n```yaml\n" + unindented(sample) + "\n```"
}

func flagRow(b *strings.Builder, f *pflag.Flag) {
	name := "`--" + f.Name + "`"
	if f.Shorthand != "" {
		name += ", `-" + f.Shorthand + "`"
	}
	fmt.Fprintf(b, "| %s | %s | %s |\n", name, fallbackOf(f), cell(f.Usage))
}

func fallbackOf(f *pflag.Flag) string {
	switch f.DefValue {
	case "false", "[]", "0", "0s":
		return ""
	default:
		return value(f.DefValue)
	}
}

func value(text string) string {
	if text == "" {
		return ""
	}
	return "`" + text + "`"
}

func cell(text string) string { return strings.NewReplacer("|", "\\|", "<", "&lt;").Replace(text) }

func oneParagraph(text string) string { return strings.Join(strings.Fields(text), " ") }

func unindented(text string) string {
	return strings.TrimSpace(regexp.MustCompile(`(?m)^  `).ReplaceAllString(text, ""))
}

var (
	inline = regexp.MustCompile("`(?:\\./)?cdc-node ([^`]+)`")
	alone  = regexp.MustCompile(`^ *(?:\./)?cdc-node ([a-z].*)$`)
	ending = regexp.MustCompile(`\s*(?:#|&&|\||>|2>|&$|\\$|;).*$`)
)

// Whatever command a page shows is one of the binary's, and takes the flags that it is shown with.
func TestEveryCommandOfThePagesExists(t *testing.T) {
	pages := []string{"../../README.md"}
	entries, err := os.ReadDir(docs)
	require.NoError(t, err)
	for _, entry := range entries {
		if strings.HasSuffix(entry.Name(), ".md") {
			pages = append(pages, docs+entry.Name())
		}
	}
	count := 0
	for _, page := range pages {
		data, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, line := range commandsIn(string(data)) {
			count++
			require.NoError(t, known(line), "%s shows: cdc-node %s", page, line)
		}
	}
	require.Greater(t, count, 50, "they were looked for in the wrong way")
}

// commandsIn are the command lines of a page, in blocks and between backquotes, after the name of the binary.
func commandsIn(text string) (out []string) {
	fenced := false
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasPrefix(line, "```") {
			fenced = !fenced
			continue
		}
		form := inline
		if fenced || strings.HasPrefix(line, "    ") {
			form = alone
		}
		for _, found := range form.FindAllStringSubmatch(line, -1) {
			out = append(out, ending.ReplaceAllString(strings.Join(strings.Fields(found[1]), " "), ""))
		}
	}
	return out
}

func known(line string) error {
	root := newRoot()
	cmd, rest, err := root.Find(strings.Fields(line))
	if err != nil {
		return err
	}
	if cmd.HasSubCommands() && len(rest) > 0 {
		return fmt.Errorf("%s has no command %q", cmd.CommandPath(), rest[0])
	}
	for _, word := range rest {
		name, found := strings.CutPrefix(word, "--")
		name, _, _ = strings.Cut(strings.TrimRight(name, ".,;:)"), "=")
		if found && name != "" && !cmd.DisableFlagParsing && name != "help" && cmd.Flags().Lookup(name) == nil {
			return fmt.Errorf("%s has no flag --%s", cmd.CommandPath(), name)
		}
	}
	return nil
}

func TestUnknownCommandsOfAPageAreFound(t *testing.T) {
	text := "Say `cdc-node changefeed list -A`.\n\n    cdc-node changefeed pose orders   # nothing\n    ./cdc-node check --loud &\n"
	lines := commandsIn(text)
	require.Equal(t, []string{"changefeed list -A", "changefeed pose orders", "check --loud"}, lines)
	require.NoError(t, known(lines[0]))
	require.Error(t, known(lines[1]))
	require.Error(t, known(lines[2]))
}

// What may be seen has a line that says what to do.
func TestEverythingThatIsSeenIsExplained(t *testing.T) {
	operations, err := os.ReadFile(docs + "operations.md")
	require.NoError(t, err)
	for _, code := range changefeed.Codes() {
		require.Contains(t, string(operations), "`"+string(code)+"`", "an error without a cure")
	}
	for _, state := range []changefeed.State{
		changefeed.StateStarting, changefeed.StateRunning, changefeed.StateStalled, changefeed.StateRetrying, changefeed.StatePaused,
		changefeed.StateFailed, changefeed.StateRemoving,
	} {
		require.Contains(t, string(operations), "| `"+string(state)+"` |", "a state")
	}
	alerts, err := os.ReadFile("../../deploy/prometheus/alerts.yaml")
	require.NoError(t, err)
	for _, alert := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(alerts), -1) {
		require.Contains(t, string(operations), "| `"+alert[1]+"` |", "an alert")
	}
	readme, err := os.ReadFile("../../README.md")
	require.NoError(t, err)
	for scheme := range node.Kinds().Sinks {
		require.Regexp(t, "(?m)^\\| `"+string(scheme)+":(//)?`", string(readme), "a sink without its guarantees")
	}
}
