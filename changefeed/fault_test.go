package changefeed

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every code that is declared is in the list that the API documents.
func TestCodesAreAll(t *testing.T) {
	source, err := os.ReadFile("fault.go")
	require.NoError(t, err)
	var declared []Code
	for _, found := range regexp.MustCompile(`(?m)^\tCode\w+ +Code = "(.+)"$`).FindAllStringSubmatch(string(source), -1) {
		declared = append(declared, Code(found[1]))
	}
	require.NotEmpty(t, declared)
	require.ElementsMatch(t, declared, Codes())
}
