package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// inDatabases are pages whose commands need database servers, and are run with the tag databases.
var inDatabases = map[string]bool{"docs/sinks-sql.md": true, "docs/getting-started-postgres.md": true, "docs/verify-databases.md": true}

// elsewhere are pages whose statements a test of another room takes from them and runs.
var elsewhere = map[string]string{"docs/source-postgres.md": "source/postgres/door_test.go"}

// pages are all that a reader may read commands on.
func pages(t *testing.T) []string {
	t.Helper()
	var out []string
	for _, pattern := range []string{"README.md", "docs/*.md", "docs/*/*.md", "deploy/*.md"} {
		found, err := filepath.Glob(filepath.Join("..", pattern))
		require.NoError(t, err)
		require.NotEmpty(t, found, pattern)
		for _, path := range found {
			out = append(out, strings.TrimPrefix(path, "../"))
		}
	}
	return out
}

// part of a page: a block of sh or sql, or a comment for the test, which does what a reader does by other means.
type part struct{ kind, text string }

var (
	ran    = regexp.MustCompile("(?ms)^ *```(sh|sql)\n(.*?)^ *```$|^ *<!-- test: (.*?) -->$")
	fenced = regexp.MustCompile("^ *```(.*)$")
	// command is a line that somebody would type.
	command = regexp.MustCompile(`^(\$ .*|(\./)?(cdc-node|etcdctl|etcdutl|go|make|docker|docker-compose|kubectl|systemctl|openssl|psql|mariadb|mysql|tools/\w+)( .*)?)$`)
)

func partsOf(t *testing.T, page string) (out []part) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", page))
	require.NoError(t, err)
	for _, found := range ran.FindAllStringSubmatch(string(data), -1) {
		if found[1] == "" {
			out = append(out, part{"test", found[3]})
		} else {
			out = append(out, part{found[1], found[2]})
		}
	}
	return out
}

// anyShown reports whether a reader is shown something to run.
func anyShown(parts []part) bool {
	return slices.ContainsFunc(parts, func(p part) bool { return p.kind != "test" })
}

// A command that stands in a block that no test runs may be wrong one day, and nobody would know.
func TestNoPageShowsACommandThatNoTestRuns(t *testing.T) {
	for _, page := range pages(t) {
		data, err := os.ReadFile(filepath.Join("..", page))
		require.NoError(t, err)
		for _, problem := range notRun(string(data)) {
			t.Errorf("%s: %s", page, problem)
		}
		for _, p := range partsOf(t, page) {
			if p.kind == "sql" {
				require.True(t, inDatabases[page] || runElsewhere(page), "%s: sql is run by the databases' tests only", page)
			}
		}
	}
}

// runElsewhere reports whether a test of another room names the page.
func runElsewhere(page string) bool {
	data, err := os.ReadFile(filepath.Join("..", elsewhere[page]))
	return err == nil && strings.Contains(string(data), page)
}

// notRun lists the commands of a page in blocks other than of sh or sql.
func notRun(text string) (out []string) {
	kind, within := "", false
	for i, line := range strings.Split(text, "\n") {
		if found := fenced.FindStringSubmatch(line); found != nil {
			within, kind = !within, found[1]
			if within && slices.Contains([]string{"bash", "shell", "console", "shell-session"}, kind) {
				out = append(out, fmt.Sprintf("line %d: make it a block of sh, which a test runs", i+1))
			}
			continue
		}
		shown := within && kind != "sh" && kind != "sql" || !within && strings.HasPrefix(line, "    ")
		if shown && command.MatchString(strings.TrimSpace(line)) {
			out = append(out, fmt.Sprintf("line %d: no test runs %q: make it a block of sh", i+1, strings.TrimSpace(line)))
		}
	}
	return out
}

func TestCommandsThatNoTestRunsAreFound(t *testing.T) {
	require.Empty(t, notRun("Say `cdc-node check`, or\n\n```sh\ncdc-node check\n```\n\n```text\ncdc-node: refused\n```\n\n    goes on\n"))
	for _, text := range []string{
		"    cdc-node check\n", "    ./cdc-node check\n", "```\nmake all\n```\n", "```text\n$ echo $?\n```\n", "```bash\nls\n```\n",
		"    kubectl apply -k deploy/kubernetes\n", "  ```\n  systemctl start cdc-node\n  ```\n", "    tools/test\n",
	} {
		require.Len(t, notRun(text), 1, text)
	}
}
