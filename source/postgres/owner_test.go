//go:build databases

package postgres_test

import (
	"context"
	"errors"
	"math/rand/v2"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/internal/dbtest"
	"fencerow/sink/sqlsink/sqltest"
	"fencerow/source"
)

// eventually polls a condition.
func (w *world) eventually(what string, holds func() bool) {
	w.Helper()
	require.Eventually(w, holds, 20*time.Second, 20*time.Millisecond, what)
}

func requireFault(t *testing.T, err error, code changefeed.Code) *changefeed.Fault {
	t.Helper()
	fault, ok := errors.AsType[*changefeed.Fault](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, code, fault.Code, "%v", err)
	require.NotEmpty(t, fault.Cure, "%v", err)
	return fault
}

// A newer owner takes the slot over from an older one once the record was confirmed, and an older one never from a newer.
func TestTheSlotGoesToTheNewerEpoch(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	old := w.open(way{epoch: 8})
	old.Hasten(time.Second, 5*time.Second)
	oldLog := w.follow(old)
	w.exec(`INSERT INTO a VALUES (1)`)
	above := w.take(oldLog, 1)[0].Position

	unsure := errors.New("the record can't be read")
	var confirmed atomic.Int64
	doubtful := w.open(way{epoch: 10, confirm: func(context.Context) error { return unsure }})
	doubtful.Hasten(0, time.Second)
	err := w.refused(w.followFrom(doubtful, above))
	require.ErrorIs(t, err, unsure, "what is not confirmed ends nobody")
	require.NotContains(t, err.Error(), "can't be reached")
	w.exec(`INSERT INTO a VALUES (2)`)
	w.take(oldLog, 1)

	newer := w.open(way{epoch: 10, confirm: func(context.Context) error { confirmed.Add(1); return nil }})
	newLog := w.followFrom(newer, above)
	require.Equal(t, []string{"0 create public.a:0000000000000000002 after(id=2)"}, lines(w.take(newLog, 1)))
	require.Positive(t, confirmed.Load())
	require.ErrorIs(t, w.refused(oldLog), fence.ErrStale, "the older one comes back, and sees that it was replaced")
	require.ErrorIs(t, old.Drop(w.ctx), fence.ErrStale)
	w.exec(`INSERT INTO a VALUES (3)`)
	w.take(newLog, 1)
}

func TestAStrangerOnTheSlotIsLeftAlone(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := w.open(way{})
	s.Hasten(0, time.Second)
	above, err := s.Prepare(w.ctx, false)
	require.NoError(t, err)
	active := func() string {
		return w.text(`SELECT active::text FROM pg_replication_slots WHERE slot_name = $1`, s.SlotName())
	}
	defer w.eventually("the server has noticed that the stranger is gone", func() bool { return active() == "false" }) // or it can't be dropped
	config, err := pgconn.ParseConfig(w.server.Postgres(w.database) + "&replication=database&application_name=stranger")
	require.NoError(t, err)
	stranger, err := pgconn.ConnectConfig(w.ctx, config)
	require.NoError(t, err)
	defer func() { _ = stranger.Close(context.Background()) }()
	ctx, cancel := context.WithCancel(w.ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = stranger.Exec(ctx, `START_REPLICATION SLOT `+s.SlotName()+` LOGICAL 0/0 (proto_version '1', publication_names '`+s.SlotName()+`')`).ReadAll()
	}()
	defer func() { cancel(); <-done }()
	w.eventually("the stranger follows", func() bool { return active() == "true" })
	fault := requireFault(t, w.refused(w.followFrom(s, above)), changefeed.CodeSourceUnreachable)
	require.Contains(t, fault.Detail, "stranger")
}

func (w *world) confirmedFlush(slot string) change.Position {
	w.Helper()
	n, err := change.ParsePosition(w.text(`SELECT (confirmed_flush_lsn - '0/0')::text FROM pg_replication_slots WHERE slot_name = $1`, slot))
	require.NoError(w, err)
	return n
}

// The slot moves to what was acknowledged and never beyond, whatever was read, and a reader that comes later goes on there.
func TestTheSlotIsConfirmedUpToWhatWasAcknowledged(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := w.open(way{})
	log := w.follow(s)
	before := w.confirmedFlush(s.SlotName())
	for i := range 5 {
		w.exec(`INSERT INTO a VALUES ($1)`, i)
	}
	changes := w.take(log, 5)
	log.(source.Hurrying).Hurry()
	w.eventually("the server knows that we have them", func() bool {
		return w.text(`SELECT (write_lsn - '0/0' > $1)::text FROM pg_stat_replication r JOIN pg_replication_slots s ON s.active_pid = r.pid
			WHERE slot_name = $2`, changes[4].Position.String(), s.SlotName()) == "true"
	})
	require.Equal(t, before, w.confirmedFlush(s.SlotName()), "nothing was acknowledged")
	log.Acknowledge(changes[2].Position)
	log.Acknowledge(changes[1].Position)
	w.eventually("it is confirmed", func() bool { return w.confirmedFlush(s.SlotName()) == changes[2].Position })
	require.NoError(t, log.Close())

	again := w.open(way{epoch: 9})
	position, err := again.Prepare(w.ctx, true)
	require.NoError(t, err)
	require.LessOrEqual(t, position, changes[2].Position)
	log = w.followFrom(again, changes[2].Position)
	require.Equal(t, lines(changes[3:]), lines(w.take(log, 2)))
	require.Equal(t, changes[2].Position, w.confirmedFlush(s.SlotName()))
}

func TestTheLogSaysWhatTheServerKeepsForIt(t *testing.T) {
	const kept = 4 << 20
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY, t text)`)
	s := w.open(way{})
	log := w.follow(s)
	retained := func() int64 {
		bytes, _ := log.(source.Retaining).Retained()
		return bytes
	}
	w.exec(`INSERT INTO a SELECT i, repeat('x', 1000) FROM generate_series(1, $1) i`, kept/1000)
	changes := w.take(log, kept/1000)
	w.eventually("it is kept", func() bool { return retained() > kept })
	log.Acknowledge(changes[0].Position)
	for id := -1; retained() > kept; id-- { // the server notes what runs at its checkpoints, and forgets up to such a note
		w.exec(`CHECKPOINT`)
		w.exec(`INSERT INTO a VALUES ($1)`, id)
		log.Acknowledge(w.take(log, 1)[0].Position)
	}
}

func TestASlotThatSomebodyMovedIsLost(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := w.open(way{})
	above, err := s.Prepare(w.ctx, false)
	require.NoError(t, err)
	w.exec(`INSERT INTO a VALUES (1)`)
	w.exec(`SELECT pg_replication_slot_advance($1, pg_current_wal_lsn())`, s.SlotName())
	fault := requireFault(t, w.refused(w.followFrom(s, above)), changefeed.CodeSourceSlotLost)
	require.True(t, fault.Permanent)
}

func TestASlotThatIsGone(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := w.open(way{})
	first, err := s.Prepare(w.ctx, false)
	require.NoError(t, err)
	again, err := s.Prepare(w.ctx, false)
	require.NoError(t, err)
	require.Equal(t, first, again, "done again it finds what is there")
	w.exec(`SELECT pg_drop_replication_slot($1)`, s.SlotName())
	w.exec(`INSERT INTO a VALUES (1)`)
	_, err = s.Prepare(w.ctx, true)
	require.True(t, requireFault(t, err, changefeed.CodeSourceSlotLost).Permanent)
	bridging := w.open(way{options: changefeed.Options{"on_gap": "resnapshot"}})
	second, err := bridging.Prepare(w.ctx, true)
	require.NoError(t, err)
	require.Greater(t, second, first)
	log := w.followFrom(bridging, second)
	w.exec(`INSERT INTO a VALUES (2)`)
	require.Equal(t, []string{"0 create public.a:0000000000000000002 after(id=2)"}, lines(w.take(log, 1)))
}

// A server that may keep little log throws away what the slot needs.
func TestASlotThatTheServerInvalidated(t *testing.T) {
	small, err := dbtest.StartPostgres("wal_level=logical", "max_slot_wal_keep_size=1MB", "min_wal_size=32MB", "max_wal_size=32MB")
	require.NoError(t, err)
	t.Cleanup(small.Close)
	w := newWorldOn(t, small)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY, v text)`)
	s := w.open(way{})
	s.Hasten(time.Second, time.Second)
	above, err := s.Prepare(w.ctx, false)
	require.NoError(t, err)
	for i := range 5 {
		w.exec(`INSERT INTO a VALUES ($1)`, i)
		w.exec(`SELECT pg_switch_wal()`)
	}
	w.exec(`CHECKPOINT`)
	require.Equal(t, "lost", w.text(`SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1`, s.SlotName()))
	requireFault(t, w.refused(w.followFrom(s, above)), changefeed.CodeSourceSlotLost)
	_, err = s.Prepare(w.ctx, true)
	requireFault(t, err, changefeed.CodeSourceSlotLost)
	bridging := w.open(way{options: changefeed.Options{"on_gap": "resnapshot"}})
	position, err := bridging.Prepare(w.ctx, true)
	require.NoError(t, err)
	log := w.followFrom(bridging, position)
	w.exec(`INSERT INTO a VALUES (9)`)
	w.take(log, 1)
}

func TestAnotherServerIsNotTheSource(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := w.open(way{})
	identity, err := s.Identity(w.ctx)
	require.NoError(t, err)
	require.Regexp(t, `^\d+/1$`, identity)
	above, err := s.Prepare(w.ctx, false)
	require.NoError(t, err)
	same := w.open(way{identity: identity})
	_, err = same.Identity(w.ctx)
	require.NoError(t, err)
	other := w.open(way{identity: identity + "1"})
	_, err = other.Identity(w.ctx)
	require.True(t, requireFault(t, err, changefeed.CodeSourceReplaced).Permanent)
	_, err = other.Prepare(w.ctx, true)
	requireFault(t, err, changefeed.CodeSourceReplaced)
	requireFault(t, w.refused(w.followFrom(other, above)), changefeed.CodeSourceReplaced)
}

// Another server comes to answer in the place of the first, before its identity was stored with a checkpoint: a standby that was promoted
// may have a slot of the same name, and lack what was read.
func TestAnotherServerInThePlaceOfTheFirstIsNotTheSource(t *testing.T) {
	own, err := dbtest.StartPostgres("wal_level=logical")
	require.NoError(t, err)
	t.Cleanup(own.Close)
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	proxy := sqltest.NewProxy(t, w.server.Host)
	s := w.open(way{host: proxy.Host()})
	log := w.follow(s)
	w.exec(`INSERT INTO a VALUES (1)`)
	w.take(log, 1)

	for _, do := range [][2]string{
		{"postgres", `CREATE DATABASE ` + w.database}, {w.database, `SELECT pg_create_logical_replication_slot('` + s.SlotName() + `', 'pgoutput')`},
	} {
		conn, err := pgx.Connect(w.ctx, own.Postgres(do[0]))
		require.NoError(t, err)
		_, err = conn.Exec(w.ctx, do[1])
		require.NoError(t, err)
		require.NoError(t, conn.Close(w.ctx))
	}
	proxy.Move(own.Host)
	require.True(t, requireFault(t, w.refused(log), changefeed.CodeSourceReplaced).Permanent)
}

// Whatever is cut where, each change comes once and in order.
func TestCutConnectionsLoseAndRepeatNothing(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id bigserial PRIMARY KEY, v text)`)
	proxy := sqltest.NewProxy(t, w.server.Host)
	s := w.open(way{host: proxy.Host()})
	log := w.follow(s)
	random := rand.New(rand.NewPCG(1, 2))
	const rounds, rows = 30, 200
	var got, cuts int
	var to change.Mark
	for round := range rounds {
		proxy.CutAfter(sqltest.Direction(random.IntN(2)), random.IntN(20_000))
		w.exec(`INSERT INTO a (v) SELECT repeat('x', 50) FROM generate_series(1, $1::int)`, rows/2)
		w.exec(`INSERT INTO a (v) SELECT repeat('y', 50) FROM generate_series(1, $1::int)`, rows/2)
		for got < (round+1)*rows {
			event, err := log.Next(w.ctx)
			require.NoError(t, err)
			require.True(t, to.Before(event.To))
			for _, c := range event.Changes {
				got++
				require.False(t, to.Done(c.Position, c.Index))
				require.True(t, event.To.Done(c.Position, c.Index))
				require.Equal(t, strconv.Itoa(got), string(c.After.(*change.Tuple).Cells[0]))
			}
			to = event.To
			log.Acknowledge(to.Whole())
		}
		if proxy.WasCut() {
			cuts++
		}
	}
	require.Greater(t, cuts, rounds/4)
}

// A link that is lost without a word is noticed, and another one goes on.
func TestLinkThatIsSilentlyLostIsNoticed(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	proxy := sqltest.NewProxy(t, w.server.Host)
	log := w.follow(w.open(way{host: proxy.Host()}))
	w.exec(`INSERT INTO a VALUES (1)`)
	w.take(log, 1)
	proxy.Lose()
	w.exec(`INSERT INTO a VALUES (2)`)
	w.take(log, 1)
}

// So is one that is lost while a statement waits for its answer.
func TestAStatementOnALinkThatIsLostEnds(t *testing.T) {
	w := newWorld(t)
	proxy := sqltest.NewProxy(t, w.server.Host)
	s := w.open(way{host: proxy.Host()})
	require.NoError(t, s.Answered(w.ctx, caseMax, func() {}))
	require.ErrorIs(t, s.Answered(w.ctx, 100*time.Millisecond, proxy.Lose), context.DeadlineExceeded)
	require.NoError(t, w.ctx.Err())
}

// A server stops although what it sent is not confirmed.
func TestAServerCanStop(t *testing.T) {
	own, err := dbtest.StartPostgres("wal_level=logical")
	require.NoError(t, err)
	t.Cleanup(own.Close)
	w := newWorldOn(t, own)
	w.exec(`CREATE TABLE a (id int PRIMARY KEY)`)
	s := w.open(way{})
	log := w.follow(s)
	w.exec(`INSERT INTO a VALUES (1)`)
	w.take(log, 1)
	require.NoError(t, w.admin.Close(w.ctx))
	require.NoError(t, s.Close())
	w.stopped = true
	require.NoError(t, own.Stop(), "it waits for us to confirm what we got")
}
