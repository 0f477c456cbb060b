package sim

import (
	"fmt"

	"fencerow/changefeed"
	"fencerow/epochstore"
	"fencerow/fence"
	"fencerow/maintainer"
	"fencerow/record"
)

// statusRequest is a status that a maintainer waits for to be stored.
type statusRequest struct {
	write  epochstore.StatusWrite
	result epochstore.StatusResult
	task   *task
	wait   uint64
	done   bool
}

// writeStatus stores a status together with those that come while a write is under way.
func (m *maintainers) writeStatus(own maintainer.Ownership, previous int64, status record.Status) (int64, error) {
	last, err := m.last(own.ID, previous)
	if err != nil {
		return 0, err
	}
	t := m.life.world.current
	ownership := own.Record
	request := &statusRequest{task: t, write: epochstore.StatusWrite{
		ID: own.ID, Last: last, Status: status,
		Ownership: epochstore.Seen[record.Epoch]{Record: &ownership, ModRevision: own.Revision},
	}}
	m.waiting = append(m.waiting, request)
	m.store()
	if !t.cancelled {
		request.wait = t.begin()
		m.life.world.after(t.clocked(t.deadline.Sub(m.life.clock.read())), func() { t.wake(request.wait, wokenByTime) })
		t.park()
	}
	if !request.done {
		return 0, fmt.Errorf("%w: status of %v", fence.ErrUnknown, own.ID)
	}
	m.remember(own.ID, request.result.Status)
	return request.result.Status.ModRevision, request.result.Err
}

func (m *maintainers) store() {
	if m.writing {
		return
	}
	m.writing = true
	m.life.world.spawn(m.life, func(t *task) {
		for len(m.waiting) > 0 {
			batch := m.waiting
			m.waiting = nil
			writes := make([]epochstore.StatusWrite, len(batch))
			for i, request := range batch {
				writes[i] = request.write
			}
			t.deadline = 0
			for i, result := range m.writeAll(writes) {
				batch[i].result, batch[i].done = result, true
				batch[i].task.wake(batch[i].wait, wokenByAnswer)
			}
		}
		m.writing = false
	})
}

// writeAll drives the transactions of some statuses, one after another.
func (m *maintainers) writeAll(writes []epochstore.StatusWrite) []epochstore.StatusResult {
	plan := epochstore.StatusExchanges(m.life.world.plan.Keys, writes)
	for _, exchange := range plan.Exchanges {
		for {
			txn, more := exchange.Next()
			if !more {
				break
			}
			exchange.Answer(m.life.kv.Txn(never{}, txn))
		}
	}
	return plan.Results(m.life.world.plan.Keys)
}

func (m *maintainers) last(id changefeed.ID, previous int64) (epochstore.Seen[record.Status], error) {
	if previous == 0 {
		return epochstore.Seen[record.Status]{}, nil
	}
	if known, found := m.known[id]; found && known.ModRevision == previous {
		return known, nil
	}
	_, stored, err := m.life.store.Status(never{}, id)
	if err != nil {
		return stored, err
	}
	m.remember(id, stored)
	if stored.ModRevision != previous {
		return stored, epochstore.ErrConflict
	}
	return stored, nil
}

func (m *maintainers) remember(id changefeed.ID, stored epochstore.Seen[record.Status]) {
	if stored.Exists() {
		m.known[id] = stored
	} else {
		delete(m.known, id)
	}
}
