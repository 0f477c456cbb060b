package dispatcher

import (
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/message"
)

// deliver decides on a message. One that is not for this host and changefeed is not even refused: it is a mistake of
// the transport, and its sender is not known to be who it says.
func (c *Core) deliver(now changefeed.Time, envelope message.Envelope) {
	if envelope.ID != c.config.ID || envelope.To != c.config.Node || envelope.Body == nil || !envelope.Body.Kind().Down() {
		return
	}
	if c.leaves {
		return
	}
	if !c.listed { // fence:F12
		c.refuse(&envelope, fence.RefusedUnconfirmed)
		return
	}
	if body, ok := envelope.Body.(message.Bootstrap); ok {
		c.bootstrap(now, envelope, body)
		return
	}
	if err := c.gate.Admit(envelope.Claimant()); err != nil {
		if _, isClose := envelope.Body.(message.Close); !isClose || !c.closedFor(envelope.Claimant()) {
			c.refuse(&envelope, err)
			return
		}
	}
	switch body := envelope.Body.(type) {
	case message.Place:
		c.place(now, &envelope, body)
	case message.Stop:
		c.stop(now, body)
	case message.Close:
		c.close(now, &envelope, body)
	case message.ListStatuses:
		c.list(now, body)
	case message.Barrier:
		c.barrier(&envelope, body)
	}
}

// list tells of everything that runs, or of one dispatcher where its traffic is halved.
func (c *Core) list(now changefeed.Time, body message.ListStatuses) {
	if body.Halve.IsZero() {
		c.send(message.Statuses{Full: true, Statuses: c.statuses(now)})
		return
	}
	if d := c.live[body.Halve]; d != nil {
		status := c.status(now, d)
		status.Half = d.progress.Half
		c.send(message.Statuses{Statuses: []message.Status{status}})
	}
}

// closedFor reports whether the claimant closed and removed what is held: its repeated Close is answered again.
func (c *Core) closedFor(claimant fence.Claimant) bool {
	return c.closer != nil && c.closer.claimant == claimant
}

// bootstrap decides on a Bootstrap, the one message that may raise the held epoch, if the records say so too.
func (c *Core) bootstrap(now changefeed.Time, envelope message.Envelope, body message.Bootstrap) {
	verdict, err := c.gate.AdmitBootstrap(envelope.Claimant())
	switch {
	case err != nil:
		c.refuse(&envelope, err)
	case verdict == fence.BootstrapUnconfirmed:
		c.ask(envelope)
	case verdict == fence.BootstrapAdmitted:
		c.adopt(now, &envelope, body)
	}
}

// ask has the records read. While a read is under way only the newest other Bootstrap is kept: an answer that was
// asked for earlier may be too old for it.
func (c *Core) ask(envelope message.Envelope) {
	if c.asking == nil {
		c.asked++
		c.asking = &ask{request: c.asked, envelope: envelope}
		c.effects = append(c.effects, ReadRecord{Request: c.asked})
		return
	}
	if c.asking.envelope.Claimant() == envelope.Claimant() {
		return // a repetition: the answer serves both
	}
	if c.next == nil || c.next.envelope.Epoch.OlderThan(envelope.Epoch) {
		c.next = &ask{envelope: envelope}
	}
}

// recordAnswer takes in what the records say about the Bootstrap that asks.
func (c *Core) recordAnswer(now changefeed.Time, answer RecordAnswer) {
	if c.asking == nil || c.asking.request != answer.Request {
		return
	}
	envelope := c.asking.envelope
	c.asking = nil
	if answer.Failed {
		return // nothing is known; the maintainer repeats its Bootstrap
	}
	offered := envelope.Claimant()
	body, _ := envelope.Body.(message.Bootstrap)   //nolint:errcheck // only a Bootstrap is asked about
	verdict, err := c.gate.AdmitBootstrap(offered) // the watch may have been faster
	if verdict == fence.BootstrapUnconfirmed {
		var recorded fence.Claimant
		if answer.Found {
			recorded = answer.Record.Claimant()
		}
		err = c.gate.Confirm(offered, recorded)
	}
	c.noticeRaise(now)
	if err != nil {
		c.refuse(&envelope, err)
		return
	}
	c.adopt(now, &envelope, body)
}

// retryAsk goes on with the Bootstraps that wait, when the gate may have learned about them.
func (c *Core) retryAsk(now changefeed.Time) {
	if c.asking != nil {
		verdict, err := c.gate.AdmitBootstrap(c.asking.envelope.Claimant())
		if verdict == fence.BootstrapUnconfirmed {
			return
		}
		envelope := c.asking.envelope
		c.asking = nil
		if err != nil {
			c.refuse(&envelope, err)
		} else if body, ok := envelope.Body.(message.Bootstrap); ok {
			c.adopt(now, &envelope, body)
		}
	}
	if c.asking == nil && c.next != nil {
		envelope := c.next.envelope
		c.next = nil
		if body, ok := envelope.Body.(message.Bootstrap); ok {
			c.bootstrap(now, envelope, body)
		}
	}
}

// adopt makes the sender of an admitted Bootstrap the owner of what runs, and tells it what that is.
func (c *Core) adopt(now changefeed.Time, envelope *message.Envelope, body message.Bootstrap) {
	if c.closer != nil { // a release is final for its epoch: a Bootstrap that was delayed opens nothing again
		c.refuse(envelope, fence.RefusedToken)
		return
	}
	sourceID := body.SourceID
	if sourceID == "" && c.terms != nil {
		sourceID = c.terms.sourceID
	}
	c.terms = &terms{spec: body.Spec, specRevision: body.SpecRevision, sourceID: sourceID}
	c.report.begin(now)
	c.send(message.BootstrapReply{Dispatchers: c.statuses(now)})
}

// close stops everything. Closed is sent when nothing runs any more, at once if nothing does.
func (c *Core) close(now changefeed.Time, envelope *message.Envelope, body message.Close) {
	c.closer = &closer{claimant: envelope.Claimant()}
	c.terms = nil
	for len(c.waiting.items) > 0 {
		c.drop(c.waiting.items[0])
	}
	for _, d := range c.holders.items {
		c.stopHolder(now, d, message.Stop{Token: d.token})
	}
	if body.Removed {
		c.gate.Remove()
	}
}

// answerClose tells who closed that nothing runs any more.
func (c *Core) answerClose() {
	if c.closer == nil || c.closer.answered || len(c.live) > 0 {
		return
	}
	c.closer.answered = true
	c.send(message.Closed{})
}

// refuse tells the sender that its command was refused, under the epoch that it offered, so that it knows its own.
func (c *Core) refuse(envelope *message.Envelope, err error) {
	refusal, ok := err.(fence.Refusal) //nolint:errorlint // a gate returns refusals unwrapped
	if !ok {
		refusal = fence.RefusedToken
	}
	kind := envelope.Body.Kind()
	var token fence.Token
	switch body := envelope.Body.(type) {
	case message.Place:
		token = body.Token(envelope.Epoch)
	case message.Stop:
		token = body.Token
	}
	c.effects = append(c.effects,
		Refused{
			Refusal: refusal, Command: kind, UID: envelope.UID, From: envelope.From, Offered: envelope.Epoch, Held: c.gate.Held().Epoch,
		},
		Send{Envelope: message.Envelope{
			ID: envelope.ID, UID: envelope.UID, Epoch: envelope.Epoch, From: c.config.Node, To: envelope.From,
			Body: message.Rejected{
				Offered: envelope.Epoch, Held: c.gate.Held().Epoch, Rule: refusal.Rule(), Command: kind, Token: token,
			},
		}})
	c.sayRemoved(envelope, refusal)
}

// sayRemoved tells a later owner of a uid that was removed here that nothing of it runs, and nothing will: the owner
// that closed it may have died before it could store so, and the one that follows asks every host.
func (c *Core) sayRemoved(envelope *message.Envelope, refusal fence.Refusal) {
	held := c.gate.Held()
	later := string(envelope.UID) == held.UID && held.Epoch.OlderThan(envelope.Epoch)
	if refusal != fence.RefusedUID || !c.gate.Removed() || !later || len(c.live) > 0 {
		return
	}
	c.effects = append(c.effects, Send{Envelope: message.Envelope{
		ID: envelope.ID, UID: envelope.UID, Epoch: envelope.Epoch, From: c.config.Node, To: envelope.From, Body: message.Closed{},
	}})
}

// send tells the owner that the gate holds.
func (c *Core) send(body message.Body) {
	held := c.gate.Held()
	if held.Owner == "" {
		return
	}
	c.effects = append(c.effects, Send{Envelope: message.Envelope{
		ID: c.config.ID, UID: changefeed.UID(held.UID), Epoch: held.Epoch,
		From: c.config.Node, To: changefeed.NodeID(held.Owner), Body: body,
	}})
}
