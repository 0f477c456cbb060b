package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Commands in running text are not typed by a test as those in blocks are. Each is held by one of holders instead; of those of
// the binary and of etcd's tools, that a block which is run has the same command, with something in the place of NAME.

var (
	code     = regexp.MustCompile("`([^`\n]+)`")
	blocks   = regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	program  = regexp.MustCompile(`^(\$ .+|(\./)?(cdc-node|etcdctl|etcdutl|go|make|docker|docker-compose|kubectl|systemctl|systemd-analyze|openssl|psql|initdb|promtool|curl) .+|tools/\S+.*)$`)
	inBlock  = regexp.MustCompile(`(?:^|[\s($"'` + "`" + `|;!])((?:\./)?(?:cdc-node|etcdctl|etcdutl)(?: [^|;&>)#` + "`" + `\n]*)?)`)
	stands   = regexp.MustCompile(`^([A-Z][A-Z_]*|NAMESPACE/NAME|k=v|…|\[args\]|file:///directory)$`) // for something else
	target   = regexp.MustCompile(`(?m)^([a-z-]+):`)
	variable = regexp.MustCompile(`^([A-Z]+)=\S+$`)
	testFunc = regexp.MustCompile(`(?m)^func (Test\w+|Fuzz\w+)\(`)
	titled   = regexp.MustCompile("(?m)^### `cdc-node ([a-z][a-z -]*)")
)

// holding are what commands of running text are held against.
type holding struct {
	typed    [][]string // command lines of blocks, in words
	commands []string   // of the binary, as "changefeed list"
	makefile string
}

func newHolding(t *testing.T) *holding {
	t.Helper()
	h := &holding{makefile: text(t, "Makefile")}
	for _, page := range pages(t) {
		for _, p := range partsOf(t, page) {
			joined := strings.ReplaceAll(p.text, "\\\n", " ")
			for _, found := range inBlock.FindAllStringSubmatch(joined, -1) {
				h.typed = append(h.typed, words(found[1]))
			}
		}
	}
	for _, found := range titled.FindAllStringSubmatch(text(t, "docs/reference.md"), -1) {
		name, _, _ := strings.Cut(found[1], " -")
		h.commands = append(h.commands, strings.TrimSpace(name))
	}
	require.Greater(t, len(h.typed), 100)
	require.Greater(t, len(h.commands), 30)
	return h
}

func text(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", name))
	require.NoError(t, err)
	return string(data)
}

// words are those of a command line. What etcd's tools are called from the binary is the same as by themselves.
func words(line string) []string {
	out := strings.Fields(strings.TrimPrefix(line, "./"))
	if len(out) > 1 && out[0] == "cdc-node" && (out[1] == "etcdctl" || out[1] == "etcdutl") {
		return out[1:]
	}
	return out
}

// inlineCommands are the commands of a page's running text.
func (h *holding) inlineCommands(page string) (out []string) {
	for _, found := range code.FindAllStringSubmatch(blocks.ReplaceAllString(page, ""), -1) {
		line := strings.Join(strings.Fields(found[1]), " ")
		switch {
		case program.MatchString(line):
			out = append(out, line)
		case slices.ContainsFunc(h.commands, func(name string) bool {
			return strings.Contains(name, " ") && (line == name || strings.HasPrefix(line, name+" "))
		}):
			out = append(out, "cdc-node "+line)
		}
	}
	return out
}

// held returns nil for a command that something holds.
func (h *holding) held(line string) error {
	for part := range strings.SplitSeq(line, " && ") {
		if err := h.heldOne(words(strings.TrimPrefix(part, "$ "))); err != nil {
			return err
		}
	}
	return nil
}

func (h *holding) heldOne(line []string) error {
	switch line[0] {
	case "cdc-node", "etcdctl", "etcdutl":
		if !slices.ContainsFunc(h.typed, func(typed []string) bool { return isTyped(line, typed) }) {
			return fmt.Errorf("no block that a test runs has this command: show it in one, or run it there by a comment <!-- test: … -->")
		}
		return nil
	case "make":
		return h.heldByMakefile(line[1:])
	case "go":
		return heldByGo(line[1:])
	case "kubectl":
		return heldByManifests(line[1:])
	case "systemctl":
		return heldByUnits(line[1:])
	case "docker-compose":
		return heldByCompose(line[1:])
	case "systemd-analyze", "promtool":
		return heldByDeployTest(line)
	case "openssl":
		return heldByItself(line)
	default:
		if strings.HasPrefix(line[0], "tools/") && len(line) == 1 {
			info, err := os.Stat(filepath.Join("..", line[0]))
			if err == nil && info.Mode()&0o111 == 0 {
				err = fmt.Errorf("is no program")
			}
			return err
		}
		return fmt.Errorf("nothing holds a command of %s", line[0])
	}
}

// isTyped reports whether a command that was typed is the one that is written, with something in the place of words that
// stand for something else. It may have more arguments, and its flags may stand elsewhere.
func isTyped(written, typed []string) bool {
	var flags []string
	for i, word := range written {
		if strings.HasPrefix(word, "-") {
			written, flags = written[:i], written[i:]
			break
		}
	}
	at := 0
	for _, word := range written {
		if word == "…" || word == "[args]" {
			continue
		}
		if at == len(typed) || typed[at] != word && (!stands.MatchString(word) || strings.HasPrefix(typed[at], "-")) {
			return false
		}
		at++
	}
	for i, word := range flags {
		if strings.HasPrefix(word, "-") && !hasFlag(typed, word, append(flags, "")[i+1]) {
			return false
		}
	}
	return true
}

// hasFlag reports whether a flag is among the words, with that value unless it stands for something else.
func hasFlag(typed []string, flag, value string) bool {
	for i, word := range typed {
		if word == flag && (value == "" || strings.HasPrefix(value, "-") || stands.MatchString(value) || i+1 < len(typed) && typed[i+1] == value) {
			return true
		}
	}
	return false
}

func (h *holding) heldByMakefile(args []string) error {
	var targets []string
	for _, found := range target.FindAllStringSubmatch(h.makefile, -1) {
		targets = append(targets, found[1])
	}
	for _, arg := range args {
		set := variable.FindStringSubmatch(arg)
		switch {
		case set != nil && strings.Contains(h.makefile, "$("+set[1]+")"):
		case set == nil && slices.Contains(targets, arg):
		default:
			return fmt.Errorf("the Makefile has no %s", arg)
		}
	}
	return nil
}

// heldByGo holds that there is the package, and the test.
func heldByGo(args []string) error {
	if len(args) > 2 && args[1] == "-tags" {
		args = slices.Delete(slices.Clone(args), 1, 3)
	}
	if len(args) < 2 {
		return fmt.Errorf("it names no package")
	}
	dir := filepath.Join("..", args[1])
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("%s is no package", args[1])
	}
	sources := ""
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		sources += string(data)
	}
	switch {
	case args[0] == "test" && len(args) == 4 && args[2] == "-run":
		return heldByTest(dir, sources, args[3])
	case args[0] == "test" && len(args) == 2:
		return nil
	case args[0] == "run" && strings.Contains(sources, "package main"):
		return nil
	case args[0] == "generate" && strings.Contains(sources, "//go:generate"):
		return nil
	default:
		return fmt.Errorf("nothing holds such a command of go")
	}
}

// heldByTest holds that a pattern names a test, and what comes behind a slash a case of it, or a file that it reads.
func heldByTest(dir, sources, pattern string) error {
	name, of, isPart := strings.Cut(strings.Trim(pattern, "'"), "/")
	form, err := regexp.Compile(name)
	if err != nil {
		return err
	}
	if !slices.ContainsFunc(testFunc.FindAllStringSubmatch(sources, -1), func(found []string) bool { return form.MatchString(found[1]) }) {
		return fmt.Errorf("no test is named %s", name)
	}
	if isPart && !strings.Contains(sources, of) {
		if found, err := filepath.Glob(filepath.Join(dir, "testdata", "*", of+"*")); err != nil || len(found) == 0 {
			if found, err = filepath.Glob(filepath.Join(dir, "testdata", of+"*")); err != nil || len(found) == 0 {
				return fmt.Errorf("the test has no part %s", of)
			}
		}
	}
	return nil
}

// heldByManifests holds that what is applied is there, with all that it names.
func heldByManifests(args []string) error {
	if len(args) != 3 || args[0] != "apply" || args[1] != "-k" {
		return fmt.Errorf("nothing holds such a command of kubectl")
	}
	dir := filepath.Join("..", args[2])
	data, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		return err
	}
	named := regexp.MustCompile(`(?m)^ *- (\S+\.yaml)$`).FindAllStringSubmatch(string(data), -1)
	if len(named) == 0 {
		return fmt.Errorf("it names no manifests")
	}
	for _, found := range named {
		if _, err := os.Stat(filepath.Join(dir, found[1])); err != nil {
			return err
		}
	}
	return nil
}

// heldByUnits holds that the unit is one of deploy/systemd, and can be done that to.
func heldByUnits(args []string) error {
	verbs := []string{"start", "stop", "restart", "reload", "status", "enable", "disable", "daemon-reload"}
	if len(args) == 0 || !slices.Contains(verbs, args[0]) {
		return fmt.Errorf("nothing holds such a command of systemctl")
	}
	for _, unit := range args[1:] {
		if strings.HasPrefix(unit, "-") {
			if unit != "--now" {
				return fmt.Errorf("nothing holds %s", unit)
			}
			continue
		}
		data, err := os.ReadFile(filepath.Join("../deploy/systemd", strings.TrimSuffix(unit, ".service")+".service"))
		if err != nil {
			return err
		}
		if args[0] == "enable" && !strings.Contains(string(data), "[Install]") {
			return fmt.Errorf("%s can't be enabled", unit)
		}
		if args[0] == "reload" && !strings.Contains(string(data), "ExecReload=") {
			return fmt.Errorf("%s can't be reloaded", unit)
		}
	}
	return nil
}

// heldByCompose holds that tools/compose-test does it, for real.
func heldByCompose(args []string) error {
	data, err := os.ReadFile("../tools/compose-test")
	if err != nil {
		return err
	}
	if !strings.Contains(string(data), " "+strings.Join(args, " ")) {
		return fmt.Errorf("tools/compose-test does not do it")
	}
	return nil
}

// heldByDeployTest holds that the tests of what is deployed do it.
func heldByDeployTest(line []string) error {
	files, err := filepath.Glob("deploy/*_test.go")
	if err != nil {
		return err
	}
	for _, name := range files {
		data, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		quoted := func(word string) bool { return strings.Contains(string(data), `"`+word+`"`) }
		if strings.Contains(string(data), `needed(t, "`+line[0]+`")`) && !slices.ContainsFunc(line[1:], func(word string) bool { return !quoted(word) }) {
			return nil
		}
	}
	return fmt.Errorf("no test of integration/deploy does it")
}

// heldByItself does what changes nothing.
func heldByItself(line []string) error {
	if len(line) < 2 || line[1] != "rand" {
		return fmt.Errorf("nothing holds such a command of %s", line[0])
	}
	return exec.Command(line[0], line[1:]...).Run()
}

// Every command in running text is held by something, so that none can rot.
func TestEveryCommandInRunningTextIsHeld(t *testing.T) {
	h := newHolding(t)
	count := 0
	for _, page := range append(pages(t), "CONTRIBUTING.md") {
		for _, line := range h.inlineCommands(text(t, page)) {
			count++
			if err := h.held(line); err != nil {
				t.Errorf("%s: `%s`: %v", page, line, err)
			}
		}
	}
	require.Greater(t, count, 100, "they were looked for in the wrong way")
}

func TestCommandsInRunningTextThatNothingHoldsAreFound(t *testing.T) {
	h := newHolding(t)
	found := h.inlineCommands("Say `cdc-node changefeed get NAME` or `node list --watch`, not `epoch` or `kill -9`.\n\n```sh\ncdc-node check\n```\n")
	require.Equal(t, []string{"cdc-node changefeed get NAME", "cdc-node node list --watch"}, found)
	for line, isHeld := range map[string]bool{
		"cdc-node changefeed get NAME":                 true,
		"cdc-node changefeed get NAME --loud":          false,
		"cdc-node changefeed pose NAME":                false,
		"cdc-node changefeed merge NAME --at KEY":      true,
		"etcdctl frobnicate":                           false,
		"make sim SEEDS=1000":                          true,
		"make nothing":                                 false,
		"make sim NOTHING=1":                           false,
		"go test ./integration -run TestEveryCommandI": true,
		"go test ./integration -run TestNothing":       false,
		"go test ./nowhere -run TestNothing":           false,
		"go run ./bench":                               true,
		"go run ./change":                              false,
		"kubectl apply -k deploy/kubernetes":           true,
		"kubectl apply -k deploy/nowhere":              false,
		"kubectl delete all":                           false,
		"systemctl enable --now cdc-node":              true,
		"systemctl start nothing":                      false,
		"systemctl explode cdc-node":                   false,
		"tools/test":                                   true,
		"tools/nothing":                                false,
		"docker run x":                                 false,
		"make image && docker-compose nothing":         false,
	} {
		require.Equal(t, isHeld, h.held(line) == nil, "%s: %v", line, h.held(line))
	}
}
