package mutants

import (
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
)

// overlay writes the mutated files, and the file that tells the go command of them, into a folder of its own, and
// returns that file's path. Without edits a file stands in for itself.
func overlay(root, folder string, files []string, edits []Edit) (string, error) {
	replace := map[string]string{}
	for i, file := range files {
		path := filepath.Join(root, filepath.FromSlash(file))
		src, err := os.ReadFile(path)
		if err != nil {
			return "", fmt.Errorf("mutants: %w", err)
		}
		changed, err := apply(src, file, edits)
		if err != nil {
			return "", err
		}
		target := filepath.Join(folder, fmt.Sprintf("%d.go", i))
		if err := os.WriteFile(target, changed, 0o600); err != nil {
			return "", fmt.Errorf("mutants: %w", err)
		}
		replace[path] = target
	}
	encoded, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", fmt.Errorf("mutants: overlay: %w", err)
	}
	path := filepath.Join(folder, "overlay.json")
	if err := os.WriteFile(path, encoded, 0o600); err != nil {
		return "", fmt.Errorf("mutants: %w", err)
	}
	return path, nil
}

// apply makes the edits of one file, the last first, so that none moves another.
func apply(src []byte, file string, edits []Edit) ([]byte, error) {
	own := slices.DeleteFunc(slices.Clone(edits), func(e Edit) bool { return e.File != file })
	slices.SortFunc(own, func(a, b Edit) int { return cmp.Compare(b.Start, a.Start) })
	out := slices.Clone(src)
	for _, edit := range own {
		if edit.End > len(out) || string(out[edit.Start:edit.End]) != edit.Old {
			return nil, fmt.Errorf("mutants: %s changed since its marks were read", file)
		}
		out = slices.Replace(out, edit.Start, edit.End, []byte(edit.Text)...)
	}
	return out, nil
}

// files returns the files that a mutant changes.
func (m Mutant) files() []string {
	var out []string
	for _, edit := range m.Edits {
		if !slices.Contains(out, edit.File) {
			out = append(out, edit.File)
		}
	}
	return out
}
