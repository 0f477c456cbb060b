package serial_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/stretchr/testify/require"
	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/source"
	"fencerow/source/serial"
	"fencerow/source/serial/serialtest"
	"fencerow/source/sourcetest"
)

const (
	testLimit = 2 * time.Minute // generous: machines are busy with others
	testPoll  = 2 * time.Millisecond
)

// table is what tests write to: a database, and the truth about it.
type table struct {
	*serialtest.Database
	mu  sync.Mutex
	log sourcetest.Log
}

func newTable(t *testing.T) *table {
	t.Helper()
	database := serialtest.NewDatabase()
	_, err := database.Open(1).Prepare(t.Context(), false)
	require.NoError(t, err)
	return &table{Database: database}
}

func (b *table) write(keys ...int) change.Position {
	b.mu.Lock()
	defer b.mu.Unlock()
	writes := make([]serialtest.Write, len(keys))
	for i, key := range keys {
		writes[i] = serialtest.Write{Key: serialtest.Key(key), Value: fmt.Sprintf("%d of %d", i, len(b.log))}
	}
	position := b.Commit(writes)
	for i, write := range writes {
		b.log = append(b.log, sourcetest.Write{Position: position, Key: write.Key, Value: write.Value, Index: uint32(i)})
	}
	return position
}

// random writes transactions of up to ten of a hundred keys.
func (b *table) random(random *rand.Rand, transactions int) (last change.Position) {
	for range transactions {
		last = b.write(random.Perm(100)[:1+random.IntN(10)]...)
	}
	return last
}

func (b *table) truth() sourcetest.Log {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append(sourcetest.Log(nil), b.log...)
}

func pieces(span changefeed.Span, at change.Mark) []source.Piece {
	return []source.Piece{{Span: span, Mark: at}}
}

// follow reads until everything up to the position is delivered, and judges it.
func follow(ctx context.Context, t *testing.T, from source.Source, begin []source.Piece, to change.Position, log func() sourcetest.Log) {
	reader, err := from.Read(ctx, source.Request{Pieces: begin, BufferBytes: 1})
	if err != nil {
		t.Error(err)
		return
	}
	defer func() { _ = reader.Close() }()
	checker := sourcetest.NewChecker(begin, serialtest.Value).OfSerialLog()
	for at := (change.Mark{}); at.Whole() < to; {
		event, err := reader.Next(ctx)
		if err != nil {
			t.Errorf("at %v of %v: %v", at, to, err)
			return
		}
		at = event.To
		checker.Add(event)
	}
	if err := checker.Finish(log()); err != nil {
		t.Error(err)
	}
}

// hostile loses, repeats and swaps frames of data, and cuts the connection, at random.
type hostile struct {
	serial.Pipe
	mu     sync.Mutex // guards random
	random *rand.Rand
	held   []byte
}

func (h *hostile) dice(n int) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.random.IntN(n)
}

func (h *hostile) Receive() ([]byte, error) {
	for {
		if h.held != nil {
			frame := h.held
			h.held = nil
			return frame, nil
		}
		frame, err := h.Pipe.Receive()
		if err != nil {
			return nil, err
		}
		switch h.dice(150) {
		case 0:
			continue // lost
		case 1:
			h.held = frame // twice
		case 2: // after the next
			next, err := h.Pipe.Receive()
			if err != nil {
				return nil, err
			}
			h.held = frame
			return next, nil
		case 3:
			h.Close()
			return nil, errOver
		}
		return frame, nil
	}
}

func (h *hostile) Send(frame []byte) error {
	if h.dice(150) == 0 {
		h.Close()
	}
	return h.Pipe.Send(frame)
}

// Whatever the transport does, and whoever serves, a reader delivers exactly the log: no gap and no repetition.
func TestHostileTransportAndOwnersThatChange(t *testing.T) {
	for seed := range uint64(6) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithTimeout(t.Context(), testLimit)
			defer cancel()
			random := rand.New(rand.NewPCG(seed, 1))
			table := newTable(t)
			table.EventChanges = 3
			c := newCluster(t, "a", "b", "c")
			var pipes atomic.Uint64
			c.wrap = func(p serial.Pipe) serial.Pipe {
				return &hostile{Pipe: p, random: rand.New(rand.NewPCG(seed, 1000+pipes.Add(1)))}
			}
			begin := table.Head()
			var tasks sync.WaitGroup
			owner := fence.Epoch(1)
			_, stop := c.own("a", owner, table.Database, 0)
			done := make(chan change.Position, 1)
			tasks.Go(func() {
				writer := rand.New(rand.NewPCG(seed, 2))
				var last change.Position
				for range 20 {
					last = table.random(writer, 30)
				}
				done <- last
			})
			end := <-done
			parts := changefeed.Whole().SplitAt([]byte(serialtest.Key(20)), []byte(serialtest.Key(70)))
			for _, span := range append(parts, changefeed.Whole()) {
				for _, at := range []changefeed.NodeID{"a", "b"} {
					tasks.Go(func() {
						follow(ctx, t, c.nodes[at].NewSource(table.Open(0), feed), pieces(span, change.At(begin)), end, table.truth)
					})
				}
			}
			// Owners change meanwhile. Some old ones go on for a while.
			var stops []func()
			for i := range 6 {
				name := []changefeed.NodeID{"a", "b", "c"}[random.IntN(3)]
				owner++
				stops = append(stops, stop)
				if random.IntN(2) == 0 {
					stop()
				}
				_, stop = c.own(name, owner, table.Database, begin)
				pause := time.NewTimer(time.Duration(random.IntN(40*(i+1))) * time.Millisecond)
				<-pause.C
			}
			for _, stop := range stops {
				stop()
			}
			tasks.Wait()
		})
	}
}

// One that takes nothing does not hold up the others while the spool has room. Beyond, the source waits, and the others are told
// whom for. When it reads again nothing is missing.
func TestSlowSubscriptionIsSpooledAndThenHoldsUpTheSource(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	table := newTable(t)
	begin := table.Head()
	spool := serial.NewSpool(serial.SpoolConfig{Directory: "spool", Bytes: 400 << 10, FS: vfs.NewMem(), Logger: zap.NewNop()})
	defer func() { require.NoError(t, spool.Close()) }()
	c := newCluster(t)
	node, err := serial.NewNode(serial.Config{Self: "a", Dialer: c, Spool: spool, Logger: zap.NewNop()})
	require.NoError(t, err)
	c.nodes["a"] = node
	c.own("a", 1, table.Database, 0)
	halves := changefeed.Whole().SplitAt([]byte(serialtest.Key(50)))
	from := node.NewSource(table.Open(0), feed)
	random := rand.New(rand.NewPCG(1, 1))

	slow, err := from.Read(ctx, source.Request{Pieces: pieces(halves[0], change.At(begin)), BufferBytes: 1})
	require.NoError(t, err)
	defer func() { _ = slow.Close() }()
	checker := sourcetest.NewChecker(pieces(halves[0], change.At(begin)), serialtest.Value).OfSerialLog()
	table.write(1)
	event, err := slow.Next(ctx) // it has subscribed, and takes nothing more
	require.NoError(t, err)
	checker.Add(event)

	end := table.random(random, 200)
	follow(ctx, t, from, pieces(halves[1], change.At(begin)), end, table.truth)
	require.Positive(t, spool.Used())

	// More than the spool takes.
	fast, err := from.Read(ctx, source.Request{Pieces: pieces(halves[1], change.At(end)), BufferBytes: 1 << 20})
	require.NoError(t, err)
	defer func() { _ = fast.Close() }()
	end = table.random(random, 1000)
	reading, stop := context.WithCancel(ctx)
	var reader sync.WaitGroup
	var at change.Mark
	reader.Go(func() {
		for {
			event, err := fast.Next(reading)
			if err != nil {
				return
			}
			at = event.To
		}
	})
	waiting, ok := fast.(source.Waiting)
	require.True(t, ok)
	require.Eventually(t, func() bool { return waiting.Waits() == halves[0].String()+", which is too slow" }, testLimit, testPoll)
	require.LessOrEqual(t, spool.Used(), int64(400<<10))
	stop()
	reader.Wait()
	require.Less(t, at.Whole(), end, "the source waits")

	for at := event.To; at.Whole() < end; at = event.To {
		event, err = slow.Next(ctx)
		require.NoError(t, err)
		checker.Add(event)
	}
	require.NoError(t, checker.Finish(table.truth()))
	require.Zero(t, spool.Used())
	require.LessOrEqual(t, table.Followed(), 3, "opened once, and anew for those that came later")
}

// What the source was allowed to forget is a stored checkpoint, and a span below it is a fault, unless it is read anew.
func TestSpanBelowWhatIsKeptIsAFault(t *testing.T) {
	table := newTable(t)
	begin := table.Head()
	table.write(1)
	stored := table.write(2)
	c := newCluster(t, "a", "b")
	c.own("a", 1, table.Database, stored)
	for _, at := range []changefeed.NodeID{"a", "b"} {
		reader, err := c.nodes[at].NewSource(table.Open(0), feed).Read(t.Context(), source.Request{Pieces: pieces(changefeed.Whole(), change.At(begin))})
		require.NoError(t, err)
		_, err = reader.Next(t.Context())
		fault := changefeed.AsFault(err, "")
		require.Equal(t, changefeed.CodeSourceSlotLost, fault.Code)
		require.True(t, fault.Permanent)
		require.NotEmpty(t, fault.Cure)
		require.NoError(t, reader.Close())
	}
	feed := feed
	feed.OnGap = serial.GapResnapshots
	reader, err := c.nodes["b"].NewSource(table.Open(0), feed).Read(t.Context(), source.Request{Pieces: pieces(changefeed.Whole(), change.At(begin))})
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()
	event, err := reader.Next(t.Context())
	require.NoError(t, err)
	require.True(t, event.Snapshot)
	require.Len(t, event.Changes, 2)
}

// Faults of the log reach dispatchers as they are; what time may heal is tried again first.
func TestFaultsOfTheLogReachDispatchers(t *testing.T) {
	table := newTable(t)
	c := newCluster(t, "a", "b")
	c.own("a", 1, table.Database, 0)
	for _, at := range []changefeed.NodeID{"a", "b"} {
		for _, fault := range []*changefeed.Fault{
			{Code: changefeed.CodeSourceUnreachable, Detail: "is away", Err: errAway}, {Code: changefeed.CodeAuthForbidden, Cure: "GRANT", Permanent: true},
		} {
			table.Fail(fault)
			reader, err := c.nodes[at].NewSource(table.Open(0), feed).Read(t.Context(), source.Request{Pieces: pieces(changefeed.Whole(), change.At(1000))})
			require.NoError(t, err)
			_, err = reader.Next(t.Context())
			require.Equal(t, fault.Error(), changefeed.AsFault(err, "").Error())
			_, again := reader.Next(t.Context())
			require.Equal(t, err, again)
			require.NoError(t, reader.Close())
		}
	}
}

// A reader whose owner is not there, or can't be reached, says so, and goes on when it is.
func TestReaderSaysWhomItWaitsFor(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	table := newTable(t)
	begin := table.Head()
	end := table.write(1)
	c := newCluster(t, "a", "b")
	reader, err := c.nodes["b"].NewSource(table.Open(0), feed).Read(ctx, source.Request{Pieces: pieces(changefeed.Whole(), change.At(begin))})
	require.NoError(t, err)
	defer func() { require.NoError(t, reader.Close()) }()
	events := make(chan source.Event, 1)
	var reading sync.WaitGroup
	defer reading.Wait()
	reading.Go(func() {
		event, err := reader.Next(ctx)
		if err == nil {
			events <- event
		}
	})
	waits := func(text string) {
		t.Helper()
		waiting, ok := reader.(source.Waiting)
		require.True(t, ok)
		require.Eventually(t, func() bool { return waiting.Waits() == text }, testLimit, testPoll, text)
	}
	waits("an owner of the changefeed")
	c.observe("z", 1)
	waits("the reader of the log on node z: " + errAway.Error())
	c.observe("a", 2)
	waits("the reader of the log on node a")
	c.own("a", 2, table.Database, 0)
	select {
	case event := <-events:
		require.Equal(t, change.At(end), event.To)
	case <-ctx.Done():
		t.Fatal("nothing came")
	}
}

// A hub of an owner that was replaced does not end the newer one's log, and its dispatchers go on with that.
func TestReplacedOwnerLeavesTheLogAlone(t *testing.T) {
	ctx, cancel := context.WithTimeout(t.Context(), testLimit)
	defer cancel()
	table := newTable(t)
	begin := table.Head()
	c := newCluster(t, "a", "b")
	c.own("b", 2, table.Database, 0)
	from := c.nodes["b"].NewSource(table.Open(0), feed)
	end := table.write(1)
	follow(ctx, t, from, pieces(changefeed.Whole(), change.At(begin)), end, table.truth)
	c.own("a", 1, table.Database, 0) // comes late, and is what everybody is told last
	c.observe("b", 2)
	end = table.write(2)
	follow(ctx, t, from, pieces(changefeed.Whole(), change.At(begin)), end, table.truth)
	require.False(t, errors.Is(ctx.Err(), context.DeadlineExceeded))
}
