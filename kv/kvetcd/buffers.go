package kvetcd

import (
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/mem"
)

// bufferExponents are the sizes of the buffers that gRPC encodes and receives messages in, as powers of two. By default
// there is none between 32 KiB and 1 MiB, so that a transaction of 40 KiB, as most of ours are, takes and clears a whole
// MiB.
var bufferExponents = []uint8{8, 12, 14, 15, 16, 17, 18, 19, 20} //nolint:gochecknoglobals // a constant list

// The pool belongs to the process, and may only be set before anything uses gRPC.
func init() { //nolint:gochecknoinits // gRPC has no other place for it
	if pool, err := mem.NewBinaryTieredBufferPool(bufferExponents...); err == nil {
		experimental.SetDefaultBufferPool(pool)
	}
}
