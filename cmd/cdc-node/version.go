package main

import (
	"encoding/json"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// build is what a binary says of itself.
type build struct {
	Version  string `json:"version"`
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

func newVersion() *cobra.Command {
	output := outputTable
	cmd := &cobra.Command{
		Use: "version", Short: "Show the version", Args: cobra.NoArgs,
		Example: "  cdc-node version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkOutput(output); err != nil {
				return err
			}
			this := build{Version: version, Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
			if output == outputJSON {
				raw, err := json.Marshal(this)
				if err != nil {
					return fmt.Errorf("version: %w", err)
				}
				return printJSON(cmd.OutOrStdout(), raw)
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "cdc-node %s %s %s\n", this.Version, this.Go, this.Platform)
			return err
		},
	}
	cmd.Flags().StringVarP(&output, "output", "o", outputTable, "table or json")
	return cmd
}
