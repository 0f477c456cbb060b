package peer

import (
	"fmt"

	"google.golang.org/protobuf/proto"

	"fencerow/changefeed"
	"fencerow/message"
	"fencerow/peer/peerpb"
)

// Marshal returns an envelope as it travels in a frame. Sender and receiver are the stream's, and not among the bytes.
func Marshal(envelope message.Envelope) ([]byte, error) {
	encoded, err := encode(envelope)
	if err != nil {
		return nil, err
	}
	bytes, err := proto.Marshal(encoded)
	if err != nil {
		return nil, fmt.Errorf("peer: marshal: %w", err)
	}
	return bytes, nil
}

// Unmarshal reads an envelope that came from a node to another.
func Unmarshal(bytes []byte, from, to changefeed.NodeID) (message.Envelope, error) {
	var encoded peerpb.Envelope
	if err := proto.Unmarshal(bytes, &encoded); err != nil {
		return message.Envelope{}, fmt.Errorf("%w: %w", errInvalid, err)
	}
	return decode(&encoded, from, to)
}
