package client

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"sigs.k8s.io/yaml"

	"fencerow/api/shape"
	"fencerow/changefeed"
)

// manifestsMax bounds the documents of one file.
const manifestsMax = 10_000

// manifest is a document of YAML that describes a changefeed.
type manifest struct {
	Namespace string            `json:"namespace"`
	Name      string            `json:"name"`
	Source    string            `json:"source"`
	Sink      string            `json:"sink"`
	Start     scalar            `json:"start"`
	Options   map[string]scalar `json:"options"`
}

// scalar is a value as it would be on a command line: YAML has numbers and booleans where options are text.
type scalar string

// UnmarshalJSON takes text, numbers, booleans, and lists of them.
func (s *scalar) UnmarshalJSON(data []byte) error {
	data = bytes.TrimSpace(data)
	switch {
	case bytes.HasPrefix(data, []byte("[")):
		var words []scalar
		if err := json.Unmarshal(data, &words); err != nil {
			return err
		}
		parts := make([]string, len(words))
		for i, word := range words {
			parts[i] = string(word)
		}
		*s = scalar(strings.Join(parts, ","))
	case bytes.HasPrefix(data, []byte(`"`)):
		var text string
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
		*s = scalar(text)
	case bytes.HasPrefix(data, []byte("{")), bytes.Equal(data, []byte("null")):
		return fmt.Errorf("%.40s is not a value: write text, a number, true or false", data)
	default:
		*s = scalar(data)
	}
	return nil
}

// ParseManifests reads the documents of a file of YAML, each of which describes a changefeed. namespace is for those
// that name none; name is the file's, for errors.
func ParseManifests(name string, data []byte, namespace string) ([]shape.Create, error) {
	var out []shape.Create
	seen := map[changefeed.ID]int{}
	for i, document := range documents(data) {
		refuse := func(detail string) error {
			return invalid("-f", fmt.Sprintf("%s, document %d", name, i+1), detail, "write name, source, sink, and if you like namespace, start, options")
		}
		var read manifest
		if err := yaml.UnmarshalStrict(document, &read); err != nil {
			return nil, refuse("is not a changefeed: " + err.Error())
		}
		request := shape.Create{
			Namespace: read.Namespace, Name: read.Name, Source: read.Source, Sink: read.Sink, Start: string(read.Start),
			Options: changefeed.Options{},
		}
		if request.Namespace == "" {
			request.Namespace = namespace
		}
		for option, value := range read.Options {
			request.Options[option] = string(value)
		}
		id := changefeed.ID{Namespace: request.Namespace, Name: request.Name}
		if err := id.Validate(); err != nil {
			return nil, refuse(err.Error())
		}
		if request.Source == "" || request.Sink == "" {
			return nil, refuse("has no source or no sink")
		}
		if before, twice := seen[id]; twice {
			return nil, refuse(fmt.Sprintf("describes %s, as document %d does", id, before))
		}
		seen[id] = i + 1
		out = append(out, request)
	}
	if len(out) == 0 || len(out) > manifestsMax {
		return nil, invalid("-f", name, fmt.Sprintf("has %d documents", len(out)), fmt.Sprintf("give 1 to %d", manifestsMax))
	}
	return out, nil
}

// documents cuts a file at its markers. Inside a document no line can begin like one. Empty ones are left out.
func documents(data []byte) [][]byte {
	var out [][]byte
	var current []byte
	content := false
	end := func() {
		if content {
			out = append(out, current)
		}
		current, content = nil, false
	}
	for line := range bytes.Lines(data) {
		word := bytes.TrimRight(line, "\r\n")
		if rest, found := bytes.CutPrefix(word, []byte("---")); found && (len(rest) == 0 || rest[0] == ' ' || rest[0] == '\t') {
			end()
			line = append(bytes.TrimLeft(rest, " \t"), '\n')
		} else if bytes.Equal(word, []byte("...")) {
			end()
			continue
		}
		current = append(current, line...)
		text := bytes.TrimSpace(line)
		content = content || len(text) > 0 && text[0] != '#'
	}
	end()
	return out
}
