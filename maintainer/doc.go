// Package maintainer runs changefeeds on the node that owns them. The host decides from the watched epoch records
// which maintainers run here (fences F6 to F8). A maintainer runs one changefeed at one epoch: it raises the floor in
// the sink, asks every node what runs, builds the cover, places what is missing, and stores the checkpoint.
//
// Both decide in pure cores (files core*.go): values in, values out. The drivers beside them do what the cores
// decided, over the small interfaces that this package declares. It knows no etcd, no transport and no other node's
// insides; records are the authority, and what hosts say is only ever believed for the placement that it names.
package maintainer
