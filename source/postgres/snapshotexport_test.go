//go:build databases

package postgres

import "time"

// OneLane has snapshots be read by one lane a reader.
func (s *Source) OneLane() { s.snapshots.lanes.TryAcquire(lanesMax - 1) }

// Impatient has readers say at once what a snapshot waits for, and fail with it.
func (s *Source) Impatient() {
	s.snapshots.sayEvery, s.snapshots.failAfter = time.Millisecond, time.Second
}
