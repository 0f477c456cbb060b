//go:build databases

package postgres

import "time"

// Hasten has faults of the server borne for less long.
func (s *Source) Hasten(retry, takeover time.Duration) {
	s.patience.retry, s.patience.takeover = retry, takeover
}

// SlotName and AppendName are the names of what a source keeps at the server.
func (s *Source) SlotName() string   { return s.slotName() }
func (s *Source) AppendName() string { return s.appendName() }
