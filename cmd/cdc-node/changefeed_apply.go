package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"fencerow/api/client"
	"fencerow/api/shape"
)

// manifestBytesMax bounds a file of manifests, and what comes over a pipe.
const manifestBytesMax = 64 << 20

func newChangefeedApply(c *common) *cobra.Command {
	var path string
	var dry bool
	cmd := c.nameFlags(&cobra.Command{
		Use: "apply -f FILE", Short: "Create or update changefeeds as a file of YAML describes them", Args: cobra.NoArgs,
		Long: "Create or update changefeeds as a file of YAML describes them, one a document; documents are separated by ---. What is as\n" +
			"described already stays untouched, and options that are left out take their defaults. Every document is tried, and the\n" +
			"command fails if any was refused.\n\n" +
			"  name: orders\n  source: etcd://127.0.0.1:2379/orders/\n  sink: file:///var/lib/orders\n  options:\n    batch_changes: 1000",
		Example: "  cdc-node changefeed apply -f changefeeds.yaml --dry-run",
		RunE: func(cmd *cobra.Command, _ []string) error {
			data, err := readManifests(path, cmd.InOrStdin())
			if err != nil {
				return usageError{err}
			}
			manifests, err := client.ParseManifests(path, data, c.namespace)
			if err != nil {
				return err
			}
			return c.apply(cmd, manifests, dry)
		},
	})
	cmd.Flags().StringVarP(&path, "filename", "f", "", "the file; - is the standard input")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "only show the difference")
	_ = cmd.MarkFlagRequired("filename") //nolint:errcheck // the flag is there
	return cmd
}

func readManifests(path string, in io.Reader) ([]byte, error) {
	if path != "-" {
		opened, err := os.Open(path)
		if err != nil {
			return nil, fmt.Errorf("-f: %w; name a file that can be read", err)
		}
		var file io.ReadCloser = opened
		defer func() { _ = file.Close() }()
		in = file
	}
	data, err := io.ReadAll(io.LimitReader(in, manifestBytesMax+1))
	if err != nil {
		return nil, fmt.Errorf("-f %s: %w", path, err)
	}
	if len(data) > manifestBytesMax {
		return nil, fmt.Errorf("-f %s has more than %d bytes; give several files", path, manifestBytesMax)
	}
	return data, nil
}

// apply applies manifest after manifest, and goes on after one that is refused.
func (c *common) apply(cmd *cobra.Command, manifests []shape.Create, dry bool) error { //nolint:revive // it is a flag
	asked, err := c.connect()
	if err != nil {
		return err
	}
	defer asked.Close()
	do := asked.Apply
	if dry {
		do = asked.TryApply
	}
	list := shape.List[client.Applied]{Items: []client.Applied{}}
	var faults []error
	for _, manifest := range manifests {
		applied, err := do(cmd.Context(), manifest)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		list.Items = append(list.Items, applied)
	}
	raw, err := json.Marshal(list)
	if err != nil {
		return fmt.Errorf("apply: %w", err)
	}
	err = show(cmd, c, client.Answer[shape.List[client.Applied]]{Value: list, Raw: raw}, tableOfApplied)
	return errors.Join(append(faults, err)...)
}

func tableOfApplied(w io.Writer, list shape.List[client.Applied]) {
	for _, one := range list.Items {
		_, _ = fmt.Fprintf(w, "%-9s %s/%s\n", one.Action, one.Namespace, one.Name)
		for _, d := range one.Differences {
			_, _ = fmt.Fprintf(w, "  %s: %s → %s\n", d.Field, word(d.From), word(d.To))
		}
	}
}
