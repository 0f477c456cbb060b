// Package etcd is the source that follows a prefix of an etcd: positions are revisions, rows are key-value pairs.
//
// It speaks etcd's watch protocol itself instead of using the client library's watcher, for three reasons: that one
// buffers without bound for a slow reader, while an unread stream is held back by the connection's windows; a backlog is
// read through many watches whose progress must be known one by one; and an answer is decoded without a copy for every
// key and value. The package knows no sink and keeps nothing: whoever reads says where to begin.
package etcd
