package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// ran is every row of a group, each with one figure.
func ran(group string, figure float64) []outcome {
	var out []outcome
	for _, row := range rows() {
		if row.group == group {
			out = append(out, outcome{row: row, result: result{ours: []float64{figure}}})
		}
	}
	return out
}

func TestTableOfAGroupIsWrittenOnlyWhenAllOfItRan(t *testing.T) {
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	written := func(loads string, done []outcome) string {
		require.NoError(t, writeReport(path, loads, done))
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		return string(text)
	}
	page := written("load 1", ran(groupDatabase, 12.5))
	require.Contains(t, page, begins(groupEtcd)+notRun+ends(groupEtcd))
	require.Contains(t, page, "load 1")
	require.Contains(t, page, "12.5 MiB")

	page = written("load 2", ran(groupDatabase, 99)[1:])
	require.NotContains(t, page, "load 2", "a row is missing")
	require.Contains(t, page, "12.5 MiB")

	page = written("load 3", ran(groupEtcd, 7.25))
	require.Contains(t, page, "load 1", "the other table stays")
	require.Contains(t, page, "load 3")
	require.Contains(t, page, "7.25 MiB")
	require.NotContains(t, page, notRun)
	require.Equal(t, page, written("load 4", nil))
}

func TestRowsAreChosenByNameAndByGroup(t *testing.T) {
	names := func(chosen []row) []string {
		var out []string
		for _, row := range chosen {
			out = append(out, row.name)
		}
		return out
	}
	all, err := choose("")
	require.NoError(t, err)
	require.Equal(t, names(rows()), names(all))
	some, err := choose("pg-mix,gate")
	require.NoError(t, err)
	require.Equal(t, []string{"gate", "pg-mix"}, names(some))
	database, err := choose(groupDatabase)
	require.NoError(t, err)
	require.Len(t, database, len(databaseTable))
	_, err = choose("pg-mixed")
	require.ErrorContains(t, err, `"pg-mixed"`)
}
