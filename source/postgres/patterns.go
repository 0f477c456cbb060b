package postgres

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// patterns say which tables are followed: those that some pattern takes in and none leaves out.
type patterns struct {
	takes, leaves []pattern
}

// pattern matches names of tables.
type pattern struct{ schema, table glob }

// patternsMax bounds how many there are: every table is held against all.
const patternsMax = 1000

func checkPatterns(text string) error {
	_, err := parsePatterns(text)
	return err
}

// parsePatterns reads what [OptionTables] says.
func parsePatterns(text string) (patterns, error) {
	var p patterns
	parts := splitUnescaped(text, ',')
	if len(parts) > patternsMax {
		return p, fmt.Errorf("has more than %d patterns", patternsMax)
	}
	for _, part := range parts {
		name, leaves := strings.CutPrefix(strings.TrimSpace(part), "!")
		halves := splitUnescaped(name, '.')
		if len(halves) != 2 || halves[0] == "" || halves[1] == "" {
			return p, fmt.Errorf("has %.100q, which is not schema.table", part)
		}
		schema, errSchema := parseGlob(halves[0])
		table, errTable := parseGlob(halves[1])
		if err := errors.Join(errSchema, errTable); err != nil {
			return p, fmt.Errorf("has %.100q, which %w", part, err)
		}
		if leaves {
			p.leaves = append(p.leaves, pattern{schema, table})
		} else {
			p.takes = append(p.takes, pattern{schema, table})
		}
	}
	if len(p.takes) == 0 {
		return p, errors.New("leaves tables out and takes none in")
	}
	return p, nil
}

// splitUnescaped cuts text at the separators that no backslash stands before. The parts keep their backslashes.
func splitUnescaped(text string, separator byte) []string {
	var parts []string
	from := 0
	for i := 0; i < len(text); i++ {
		switch text[i] {
		case '\\':
			i++
		case separator:
			parts = append(parts, text[from:i])
			from = i + 1
		}
	}
	return append(parts, text[from:])
}

// match reports whether a table is followed. Schemas of the server and of ours are never.
func (p patterns) match(schema, table string) bool {
	if schema == ownSchema || schema == "information_schema" || strings.HasPrefix(schema, "pg_") {
		return false
	}
	matches := func(one pattern) bool { return one.schema.match(schema) && one.table.match(table) }
	return slices.ContainsFunc(p.takes, matches) && !slices.ContainsFunc(p.leaves, matches)
}

// ownSchema is where sinks of this kind keep their claims.
const ownSchema = "fencerow"

// glob is a pattern of a name: runes that stand for themselves, any one, or any number of any.
type glob []rune

// What no name has stands for the wildcards.
const (
	anyOne  rune = -1
	anyMany rune = -2
)

func parseGlob(text string) (glob, error) {
	var out glob
	runes := []rune(text)
	for i := 0; i < len(runes); i++ {
		switch runes[i] {
		case '*':
			out = append(out, anyMany)
		case '?':
			out = append(out, anyOne)
		case '\\':
			if i++; i == len(runes) {
				return nil, errors.New("ends with a backslash")
			}
			out = append(out, runes[i])
		default:
			out = append(out, runes[i])
		}
	}
	return out, nil
}

// match goes back only to the last star: what an earlier one could match, it could too.
func (g glob) match(name string) bool {
	text := []rune(name)
	at, star, from := 0, -1, 0
	for i := 0; i < len(text); {
		switch {
		case at < len(g) && g[at] == anyMany:
			star, from = at, i
			at++
		case at < len(g) && (g[at] == anyOne || g[at] == text[i]):
			at++
			i++
		case star >= 0:
			from++
			at, i = star+1, from
		default:
			return false
		}
	}
	for at < len(g) && g[at] == anyMany {
		at++
	}
	return at == len(g)
}
