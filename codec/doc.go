// Package codec is the message format `json`: one change or one resolved mark as one line. It appends to buffers that
// the caller owns, so that a sink can write hundreds of thousands of changes a second, and reads lines back strictly
// and within bounds, since a file that somebody edited must not be able to hurt a reader.
//
// Bytes that are valid UTF-8 are strings; others are {"base64":"…"}. Positions, revisions and leases, which may exceed
// what a JSON reader keeps of a number, are decimal strings. The package knows no file and no sink.
package codec
