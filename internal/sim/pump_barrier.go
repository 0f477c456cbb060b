package sim

import (
	"errors"

	"fencerow/change"
	"fencerow/dispatcher"
	"fencerow/sink"
)

// hold is where a pump was asked to stop and stay alive.
type hold struct {
	order uint64
	at    change.Position
	sync  bool // it is to record the position, once
}

// obey says that the pump obeys, between two writes, and records the position if it is asked to.
func (p *pump) obey(t *task) error {
	if p.obeyed != p.hold.order {
		p.obeyed = p.hold.order
		p.progress.Order = p.obeyed
		p.publish(p.hold.at != 0)
	}
	at, asked := p.hold.at, p.hold.sync
	p.hold.sync = false
	if !asked || !dispatcher.MayRecord(at, p.pieces) {
		return nil
	}
	if err := p.mayWrite(t); err != nil {
		return err
	}
	writer, ok := p.writer.(sink.SyncWriter)
	if !ok {
		return errors.New("sim: a sink that keeps no sync points is to record one")
	}
	switch err := writer.Sync(never{}, keySpace, at); {
	case err == nil, errors.Is(err, sink.ErrSynced):
		p.progress.Synced = at
		p.publish(true)
		return nil
	case errors.Is(err, sink.ErrApart):
		return nil
	default:
		return err
	}
}
