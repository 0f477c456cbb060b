package maintainer

import (
	"time"

	"fencerow/changefeed"
)

// Wall is a wall-clock moment. It is only ever stamped into records for people; no decision reads it.
type Wall = time.Time

// Now is the moment of one step: At decides, Wall is stamped.
type Now struct {
	At   changefeed.Time
	Wall Wall
}
