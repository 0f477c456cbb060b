package node

import (
	"bytes"
	"cmp"
	"flag"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"fencerow/changefeed"
)

var writeTable = flag.Bool("metrics.write", false, "write docs/metrics.md instead of comparing it")

const tablePath = "../docs/metrics.md"

// noting is a registry that keeps what is registered in it.
type noting struct {
	*prometheus.Registry
	collectors []prometheus.Collector
}

func (n *noting) Register(one prometheus.Collector) error {
	n.collectors = append(n.collectors, one)
	return n.Registry.Register(one)
}

func (n *noting) MustRegister(all ...prometheus.Collector) {
	n.collectors = append(n.collectors, all...)
	n.Registry.MustRegister(all...)
}

// metric is one that a node registers, as people are told of it.
type metric struct{ kind, labels, help string }

var described = regexp.MustCompile(`^Desc\{fqName: "(cdc_[a-z_]+)", help: "(.*?)", (?:unit: ".*", )?constLabels: \{\}, variableLabels: \{(.*)\}\}$`)

// registered are the metrics of a node, by name.
func registered(t *testing.T) map[string]metric {
	t.Helper()
	registry := &noting{Registry: prometheus.NewRegistry()}
	m, err := newMetrics(registry)
	require.NoError(t, err)
	require.NoError(t, m.watchSession(func() float64 { return 0 }))
	require.NoError(t, m.watchSpool(func() int64 { return 0 }))
	require.NoError(t, m.watchRetained(func() map[changefeed.ID]int64 { return nil }))
	require.NoError(t, m.watchStreamed(func() map[changefeed.ID]int64 { return nil }))
	gathered := kinds(t, registry)
	out := map[string]metric{}
	for _, collector := range registry.collectors {
		descriptions := make(chan *prometheus.Desc, 100)
		collector.Describe(descriptions)
		close(descriptions)
		for description := range descriptions {
			if found := described.FindStringSubmatch(description.String()); found != nil {
				kind := cmp.Or(gathered[found[1]], kindOfLabelled(collector))
				require.NotEmpty(t, kind, found[1])
				out[found[1]] = metric{kind: kind, labels: strings.ReplaceAll(found[3], ",", ", "), help: found[2]}
			}
		}
	}
	require.Greater(t, len(out), 10)
	return out
}

// kinds are those of the metrics without labels, which are gathered from the start.
func kinds(t *testing.T, from prometheus.Gatherer) map[string]string {
	t.Helper()
	families, err := from.Gather()
	require.NoError(t, err)
	out := map[string]string{}
	for _, family := range families {
		out[family.GetName()] = strings.ToLower(family.GetType().String())
	}
	return out
}

func kindOfLabelled(collector prometheus.Collector) string {
	switch collector.(type) {
	case *prometheus.GaugeVec, *bytesEach:
		return "gauge"
	case *prometheus.CounterVec:
		return "counter"
	case *prometheus.HistogramVec:
		return "histogram"
	}
	return ""
}

// table is docs/metrics.md.
func table(metrics map[string]metric) []byte {
	var out bytes.Buffer
	out.WriteString(`# Metrics

Every metric of a node, at its ` + "`/metrics`" + `; beside these, those of the Go runtime and of the process. The table is made from the
code by ` + "`go generate ./node`" + `, and a test compares it. A histogram has the series ` + "`_bucket`, `_sum` and `_count`" + `. Metrics of a
changefeed are on its owner only, and gone with the ownership.

| name | kind | labels | meaning |
| --- | --- | --- | --- |
`)
	for _, name := range slices.Sorted(maps.Keys(metrics)) {
		one := metrics[name]
		fmt.Fprintf(&out, "| `%s` | %s | %s | %s |\n", name, one.kind, one.labels, one.help)
	}
	return out.Bytes()
}

// The table of metrics has all that there are, as the code says it, and no others.
func TestEveryMetricIsDocumented(t *testing.T) {
	want := table(registered(t))
	if *writeTable {
		require.NoError(t, os.WriteFile(tablePath, want, 0o644))
		return
	}
	text, err := os.ReadFile(tablePath)
	require.NoError(t, err)
	require.Equal(t, string(want), string(text), "run go generate ./node")
}

// Each metric is on the dashboard. That its queries are right, integration/deploy says.
func TestEveryMetricIsOnTheDashboard(t *testing.T) {
	board, err := os.ReadFile("../deploy/grafana/fencerow.json")
	require.NoError(t, err)
	for name := range registered(t) {
		require.True(t, strings.Contains(string(board), name), "%s has no panel in deploy/grafana/fencerow.json", name)
	}
}

// The pages for people speak of metrics that there are.
func TestThePagesSpeakOfMetricsThatThereAre(t *testing.T) {
	known := registered(t)
	for _, page := range []string{"../docs/operations.md", "../README.md", "../CHANGELOG.md"} {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, name := range metricWord.FindAllString(string(text), -1) {
			if name != "cdc_changefeed_" { // all of them
				require.Contains(t, known, name, page)
			}
		}
	}
}

var metricWord = regexp.MustCompile(`\bcdc_[a-z_]+\b`)

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
	known := registered(t)
	rules := 0
	for _, group := range file.Groups {
		for _, rule := range group.Rules {
			rules++
			names := metricWord.FindAllString(rule.Expr, -1)
			require.NotEmpty(t, names, rule.Alert)
			for _, name := range names {
				plain := regexp.MustCompile(`_(bucket|sum|count)$`).ReplaceAllString(name, "")
				require.True(t, known[name] != metric{} || known[plain] != metric{}, "%s asks for %s", rule.Alert, name)
			}
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.Contains(t, rule.Annotations["cure"], "cdc-node", rule.Alert)
			require.NotEmpty(t, rule.Labels["severity"], rule.Alert)
		}
	}
	require.GreaterOrEqual(t, rules, 6)
}
