package main

import (
	"fencerow/changefeed"
	"fencerow/message"
	"fencerow/peer"
)

// frame is a message on its way: its bytes, and who it is from and for, which is the stream's to know.
type frame struct {
	bytes    []byte
	from, to changefeed.NodeID
	down     bool // to a dispatcher host
}

func pack(envelope message.Envelope) (frame, error) {
	bytes, err := peer.Marshal(envelope)
	return frame{bytes: bytes, from: envelope.From, to: envelope.To, down: envelope.Body.Kind().Down()}, err
}

func (f frame) unpack() (message.Envelope, error) { return peer.Unmarshal(f.bytes, f.from, f.to) }
