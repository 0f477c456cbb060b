// Package change holds the words of the data plane: where a change stands in its source's order, what it is, and the
// batches it travels in. It is a leaf: it knows no source, no sink and no format.
package change
