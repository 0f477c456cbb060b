package faults

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

const root = "../.."

// mark is the line of the fence that the zombie's build lacks.
const mark = "// fence:F23 etcd"

// build makes the binaries under test.
func build(dir string) error {
	overlay, err := withoutFence(dir)
	if err != nil {
		return err
	}
	for name, extra := range map[string][]string{"cdc-node": nil, "cdc-node-unfenced": {"-overlay", overlay}} {
		args := append([]string{"build", "-tags", "failpoints", "-o", filepath.Join(dir, name)}, extra...)
		out, err := exec.Command("go", append(args, "fencerow/cmd/cdc-node")...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("build %s: %w\n%s", name, err, out)
		}
	}
	return nil
}

// open is what stands in its place: a compare that every revision meets, also that of a claim that is gone.
const open = `		If: []kv.Compare{{Key: l.claim(n), Target: kv.ModRevision, Relation: kv.Greater, Number: -1}},`

// withoutFence writes what replaces the file of the etcd sink's fence. The fence is taken out of a copy, so that no build of
// the product knows a way to leave it out.
func withoutFence(dir string) (overlay string, err error) {
	const file = "sink/etcd/txns.go"
	path, err := filepath.Abs(filepath.Join(root, file))
	if err != nil {
		return "", err
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var kept []string
	found := 0
	for line := range strings.SplitSeq(string(text), "\n") {
		if strings.HasSuffix(line, mark) {
			found++
			line = open
		}
		kept = append(kept, line)
	}
	if found != 1 {
		return "", fmt.Errorf("%s has %d lines that end with %q, not one", file, found, mark)
	}
	copied := filepath.Join(dir, "txns.go")
	if err := os.WriteFile(copied, []byte(strings.Join(kept, "\n")), 0o600); err != nil {
		return "", err
	}
	encoded, err := json.Marshal(map[string]any{"Replace": map[string]string{path: copied}})
	if err != nil {
		return "", err
	}
	overlay = filepath.Join(dir, "overlay.json")
	return overlay, os.WriteFile(overlay, encoded, 0o600)
}
