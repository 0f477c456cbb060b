package main

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var (
	link    = regexp.MustCompile(`\]\(([^)\s]+)\)`)
	heading = regexp.MustCompile(`(?m)^#+ (.*)$`)
	odd     = regexp.MustCompile(`[^\p{L}\p{N} _-]`)
)

// What a page links to is there: the file, and the heading in it.
func TestEveryLinkOfThePagesLeadsSomewhere(t *testing.T) {
	const root = "../.."
	pages, err := filepath.Glob(docs + "*.md")
	require.NoError(t, err)
	top, err := filepath.Glob(root + "/*.md")
	require.NoError(t, err)
	count := 0
	for _, page := range append(pages, top...) {
		text, err := os.ReadFile(page)
		require.NoError(t, err)
		for _, found := range link.FindAllStringSubmatch(withoutCode(string(text)), -1) {
			file, anchor, _ := strings.Cut(found[1], "#")
			if strings.Contains(file, "://") {
				continue
			}
			count++
			target := page
			if file != "" {
				target = filepath.Join(filepath.Dir(page), file)
			}
			info, err := os.Stat(target)
			require.NoError(t, err, "%s links to %s", page, found[1])
			if anchor != "" && !info.IsDir() {
				require.Contains(t, anchorsOf(t, target), anchor, "%s links to %s", page, found[1])
			}
		}
	}
	require.Greater(t, count, 50, "they were looked for in the wrong way")
	require.Contains(t, anchorsOf(t, docs+"reference.md"), "flags-of-cdc-node-server")
}

// anchorsOf are the headings of a page as links name them.
func anchorsOf(t *testing.T, page string) (out []string) {
	t.Helper()
	text, err := os.ReadFile(page)
	require.NoError(t, err)
	for _, found := range heading.FindAllStringSubmatch(withoutCode(string(text)), -1) {
		words := odd.ReplaceAllString(strings.ToLower(found[1]), "")
		out = append(out, strings.ReplaceAll(words, " ", "-"))
	}
	return out
}

// withoutCode leaves blocks of code out.
func withoutCode(text string) string {
	return regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, "")
}
