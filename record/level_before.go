//go:build level0

package record

// LevelCurrent is one level below that of this version: such a binary plays the older one in tests of upgrades.
const LevelCurrent = LevelBeforeEpochs
