package redo

import (
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"fencerow/changefeed"
	"fencerow/endpoint"
)

// Names of the options.
const (
	OptionRedo   = changefeed.OptionRedo
	OptionRetain = "redo_retain"
)

// rotateInterval bounds how much a segment of the log holds that nobody needs any more.
const rotateInterval = "10m"

var (
	optionRedo = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: OptionRedo, Check: func(value string) error { _, err := Directory(value); return err },
		Doc: "keep a redo log in this directory, file:///absolute/directory, shared by all nodes: set when the changefeed is created",
	}
	optionRetain = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: OptionRetain, Default: "24h", Check: checkRetain,
		Doc: "delete files of the redo log that were written to longer ago than this, once the target has what is in them: at least 1s, or 0 to keep all",
	}
)

// Options returns the options of a changefeed that its redo log obeys.
func Options() []changefeed.Option { return []changefeed.Option{optionRedo, optionRetain} }

// Directory returns the directory that the option's value names.
func Directory(value string) (string, error) {
	uri, err := endpoint.Parse(value, endpoint.Policy{Field: OptionRedo, Schemes: []endpoint.Scheme{endpoint.File}})
	if err != nil {
		return "", err
	}
	return filepath.Clean(string(uri.Path)), nil
}

func checkRetain(value string) error {
	if value == "0" {
		return nil
	}
	if d, err := time.ParseDuration(value); err != nil || d < time.Second {
		return fmt.Errorf("%.40q is not a duration of at least 1s, such as 24h", value)
	}
	return nil
}

// ParseDirectory reads how people name the directory of a log: a path, or the option's value.
func ParseDirectory(text string) (string, error) {
	if strings.HasPrefix(text, string(endpoint.File)+":") {
		return Directory(text)
	}
	directory, err := filepath.Abs(text)
	if err != nil || text == "" {
		return "", &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "DIR", Value: fmt.Sprintf("%.200q", text), Detail: "is no directory", Err: err,
			Cure: "name the directory of a redo log",
		}
	}
	return directory, nil
}
