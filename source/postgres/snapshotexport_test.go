//go:build databases

package postgres

// OneLane has snapshots be read by one lane a reader.
func (s *Source) OneLane() { s.snapshots.lanes.TryAcquire(lanesMax - 1) }
