package postgres

import (
	"fmt"
	"strconv"
	"strings"

	"fencerow/change"
)

// A position is where a commit record begins in the log: what pgoutput's Begin calls the final LSN. The server sends the
// transactions whose commit record begins at or after the place that was asked for, so what is done up to a position goes on
// at the one after it.

// parseLSN reads a place in the log as the server writes it.
func parseLSN(text string) (change.Position, error) {
	high, low, found := strings.Cut(text, "/")
	upper, err := strconv.ParseUint(high, 16, 32)
	lower, errLow := strconv.ParseUint(low, 16, 32)
	if !found || err != nil || errLow != nil {
		return 0, fmt.Errorf("postgres: %.40q is no place in the log", text)
	}
	return change.Position(upper<<32 | lower), nil
}

// formatLSN writes a place in the log as the server reads it.
func formatLSN(at change.Position) string { return fmt.Sprintf("%X/%X", uint32(at>>32), uint32(at)) }

// below is the position up to which everything is done where the log is done up to, and without, a place.
func below(lsn change.Position) change.Position { return max(lsn, 1) - 1 }
