//go:build !level0

package record

// LevelCurrent is the feature level of this binary: the highest that it understands, and what it brings to a cluster all
// of whose nodes have it.
const LevelCurrent = LevelEpochs
