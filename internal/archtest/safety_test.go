package archtest

import (
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/internal/sim"
)

const root = "../.."

// scenarios are those that the simulation, a model or a test in one package must show.
var scenarios = []int{
	1, 3, 4, 6, 7, 8, 10, 11, 12, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41,
	42, 43, 44, 45, 46, 47, 48, 51, 52, 55, 56, 57, 58, 59, 60, 63, 67, 70, 71, 72, 73, 74,
}

// realScenarios are those that a real etcd or real processes must show.
var realScenarios = []int{1, 2, 4, 5, 9, 10, 13, 14, 15, 16, 17, 22, 34, 40, 48, 49, 50, 51, 53, 54, 55, 64, 66, 67, 68, 69}

// Each scenario is shown by something that there is.
func TestTheSafetyCaseNamesWhatThereIs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/safety.md"))
	require.NoError(t, err)
	first, second, found := strings.Cut(string(text), "## Scenarios on real etcd and real processes")
	require.True(t, found)
	allShown(t, first, scenarios)
	allShown(t, second, realScenarios)
}

// allShown requires that the rows of a text show each scenario.
func allShown(t *testing.T, text string, scenarios []int) {
	t.Helper()
	shown := map[int]int{}
	row := regexp.MustCompile(`^\| (\d+) \| .* \| (.*) \|$`)
	for line := range strings.SplitSeq(text, "\n") {
		parts := row.FindStringSubmatch(line)
		if parts == nil {
			continue
		}
		number, err := strconv.Atoi(parts[1])
		require.NoError(t, err)
		for _, name := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(parts[2], -1) {
			if problem := missing(t, strings.Fields(name[1])); problem != "" {
				t.Errorf("scenario %d: %s", number, problem)
			}
			shown[number]++
		}
	}
	for _, number := range scenarios {
		require.NotZero(t, shown[number], "scenario %d is shown by nothing", number)
	}
}

// missing says what of a reference there isn't; "" if it is there.
func missing(t *testing.T, words []string) string {
	t.Helper()
	switch {
	case len(words) == 2 && words[0] == "fault":
		if _, err := sim.ParseFault(words[1]); err != nil {
			return err.Error()
		}
		return ""
	case len(words) == 2 && words[0] == "file":
		if _, err := os.Stat(filepath.Join(root, words[1])); err != nil {
			return err.Error()
		}
		return ""
	case len(words) == 3 && words[0] == "model":
		table, err := os.ReadFile(filepath.Join(root, "docs/spec/check"))
		require.NoError(t, err)
		if !strings.Contains(string(table), "\t"+words[1]+" "+words[2]+" ") {
			return "no variant " + words[2] + " of " + words[1]
		}
		return ""
	case len(words) == 2:
		files, err := filepath.Glob(filepath.Join(root, words[0], "*_test.go"))
		require.NoError(t, err)
		for _, file := range files {
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			if strings.Contains(string(text), "func "+words[1]+"(") {
				return ""
			}
		}
		return words[0] + " has no " + words[1]
	default:
		return strings.Join(words, " ") + " is no reference"
	}
}

func TestAReferenceToNothingIsFound(t *testing.T) {
	for _, words := range []string{"fault flood", "file docs/none.md", "model bump NO_F99", "fence TestNone", "fence"} {
		require.NotEmpty(t, missing(t, strings.Fields(words)), words)
	}
}

// The page about the models says where each of their actions is in the code.
func TestTheModelsNameCodeThatThereIs(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(root, "docs/spec/README.md"))
	require.NoError(t, err)
	places := regexp.MustCompile("`([\\w/]+\\.go)`((?: [A-Za-z.]+,?)*)").FindAllStringSubmatch(string(text), -1)
	require.Greater(t, len(places), 20)
	for _, place := range places {
		code, err := os.ReadFile(filepath.Join(root, place[1]))
		require.NoError(t, err)
		for word := range strings.FieldsFuncSeq(place[2], func(r rune) bool { return r == ' ' || r == ',' }) {
			name := word[strings.LastIndex(word, ".")+1:]
			if name == "" || word == "which" {
				break // prose goes on
			}
			require.Contains(t, string(code), name, "%s: %s", place[1], word)
		}
	}
}
