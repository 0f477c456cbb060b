//go:build race

package file

// raced reports whether the race detector runs, under which the exhaustive tests take a part of their steps; without it
// they take all of them.
const raced = true
