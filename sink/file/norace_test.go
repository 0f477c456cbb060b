//go:build !race

package file

// raced reports whether the race detector runs.
const raced = false
