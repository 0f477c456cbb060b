//go:build !failpoints

package failpoint

import "context"

// On says that this build has failpoints. Every use stands behind it.
const On = false

// Hold returns ctx.
func Hold(ctx context.Context, _ string, _ func() string) context.Context { return ctx }

// Trace does nothing.
func Trace(string, any) {}

// Number returns 0.
func Number() uint64 { return 0 }
