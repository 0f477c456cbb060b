package maintainer

import (
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
)

// SpanView is one span of the cover, as people see it.
type SpanView struct {
	Span       changefeed.Span
	Node       changefeed.NodeID // "" when nobody runs it
	NodeName   string
	Token      fence.Token
	State      string
	Checkpoint change.Position
	Resolved   change.Position
	Lag        changefeed.Duration // since when a head above its checkpoint has been known
	// SnapshotRows of about SnapshotTotal were read; 0 and 0 when no snapshot is being read.
	SnapshotRows  int64
	SnapshotTotal int64
	Rate          uint32 // changes a second that were written lately
}

// View is one changefeed's ownership on this node, as people see it.
type View struct {
	ID         changefeed.ID
	Epoch      fence.Epoch
	State      changefeed.State
	Checkpoint change.Position
	Resolved   change.Position
	Lag        changefeed.Duration
	Changes    uint64 // written to the sink under this epoch, as far as hosts told
	Bytes      uint64
	Spans      int
	Settled    bool // every span runs
	SyncPoint  change.Position
	SyncPoints uint64              // recorded under this epoch
	SyncHeld   changefeed.Duration // for how long dispatchers were held for the newest of these
}

// Spans returns the cover in order; nothing before it is built.
func (c *Core) Spans(now changefeed.Time) []SpanView {
	if c.cover == nil {
		return nil
	}
	out := make([]SpanView, 0, c.cover.len())
	c.cover.each(func(cell *cell) bool {
		view := SpanView{
			Span: cell.span, Token: cell.token, State: cell.state.String(), Checkpoint: markOf(cell).Whole(),
			Resolved: cell.resolved, SnapshotRows: cell.rows, SnapshotTotal: cell.total, Rate: c.traffic.rates[cell],
		}
		if cell.host != nil {
			view.Node, view.NodeName = cell.host.id, cell.host.name
			if cell.state == cellRunning {
				view.Resolved = max(view.Resolved, cell.host.resolved)
			}
		}
		view.Lag = c.report.heads.lag(view.Checkpoint, now)
		out = append(out, view)
		return true
	})
	return out
}

// View returns the summary.
func (c *Core) View(now changefeed.Time) View {
	r := &c.report
	return View{
		ID: c.own.ID, Epoch: c.epoch(), State: r.state, Checkpoint: r.checkpoint, Resolved: r.resolved,
		Lag: r.heads.lag(r.checkpoint, now), Changes: r.changes, Bytes: r.bytes, Spans: r.spans,
		Settled: c.cover != nil && len(c.cover.unsettled) == 0, SyncPoint: c.sync.last, SyncPoints: c.sync.count, SyncHeld: c.sync.took,
	}
}

// Ended reports whether the core has done its last.
func (c *Core) Ended() bool { return c.phase == phaseEnded }

// Pause returns how long the driver may wait before the next Ticked, when nothing else happens.
func (c *Core) Pause() changefeed.Duration {
	if c.step.asked || c.waitsForArming() {
		return c.cfg.Heartbeat // the answer is what goes on; of 10,000 changefeeds that start at once most wait for one
	}
	if c.phase == phaseActive && len(c.cover.unsettled) == 0 && c.orphans.len() == 0 && c.sync.at == 0 {
		return c.barrierPause(c.cfg.Heartbeat)
	}
	return tickBusy
}
