package api

import (
	"archive/zip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"runtime/pprof"

	"github.com/prometheus/common/expfmt"

	"fencerow/endpoint"
	"fencerow/record"
)

// dumpRoute is for admins although it only reads: goroutines show more than a viewer is meant to see.
const dumpRoute = "GET /debug/dump"

// dumped is one record in a dump. What does not parse is named and left out: nobody knows what it holds.
type dumped struct {
	Key      string          `json:"key"`
	Revision int64           `json:"revision"`
	Value    json.RawMessage `json:"value,omitempty"`
	Fault    string          `json:"fault,omitempty"`
}

// dump collects what somebody needs who was not there: the records of the cluster, and of this node its metrics and
// goroutines, in a zip, without a secret.
func (s *Server) dump(r *http.Request) (reply, error) {
	keys, err := record.NewKeys(s.config.Cluster)
	if err != nil {
		return reply{}, err
	}
	stored, err := s.backend.Dump(r.Context())
	if err != nil {
		return reply{}, err
	}
	cluster, err := s.cluster(r)
	if err != nil {
		return reply{}, err
	}
	records := make([]dumped, len(stored))
	for i, raw := range stored {
		records[i] = redacted(keys, raw)
	}
	return reply{status: http.StatusOK, contentType: "application/zip", stream: func(w io.Writer) error {
		return s.writeDump(w, records, cluster.body)
	}}, nil
}

func (s *Server) writeDump(w io.Writer, records []dumped, cluster any) error {
	archive := zip.NewWriter(w)
	add := func(name string, write func(io.Writer) error) error {
		file, err := archive.Create(name)
		if err == nil {
			err = write(file)
		}
		if err != nil {
			return fmt.Errorf("api: dump: %s: %w", name, err)
		}
		return nil
	}
	asJSON := func(value any) func(io.Writer) error {
		return func(w io.Writer) error {
			encoder := json.NewEncoder(w)
			encoder.SetEscapeHTML(false)
			encoder.SetIndent("", "  ")
			return encoder.Encode(value)
		}
	}
	for _, part := range []struct {
		name  string
		write func(io.Writer) error
	}{
		{"cluster.json", asJSON(cluster)},
		{"records.json", asJSON(records)},
		{"metrics.txt", s.writeMetrics},
		{"goroutines.txt", func(w io.Writer) error { return pprof.Lookup("goroutine").WriteTo(w, 2) }},
	} {
		if err := add(part.name, part.write); err != nil {
			return err
		}
	}
	if err := archive.Close(); err != nil {
		return fmt.Errorf("api: dump: %w", err)
	}
	return nil
}

func (s *Server) writeMetrics(w io.Writer) error {
	families, err := s.config.Gatherer.Gather()
	if err != nil {
		return err
	}
	encoder := expfmt.NewEncoder(w, expfmt.NewFormat(expfmt.TypeTextPlain))
	for _, family := range families {
		if err := encoder.Encode(family); err != nil {
			return err
		}
	}
	return nil
}

// redacted returns a record without a password.
func redacted(keys record.Keys, raw RawRecord) dumped {
	out := dumped{Key: raw.Key, Revision: raw.Revision}
	ref, decoded, err := keys.Decode(raw.Key, raw.Value)
	if err != nil {
		out.Fault = fmt.Sprintf("does not parse; %d bytes", len(raw.Value))
		return out
	}
	if spec, ok := decoded.(*record.Spec); ok {
		spec.Source, spec.Sink = endpoint.Redact(spec.Source), endpoint.Redact(spec.Sink)
	}
	if out.Value, err = record.Encode(ref, decoded); err != nil {
		out.Fault = "can't be written again"
	}
	return out
}
