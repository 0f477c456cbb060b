// Package peerpb is generated from peer.proto: the frames that nodes exchange. Only package peer uses it; what the
// messages mean is said in package message.
package peerpb
