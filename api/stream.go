package api

import (
	"fmt"
	"net/http"
	"time"
)

// stream is an answer that is a stream of server-sent events, https://html.spec.whatwg.org/multipage/server-sent-events.html.
type stream struct {
	to      http.ResponseWriter
	control *http.ResponseController
	now     func() time.Time
}

// begin tells the client that events follow. An error says that it has gone.
func (s *Server) begin(w http.ResponseWriter) (*stream, error) {
	out := &stream{to: w, control: http.NewResponseController(w), now: s.now}
	w.Header().Set("Content-Type", "text/event-stream")
	w.WriteHeader(http.StatusOK)
	return out, out.send("")
}

// send sends text, which is whole events or a comment.
func (s *stream) send(text string) error {
	_ = s.control.SetWriteDeadline(s.now().Add(eventWriteMax)) //nolint:errcheck // a writer without deadlines is a test's
	if _, err := fmt.Fprint(s.to, text); err != nil {
		return err
	}
	return s.control.Flush()
}
