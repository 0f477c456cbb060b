package maintainer

import (
	"fencerow/change"
	"fencerow/source"
)

// noLogs are for sources without a log.
type noLogs struct{}

func (noLogs) Log(Ownership, source.Serial, string, change.Position) Log { return nil }
