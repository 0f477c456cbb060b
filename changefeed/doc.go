// Package changefeed holds the words of the control plane: what a changefeed is called, the states it can be in, the
// spans of its key space and the arithmetic on sets of them, and the faults that people are shown. It is a leaf: it
// knows no record, no message and no I/O.
package changefeed
