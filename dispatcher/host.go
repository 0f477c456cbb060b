package dispatcher

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
	"fencerow/record"
	"fencerow/sink"
	"fencerow/source"
	"fencerow/trace"
)

// Records reads the authority on who owns what.
type Records interface {
	// Epoch reads the changefeed's epoch record linearizably; false if there is none.
	Epoch(ctx context.Context, id changefeed.ID) (record.Epoch, bool, error)
}

// Sender hands messages to the peers. It does not block; a message may be lost.
type Sender interface {
	Send(envelope message.Envelope)
}

// Session is the node's session under which everything of one host runs.
type Session interface {
	// Alive reports whether the node may act as an owner at this moment, by the clock and not by a timer.
	Alive() bool
	// Context returns a context that ends with the session, following its renewals.
	Context(parent context.Context) (context.Context, context.CancelFunc)
}

// Opener makes sources and sinks. They open their connections on first use.
type Opener interface {
	OpenSource(spec record.Spec) (source.Source, error)
	OpenSink(spec record.Spec) (sink.Sink, error)
}

// Evictions writes to the records that an eviction is done.
type Evictions interface {
	// Acknowledge is repeated until it returns nil or an error that is [fence.ErrStale].
	Acknowledge(ctx context.Context, done Acknowledgement) error
}

// Acknowledgement says that no token of the changefeed up to Token has an effect on the host any more.
type Acknowledgement struct {
	ID     changefeed.ID
	UID    changefeed.UID
	Token  fence.Token
	Finals []message.Status // how far the evicted dispatchers came
}

// Config is what a host is made of.
type Config struct {
	Node changefeed.NodeID
	// Legacy says that the cluster's feature level is that of an upgrade from a version without epochs.
	Legacy bool

	Records   Records
	Sender    Sender
	Session   Session
	Opener    Opener
	Evictions Evictions
	Logger    *zap.Logger
	Metrics   *Metrics
	// Rejected, if there is one, is told what the fences refuse. It must not block.
	Rejected func(Rejection)
	// Traced, if there is one, is told of first writes.
	Traced trace.Recorder
}

// Rejection is a command that a fence refused.
type Rejection struct {
	ID      changefeed.ID
	UID     changefeed.UID
	From    changefeed.NodeID
	Rule    string // as in F9
	Command string
	Offered fence.Epoch
	Held    fence.Epoch
}

func (c *Config) validate() error {
	var missing []error
	require := func(present bool, what string) {
		if !present {
			missing = append(missing, errors.New("dispatcher: no "+what))
		}
	}
	require(c.Node != "", "node id")
	require(c.Records != nil, "records")
	require(c.Sender != nil, "sender")
	require(c.Session != nil, "session")
	require(c.Opener != nil, "opener")
	require(c.Evictions != nil, "evictions")
	require(c.Logger != nil, "logger")
	require(c.Metrics != nil, "metrics")
	return errors.Join(missing...)
}

// mailboxesMax bounds the changefeeds that a host deals with at a time. It is far above what a cluster has; it holds
// when a broken peer sends messages for changefeeds that do not exist, each of which is forgotten after one read.
const mailboxesMax = 50_000

// Host runs the dispatchers of one node under one session. It is made anew, with a new node id, after a lost session.
// Its methods may be called by any goroutine and never block.
type Host struct {
	config Config
	start  time.Time
	ahead  readAhead

	mu        sync.Mutex // guards what follows
	mailboxes map[changefeed.ID]*mailbox
	records   map[changefeed.ID]record.Epoch // as watched: what a new mailbox is told first
	evictions map[changefeed.UID]Evicted     // of this node, as watched: likewise
	listed    bool
	legacy    bool // as in Config, until Upgraded
	closed    bool
	fresh     []*mailbox // made, and not read by anybody yet
	wake      chan struct{}
}

// New returns a host. It does nothing before [Host.Run], and admits nothing before [Host.Listed].
func New(config Config) (*Host, error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	return &Host{
		config:    config,
		start:     time.Now(),
		mailboxes: make(map[changefeed.ID]*mailbox),
		records:   make(map[changefeed.ID]record.Epoch),
		evictions: make(map[changefeed.UID]Evicted),
		wake:      make(chan struct{}, 1),
		legacy:    config.Legacy,
	}, nil
}

// now reads the host's clock. It is never 0, which means "never".
func (h *Host) now() changefeed.Time { return changefeed.Time(time.Since(h.start)) + 1 }

// Run reads the mailboxes until ctx ends, which its caller brings about when the session ends or the node leaves. It
// returns when no dispatcher has an effect any more and every source and sink is closed, or refuses to be.
func (h *Host) Run(ctx context.Context) error {
	var readers sync.WaitGroup
	for {
		for _, m := range h.takeFresh() {
			readers.Go(func() { m.run(ctx) })
		}
		select {
		case <-h.wake:
		case <-ctx.Done():
			h.close()
			readers.Wait()
			return nil
		}
	}
}

func (h *Host) takeFresh() []*mailbox {
	h.mu.Lock()
	defer h.mu.Unlock()
	fresh := h.fresh
	h.fresh = nil
	return fresh
}

func (h *Host) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed = true
}

// Deliver takes a message of a maintainer in. It is dropped, and counted, if its changefeed's mailbox is full.
func (h *Host) Deliver(envelope message.Envelope) {
	h.mu.Lock()
	defer h.mu.Unlock()
	m := h.mailbox(envelope.ID)
	if m == nil || !m.offer(envelope) {
		h.config.Metrics.dropped.Inc()
	}
}

// Listed takes in all epoch records as they were at one revision, at or after the creation of the node's own record.
// The first listing opens the host; a later one, after a watch was lost, tells what has changed.
func (h *Host) Listed(records map[changefeed.ID]record.Epoch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for id, last := range h.records {
		if _, found := records[id]; !found {
			h.forgetRecord(id, last)
		}
	}
	for id, found := range records {
		h.observe(id, found)
	}
	if h.listed {
		return
	}
	h.listed = true
	for _, m := range h.mailboxes {
		m.push(Listed{})
	}
}

// Upgraded takes in that the cluster's feature level is above that of an upgrade from a version without epochs.
func (h *Host) Upgraded() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !h.legacy {
		return
	}
	h.legacy = false
	for _, m := range h.mailboxes {
		m.push(Upgraded{})
	}
}

// Observed takes in an epoch record as it was watched.
func (h *Host) Observed(id changefeed.ID, watched record.Epoch) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.observe(id, watched)
}

func (h *Host) observe(id changefeed.ID, watched record.Epoch) {
	before := h.records[id].UID
	h.records[id] = watched
	if m := h.mailboxes[id]; m != nil {
		m.push(Observed{Record: watched})
	}
	if eviction, found := h.evictions[watched.UID]; found && before != watched.UID { // it was seen before the record
		h.evict(id, eviction)
	}
}

// Deleted takes in that an epoch record is gone.
func (h *Host) Deleted(id changefeed.ID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if last, found := h.records[id]; found {
		h.forgetRecord(id, last)
	}
}

func (h *Host) forgetRecord(id changefeed.ID, last record.Epoch) {
	delete(h.records, id)
	if m := h.mailboxes[id]; m != nil {
		m.push(RecordDeleted{Record: last})
	}
}

// Evicted takes in an eviction of this node as it was listed or watched. The changefeed is known by its epoch record,
// which may be watched later.
func (h *Host) Evicted(uid changefeed.UID, eviction record.Eviction) {
	h.mu.Lock()
	defer h.mu.Unlock()
	input := Evicted{
		UID: uid, Token: fence.Mint(eviction.Epoch, eviction.Seq), Acknowledged: eviction.AcknowledgedAt != nil,
	}
	h.evictions[uid] = input
	for id, known := range h.records { // at most one
		if known.UID == uid {
			h.evict(id, input)
		}
	}
}

// EvictionDeleted takes in that the eviction is gone. What it voided stays void.
func (h *Host) EvictionDeleted(uid changefeed.UID) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.evictions, uid)
}

func (h *Host) evict(id changefeed.ID, input Evicted) {
	if m := h.mailboxes[id]; m != nil {
		m.push(input)
		return
	}
	h.mailbox(id) // is told when it is made
}

// Dispatchers returns how many dispatchers have not ended.
func (h *Host) Dispatchers() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	n := 0
	for _, m := range h.mailboxes {
		n += int(m.running.Load())
	}
	return n
}

// mailbox returns the changefeed's mailbox, made on demand; nil if there can be none.
func (h *Host) mailbox(id changefeed.ID) *mailbox {
	if m := h.mailboxes[id]; m != nil {
		return m
	}
	if h.closed || len(h.mailboxes) >= mailboxesMax {
		return nil
	}
	m := newMailbox(h, id)
	if known, found := h.records[id]; found {
		m.push(Observed{Record: known})
		if eviction, evicted := h.evictions[known.UID]; evicted {
			m.push(eviction)
		}
	}
	if h.listed {
		m.push(Listed{})
	}
	h.mailboxes[id] = m
	h.fresh = append(h.fresh, m)
	select {
	case h.wake <- struct{}{}:
	default:
	}
	return m
}

// forget takes a mailbox out whose core holds nothing, unless something came in meanwhile.
func (h *Host) forget(m *mailbox) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if !m.empty() {
		return false
	}
	delete(h.mailboxes, m.id)
	h.config.Metrics.dispatchers.DeleteLabelValues(m.id.Namespace, m.id.Name)
	return true
}
