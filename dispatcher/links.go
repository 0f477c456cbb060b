package dispatcher

import (
	"sync"

	"fencerow/changefeed"
	"fencerow/record"
	"fencerow/sink"
	"fencerow/source"
)

// linksKey says for whom links may be shared.
type linksKey struct {
	uid      changefeed.UID
	revision int64
}

// links are the source and the sink of one changefeed at one revision of its spec, shared by its pumps on this host.
// They are opened by the first pump that needs them, so that an idle changefeed costs no connection, and closed by the
// last that goes.
type links struct {
	opener Opener
	spec   record.Spec

	mu     sync.Mutex // guards what follows
	users  int
	closed bool
	source source.Source
	sink   sink.Sink
}

// newLinks returns links that are used once.
func newLinks(opener Opener, spec record.Spec) *links {
	return &links{opener: opener, spec: spec, users: 1}
}

// acquire adds a user; false if the last one has gone.
func (l *links) acquire() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return false
	}
	l.users++
	return true
}

// done reports whether the last user has gone.
func (l *links) done() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.closed
}

// open returns the source and the sink. One that was refused is tried again at the next call.
func (l *links) open() (source.Source, sink.Sink, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.source == nil {
		opened, err := l.opener.OpenSource(l.spec)
		if err != nil {
			return nil, nil, ofSource(err)
		}
		l.source = opened
	}
	if l.sink == nil {
		opened, err := l.opener.OpenSink(l.spec)
		if err != nil {
			return nil, nil, ofSink(err)
		}
		l.sink = opened
	}
	return l.source, l.sink, nil
}

// release takes a user away. The last one closes the source and the sink.
func (l *links) release() (errs [2]error) {
	l.mu.Lock()
	l.users--
	if l.users > 0 {
		l.mu.Unlock()
		return errs
	}
	l.closed = true
	opened, target := l.source, l.sink
	l.mu.Unlock()
	if opened != nil {
		errs[0] = opened.Close()
	}
	if target != nil {
		errs[1] = target.Close()
	}
	return errs
}
