package file

import (
	"context"

	"fencerow/sink"
)

var _ sink.Inspector = (*Sink)(nil)

// Inspect implements [sink.Inspector]. Like every reader of the claims it seals what was superseded, which says nothing
// that was not so.
func (s *Sink) Inspect(context.Context) (sink.Kept, error) {
	st, err := s.refresh()
	if err != nil {
		return sink.Kept{}, s.wrap("inspect", err)
	}
	kept := sink.Kept{Head: st.head, Map: st.m}
	if st.head.Exists() {
		kept.Others = []sink.Head{st.head}
	}
	return kept, nil
}
