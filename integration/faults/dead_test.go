package faults

import (
	"bytes"
	"errors"
	"io"
	"net"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	"golang.org/x/net/http2"
	"google.golang.org/protobuf/proto"

	"fencerow/integration/lab"
)

// A batch of an owner that was killed, held back in the network until after the takeover, is refused by the sink: the
// process is dead, its bytes aren't. Nobody waits for the answer, which is read off the wire.
func TestABatchOfAKilledOwnerIsRefusedByTheSink(t *testing.T) {
	answers, objections := deadBytes(t, binary)
	require.Empty(t, objections)
	require.NotEmpty(t, answers)
	for _, done := range answers {
		require.False(t, done, "a write of a dead process had an effect")
	}
}

// Without the fence the same bytes corrupt the target, and the judges see it.
func TestWithoutTheSinksFenceABatchOfAKilledOwnerCorrupts(t *testing.T) {
	answers, objections := deadBytes(t, unfenced)
	require.Contains(t, answers, true)
	require.NotEmpty(t, objections)
}

// deadBytes kills the only node with a batch on its way through a wire that keeps it, lets another one take over, and then
// lets the wire deliver. It returns which of the writes the sink says are done, and what the judges object to.
func deadBytes(t *testing.T, program string) (answers []bool, objections []string) {
	t.Helper()
	t.Parallel()
	with := &shared{source: lab.StartEtcd(t, binary, "source", 1)[0], sink: lab.StartEtcd(t, binary, "sink", 1)[0]}
	c := newCluster(t, with, "d", 1, 1)
	c.binary = program
	victim := c.nodes[0]
	w := newWire(t, with.sink.Endpoint)
	host, port, err := net.SplitHostPort(w.listener.Addr().String())
	require.NoError(t, err)
	victim.Host.Filter("-t", "nat", "-A", string(lab.Say), "-p", "tcp", "-d", with.sink.Host.IP, "--dport", strings.TrimPrefix(lab.ClientPort, ":"),
		"-j", "DNAT", "--to-destination", net.JoinHostPort(host, port))
	c.startNodes()
	c.create(rate)
	held := c.holdFlush(victim)
	require.NotNil(t, held, "a node that runs everything writes")
	w.hold()
	held.Release()
	lab.Eventually(t, "the batch is in the wire", w.keeps)
	victim.Kill()
	c.add("d-n2")
	heir := c.nodes[1]
	c.restart(heir)
	c.nodes = []*node{heir, victim} // who is asked first
	heir.AwaitReady()
	keys, last := c.writers.probe()
	lab.Eventually(t, "the heir brings what is new", func() error { return c.arrived(keys, last) })
	w.deliver()
	lab.Eventually(t, "the sink answers the dead", func() error {
		if answers = w.answers(); len(answers) == 0 {
			return errors.New("it does not")
		}
		return nil
	})
	log := c.finish()
	objections = c.targets(log)
	if _, err := c.world(log, c.cat()).Judge(); err != nil {
		objections = append(objections, err.Error())
		require.Regexp(t, regexp.MustCompile(`invariant [35]:`), err.Error(), "it is the stale write that is objected to")
	}
	t.Logf("what the sink said to the writes of the dead: %v; objections: %s", answers, strings.Join(objections, "; "))
	return w.answers(), objections
}

// wire relays TCP to the sink. It can keep what goes there, also when who sent it is gone, and reads the sink's answers to the
// writes that it kept.
type wire struct {
	listener net.Listener
	target   string
	done     sync.WaitGroup

	mu       sync.Mutex
	keeping  bool
	cables   []*cable
	answered []bool
}

// cable is one connection.
type cable struct {
	near, far net.Conn
	kept      []byte
	writes    map[uint32]bool // streams of writes that were kept
}

func newWire(t *testing.T, target string) *wire {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", lab.Addr+":0")
	require.NoError(t, err)
	w := &wire{listener: listener, target: target}
	w.done.Go(w.serve)
	t.Cleanup(func() {
		_ = listener.Close()
		w.mu.Lock()
		for _, c := range w.cables {
			_, _ = c.near.Close(), c.far.Close()
		}
		w.mu.Unlock()
		w.done.Wait()
	})
	return w
}

func (w *wire) serve() {
	for {
		near, err := w.listener.Accept()
		if err != nil {
			return
		}
		far, err := net.Dial("tcp", w.target)
		if err != nil {
			_ = near.Close()
			continue
		}
		c := &cable{near: near, far: far, writes: map[uint32]bool{}}
		w.mu.Lock()
		w.cables = append(w.cables, c)
		w.mu.Unlock()
		w.done.Go(func() { w.ask(c) })
		w.done.Go(func() { w.answer(c) })
	}
}

// ask takes what comes from near to the sink, or keeps it. It does not tell the sink that near is gone.
func (w *wire) ask(c *cable) {
	frames, tee := io.Pipe()
	defer func() { _ = tee.Close() }()
	w.done.Go(func() {
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(frames, preface); err == nil {
			eachData(frames, func(stream uint32, data []byte) { w.asked(c, stream, data) })
		}
	})
	buffer := make([]byte, 32<<10)
	for {
		read, err := c.near.Read(buffer)
		w.mu.Lock()
		if w.keeping {
			c.kept = append(c.kept, buffer[:read]...)
		} else {
			_, _ = c.far.Write(buffer[:read])
		}
		w.mu.Unlock()
		if err != nil {
			return
		}
		_, _ = tee.Write(buffer[:read])
	}
}

// asked takes note of a write that is kept: it names a claim.
func (w *wire) asked(c *cable, stream uint32, data []byte) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.keeping && bytes.Contains(data, []byte("/default/copy/claims/")) {
		c.writes[stream] = true
	}
}

// answer takes what the sink says to near, as long as that is there, and reads it.
func (w *wire) answer(c *cable) {
	frames, tee := io.Pipe()
	defer func() { _ = tee.Close() }()
	w.done.Go(func() { eachData(frames, func(stream uint32, data []byte) { w.told(c, stream, data) }) })
	buffer := make([]byte, 32<<10)
	for {
		read, err := c.far.Read(buffer)
		_, _ = c.near.Write(buffer[:read])
		_, _ = tee.Write(buffer[:read])
		if err != nil {
			_ = c.near.Close()
			return
		}
	}
}

// told takes the answer to a write that was kept.
func (w *wire) told(c *cable, stream uint32, data []byte) {
	const prefix = 5 // whether it is compressed, and the length
	w.mu.Lock()
	defer w.mu.Unlock()
	var answer pb.TxnResponse
	if c.writes[stream] && len(data) > prefix && proto.Unmarshal(data[prefix:], &answer) == nil {
		w.answered = append(w.answered, answer.GetSucceeded())
	}
}

// eachData reads the frames of one direction until it ends.
func eachData(from *io.PipeReader, take func(stream uint32, data []byte)) {
	framer := http2.NewFramer(io.Discard, from)
	framer.SetMaxReadFrameSize(16 << 20)
	for {
		frame, err := framer.ReadFrame()
		if err != nil {
			_, _ = io.Copy(io.Discard, from)
			return
		}
		if data, isData := frame.(*http2.DataFrame); isData {
			take(data.StreamID, data.Data())
		}
	}
}

func (w *wire) hold() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keeping = true
}

// keeps says whether a write is in what is kept.
func (w *wire) keeps() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if slices.ContainsFunc(w.cables, func(c *cable) bool { return len(c.writes) > 0 }) {
		return nil
	}
	return errors.New("no write is in it")
}

// deliver takes to the sink what was kept.
func (w *wire) deliver() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.keeping = false
	for _, c := range w.cables {
		_, _ = c.far.Write(c.kept)
	}
}

func (w *wire) answers() []bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.answered)
}
