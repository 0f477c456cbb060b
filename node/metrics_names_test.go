package node

import (
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// metricNames are those that a node registers.
func metricNames(t *testing.T) map[string]bool {
	t.Helper()
	m, err := newMetrics()
	require.NoError(t, err)
	require.NoError(t, m.watchSession(func() float64 { return 0 }))
	descriptions := make(chan *prometheus.Desc)
	go func() {
		defer close(descriptions)
		m.registry.Describe(descriptions)
	}()
	name := regexp.MustCompile(`fqName: "(cdc_[a-z_]+)"`)
	out := map[string]bool{}
	for description := range descriptions {
		if found := name.FindStringSubmatch(description.String()); found != nil {
			out[found[1]] = true
		}
	}
	require.Greater(t, len(out), 10)
	return out
}

var metricWord = regexp.MustCompile(`\bcdc_[a-z_]+\b`)

// The table of metrics in the operations guide has all that there are, and no others.
func TestEveryMetricIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../docs/operations.md")
	require.NoError(t, err)
	_, table, found := strings.Cut(string(text), "## Metrics")
	require.True(t, found)
	documented := map[string]bool{}
	for line := range strings.Lines(table) {
		cells := strings.Split(line, "|")
		if len(cells) > 1 {
			for _, name := range metricWord.FindAllString(cells[1], -1) {
				documented[name] = true
			}
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(metricNames(t))), slices.Sorted(maps.Keys(documented)))
}

// The alert rules ask for metrics that there are, and each says what to do.
func TestAlertsAskForMetricsThatThereAre(t *testing.T) {
	data, err := os.ReadFile("../deploy/prometheus/alerts.yaml")
	require.NoError(t, err)
	var file struct {
		Groups []struct {
			Name  string `json:"name"`
			Rules []struct {
				Alert       string            `json:"alert"`
				Expr        string            `json:"expr"`
				For         string            `json:"for"`
				Labels      map[string]string `json:"labels"`
				Annotations map[string]string `json:"annotations"`
			} `json:"rules"`
		} `json:"groups"`
	}
	require.NoError(t, yaml.UnmarshalStrict(data, &file))
	known := metricNames(t)
	rules := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			rules++
			names := metricWord.FindAllString(rule.Expr, -1)
			require.NotEmpty(t, names, rule.Alert)
			for _, name := range names {
				plain := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
				require.True(t, known[name] || known[plain], "%s asks for %s", rule.Alert, name)
			}
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.Contains(t, rule.Annotations["cure"], "cdc-node", rule.Alert)
			require.NotEmpty(t, rule.Labels["severity"], rule.Alert)
		}
	}
	require.GreaterOrEqual(t, rules, 6)
}
