package maintainer

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/record"
)

func TestGenerationNamesWhatDispatchersRun(t *testing.T) {
	base := func() *record.Spec {
		return &record.Spec{
			UID: "u1", Source: "etcd://a:1/x/", Sink: "file:///y", Start: "now", Options: changefeed.Options{"a": "1", "b": "2"},
		}
	}
	want := generation(base())
	require.NotZero(t, want)
	position := change.Position(7)
	for name, same := range map[string]func(*record.Spec){
		"a pause":            func(s *record.Spec) { s.Desired = changefeed.DesiredPaused },
		"a move":             func(s *record.Spec) { s.Move = &record.Move{To: "n2", ID: "1"} },
		"a bump by hand":     func(s *record.Spec) { s.Bump = "1" },
		"a later write":      func(s *record.Spec) { s.Updated = time.Unix(9, 0) },
		"a resolved start":   func(s *record.Spec) { s.StartPosition = &position },
		"a split":            func(s *record.Spec) { s.Options[SplitKeys] = "k" },
		"a merge":            func(s *record.Spec) { s.Options[MergeKeys] = "k" },
		"options in another": func(s *record.Spec) { s.Options = changefeed.Options{"b": "2", "a": "1"} },
	} {
		spec := base()
		same(spec)
		require.Equal(t, want, generation(spec), name)
	}
	for name, other := range map[string]func(*record.Spec){
		"a re-creation":      func(s *record.Spec) { s.UID = "u2" },
		"another source":     func(s *record.Spec) { s.Source = "etcd://a:1/z/" },
		"another sink":       func(s *record.Spec) { s.Sink = "file:///z" },
		"another option":     func(s *record.Spec) { s.Options["a"] = "2" },
		"a change left out":  func(s *record.Spec) { s.Skips = []record.Skip{{Position: 7, Index: 1}} },
		"one option less":    func(s *record.Spec) { delete(s.Options, "a") },
		"words that run on":  func(s *record.Spec) { s.Options = changefeed.Options{"a": "1b", "": "2"} },
		"a start of another": func(s *record.Spec) { s.Start = "snapshot" },
	} {
		spec := base()
		other(spec)
		require.NotEqual(t, want, generation(spec), name)
	}
}
