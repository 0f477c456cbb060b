package proc

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Fence is a condition that a build for tests lacks: the one line of a file that ends with a mark, and what stands in its
// place.
type Fence struct{ File, Mark, Open string }

// Fences are those of sinks that keep out a writer whose claim was taken: without them its writes have their effect.
var Fences = []Fence{ //nolint:gochecknoglobals // a table
	{
		File: "sink/etcd/txns.go", Mark: "// fence:F23 etcd", // a compare that every revision meets, also that of a claim that is gone
		Open: "If: []kv.Compare{{Key: l.claim(n), Target: kv.ModRevision, Relation: kv.Greater, Number: -1}},",
	},
	{File: "sink/postgres/session.go", Mark: "// fence:F23 postgres", Open: "if statement.One && len(statements) == 0 {"},
	{File: "sink/mysql/session.go", Mark: "// fence:F23 mysql", Open: "if len(affected) == 0 {"},
}

// Build builds cdc-node with failpoints in a folder. Fences are taken out of a copy, so that no build of the product knows a
// way to leave one out. Root is the folder of the module.
func Build(root, dir, name string, without ...Fence) error {
	args := []string{"build", "-tags", "failpoints", "-o", filepath.Join(dir, name)}
	if len(without) > 0 {
		overlay, err := overlaid(root, dir, without)
		if err != nil {
			return err
		}
		args = append(args, "-overlay", overlay)
	}
	out, err := exec.Command("go", append(args, "fencerow/cmd/cdc-node")...).CombinedOutput() //nolint:gosec,noctx // a build takes as long as it takes
	if err != nil {
		return fmt.Errorf("build %s: %w\n%s", name, err, out)
	}
	return nil
}

// overlaid writes what replaces the files of the fences, and returns the file that says so.
func overlaid(root, dir string, without []Fence) (string, error) {
	replaced := map[string]string{}
	for i, fence := range without {
		path, err := filepath.Abs(filepath.Join(root, fence.File))
		if err != nil {
			return "", err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return "", err
		}
		opened, err := fence.opened(string(text))
		if err != nil {
			return "", err
		}
		replaced[path] = filepath.Join(dir, fmt.Sprintf("open%d.go", i))
		if err := os.WriteFile(replaced[path], []byte(opened), 0o600); err != nil {
			return "", err
		}
	}
	encoded, err := json.Marshal(map[string]any{"Replace": replaced})
	if err != nil {
		return "", err
	}
	overlay := filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, encoded, 0o600)
}

// opened is the text of a file without the fence.
func (f Fence) opened(text string) (string, error) {
	var kept []string
	found := 0
	for line := range strings.SplitSeq(text, "\n") {
		if strings.HasSuffix(line, f.Mark) {
			found++
			line = f.Open
		}
		kept = append(kept, line)
	}
	if found != 1 {
		return "", fmt.Errorf("%s has %d lines that end with %q, not one", f.File, found, f.Mark)
	}
	return strings.Join(kept, "\n"), nil
}
