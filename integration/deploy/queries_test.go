package deploy

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/promql/parser"
	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"
)

// metric is a line of docs/metrics.md, which is made from the code.
type metric struct {
	kind   string
	labels []string
}

func documented(t *testing.T) map[string]metric {
	t.Helper()
	text, err := os.ReadFile("../../docs/metrics.md")
	require.NoError(t, err)
	out := map[string]metric{}
	line := regexp.MustCompile("(?m)^\\| `(cdc_[a-z_]+)` \\| ([a-z]+) \\| (.*?) \\|")
	for _, found := range line.FindAllStringSubmatch(string(text), -1) {
		one := metric{kind: found[2]}
		if found[3] != "" {
			one.labels = strings.Split(found[3], ", ")
		}
		out[found[1]] = one
	}
	require.Greater(t, len(out), 10)
	return out
}

// targetLabels are those that Prometheus adds to what it scrapes.
var targetLabels = []string{"instance", "job", "__name__"}

// labelsOf are the labels of a series, or false if no metric has such a series.
func labelsOf(known map[string]metric, series string) ([]string, bool) {
	if one, found := known[series]; found && one.kind != "histogram" {
		return append(one.labels, targetLabels...), true
	}
	for _, suffix := range []string{"_bucket", "_sum", "_count"} {
		plain, cut := strings.CutSuffix(series, suffix)
		if one, found := known[plain]; cut && found && one.kind == "histogram" {
			if suffix == "_bucket" {
				return append(append(one.labels, "le"), targetLabels...), true
			}
			return append(one.labels, targetLabels...), true
		}
	}
	return nil, false
}

// faults are what is wrong with a query: it doesn't parse, or asks for series or labels that there aren't.
func faults(known map[string]metric, query string) []string {
	expression, err := parser.NewParser(parser.Options{}).ParseExpr(query)
	if err != nil {
		return []string{err.Error()}
	}
	var out, grouped, labels []string
	parser.Inspect(expression, func(node parser.Node, _ []parser.Node) error {
		switch node := node.(type) {
		case *parser.VectorSelector:
			found, ok := labelsOf(known, node.Name)
			if !ok {
				out = append(out, "there is no series "+node.Name)
			}
			labels = append(labels, found...)
			for _, matcher := range node.LabelMatchers {
				if !slices.Contains(found, matcher.Name) {
					out = append(out, node.Name+" has no label "+matcher.Name)
				}
			}
		case *parser.AggregateExpr:
			grouped = append(grouped, node.Grouping...)
		case *parser.Call:
			if node.Func.Name == "rate" || node.Func.Name == "increase" {
				name := node.Args[0].(*parser.MatrixSelector).VectorSelector.(*parser.VectorSelector).Name
				if known[name].kind == "gauge" {
					out = append(out, node.Func.Name+" of the gauge "+name)
				}
			}
		}
		return nil
	})
	for _, label := range grouped {
		if !slices.Contains(labels, label) {
			out = append(out, "nothing in it has the label "+label)
		}
	}
	return out
}

func TestTheRuleForQueriesObjects(t *testing.T) {
	known := documented(t)
	require.Empty(t, faults(known, `histogram_quantile(0.9, sum by (le, kind) (rate(cdc_sink_write_seconds_bucket[5m])))`))
	for _, bad := range []string{
		`sum(cdc_dispatchers`, `cdc_no_such`, `cdc_sink_write_seconds`, `cdc_dispatchers{rule="F9"}`, `sum by (rule) (cdc_dispatchers)`,
		`rate(cdc_dispatchers[5m])`, `cdc_dispatchers_bucket`,
	} {
		require.NotEmpty(t, faults(known, bad), bad)
	}
}

// panel is what of a dashboard's panel is looked at.
type panel struct {
	ID          int
	Type        string
	Title       string
	Description string
	GridPos     struct{ H, W, X, Y int }
	Targets     []struct {
		RefID, Expr, LegendFormat string
	}
}

type dashboard struct {
	Title       string
	UID         string
	Annotations struct {
		List []struct{ Name, Expr string }
	}
	Templating struct {
		List []struct{ Name, Type, Definition string }
	}
	Panels []panel
}

func readDashboard(t *testing.T) dashboard {
	t.Helper()
	data, err := os.ReadFile("../../deploy/grafana/fencerow.json")
	require.NoError(t, err)
	var board dashboard
	require.NoError(t, json.Unmarshal(data, &board))
	require.Equal(t, "Fencerow", board.Title)
	return board
}

// plain puts a duration where Grafana puts one.
func plain(query string) string { return strings.ReplaceAll(query, "$__rate_interval", "5m") }

// Each query of the dashboard parses, and asks for series and labels that there are; each metric is on it.
func TestEachQueryOfTheDashboardAsksForWhatThereIs(t *testing.T) {
	known, board := documented(t), readDashboard(t)
	shown := ""
	queries := 0
	for _, one := range board.Panels {
		for _, target := range one.Targets {
			queries++
			shown += target.Expr + "\n"
			require.Empty(t, faults(known, plain(target.Expr)), "%s: %s", one.Title, target.Expr)
		}
	}
	for _, one := range board.Annotations.List {
		require.Empty(t, faults(known, one.Expr), one.Name)
	}
	require.Greater(t, queries, 20)
	for name := range known {
		require.Contains(t, shown, name, "no panel shows it")
	}
}

// The panels lie beside one another, say what they show, and use only variables that the dashboard has.
func TestTheDashboardIsWhole(t *testing.T) {
	board := readDashboard(t)
	variables := []string{"__rate_interval"}
	values := regexp.MustCompile(`^label_values\((.+), ([a-z]+)\)$`)
	for _, one := range board.Templating.List {
		variables = append(variables, one.Name)
		if one.Type == "query" {
			found := values.FindStringSubmatch(one.Definition)
			require.NotNil(t, found, one.Name)
			require.Empty(t, faults(documented(t), found[1]), one.Name)
			labels, _ := labelsOf(documented(t), strings.SplitN(found[1], "{", 2)[0])
			require.Contains(t, labels, found[2], one.Name)
		}
	}
	taken, ids := map[[2]int]string{}, map[int]bool{}
	for _, one := range board.Panels {
		require.False(t, ids[one.ID], "the id %d twice", one.ID)
		ids[one.ID] = true
		require.True(t, one.Type == "row" || one.Description != "" && len(one.Targets) > 0, one.Title)
		for x := one.GridPos.X; x < one.GridPos.X+one.GridPos.W; x++ {
			require.Less(t, x, 24, one.Title)
			for y := one.GridPos.Y; y < one.GridPos.Y+one.GridPos.H; y++ {
				require.Empty(t, taken[[2]int{x, y}], "%s lies on it", one.Title)
				taken[[2]int{x, y}] = one.Title
			}
		}
		for _, target := range one.Targets {
			for _, used := range regexp.MustCompile(`\$([a-z_]+)`).FindAllStringSubmatch(target.Expr, -1) {
				require.Contains(t, variables, used[1], one.Title)
			}
		}
	}
}

type ruleFile struct {
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

// Each alert asks for what there is, says what to do, and fires and keeps quiet as alerts_test.yaml says.
func TestAlerts(t *testing.T) {
	data, err := os.ReadFile("../../deploy/prometheus/alerts.yaml")
	require.NoError(t, err)
	var file ruleFile
	require.NoError(t, yaml.UnmarshalStrict(data, &file))
	cases, err := os.ReadFile("../../deploy/prometheus/alerts_test.yaml")
	require.NoError(t, err)
	known := documented(t)
	for _, group := range file.Groups {
		require.GreaterOrEqual(t, len(group.Rules), 10)
		for _, rule := range group.Rules {
			require.Empty(t, faults(known, rule.Expr), rule.Alert)
			require.NotEmpty(t, rule.Annotations["summary"], rule.Alert)
			require.Contains(t, rule.Annotations["cure"], "cdc-node", rule.Alert)
			require.Contains(t, []string{"page", "ticket"}, rule.Labels["severity"], rule.Alert)
			fires := regexp.MustCompile(`alertname: ` + rule.Alert + `\n\s+exp_alerts:`)
			require.Regexp(t, fires, string(cases), "no case says when %s fires", rule.Alert)
		}
	}
	promtool := needed(t, "promtool")
	for _, arguments := range [][]string{{"check", "rules", "../../deploy/prometheus/alerts.yaml"}, {"test", "rules", "../../deploy/prometheus/alerts_test.yaml"}} {
		out, err := exec.CommandContext(t.Context(), promtool, arguments...).CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}

// needed finds a program that tools/install installs. The suite fails without it: a check that is skipped holds nothing.
func needed(t *testing.T, names ...string) string {
	t.Helper()
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	t.Fatalf("none of %v is here: tools/install installs it", names)
	return ""
}
