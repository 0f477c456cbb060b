// Package mutants removes the fences of the code, one at a time and in pairs that mask each other, and runs the tests
// that must notice. It edits an overlay that only the go command sees, never the working tree. It knows how a marked
// condition is taken away so that the rest compiles, and what counts as noticed: a named assertion that failed. A
// mutant that doesn't compile, panics or times out was not found. It knows nothing of what the fences mean.
package mutants
