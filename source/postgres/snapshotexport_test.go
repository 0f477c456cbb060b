//go:build databases

package postgres

import "time"

// OneLane has snapshots be read by one lane a reader.
func (s *Source) OneLane() { s.snapshots.lanes.TryAcquire(lanesMax - 1) }

// SmallParts has tables cut into parts of so many rows.
func (s *Source) SmallParts(rows int64) { s.snapshots.partRows = rows }

// SmallWholes has tables without a key be refused that hold more.
func (s *Source) SmallWholes(bytes int) { s.snapshots.keylessMax = bytes }

// Impatient has readers say at once what a snapshot waits for, and fail with it.
func (s *Source) Impatient() {
	s.snapshots.sayEvery, s.snapshots.failAfter = time.Millisecond, time.Second
}
