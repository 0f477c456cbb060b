package endpoint

import (
	"bytes"
	"fmt"
	"net"
	"slices"

	"fencerow/changefeed"
)

// Key ranges of an etcd that are not for users' data.
const (
	RecordsPrefix = "/cdc/"        // the records of clusters
	ClaimsPrefix  = "/cdc-claims/" // what etcd sinks keep beside their data
)

// PrefixSpan returns the span of the keys that begin with prefix; an empty one is the whole key space.
func PrefixSpan(prefix []byte) changefeed.Span {
	if len(prefix) == 0 {
		return changefeed.Whole()
	}
	end := slices.Clone(prefix)
	for i := len(end) - 1; i >= 0; i-- {
		if end[i] < 0xff {
			end[i]++
			return changefeed.Span{Start: prefix, End: end[:i+1]}
		}
	}
	return changefeed.Span{Start: prefix}
}

// Store is one etcd as far as it is known: its cluster id, once somebody asked it, and where it is reached.
type Store struct {
	ClusterID string // empty: not known yet
	Hosts     []string
}

// Same reports whether two stores are the same etcd: by cluster id where both are known, else by a host in common.
func (s Store) Same(other Store) bool {
	if s.ClusterID != "" && other.ClusterID != "" {
		return s.ClusterID == other.ClusterID
	}
	for _, host := range s.Hosts {
		if slices.ContainsFunc(other.Hosts, func(o string) bool { return place(o) == place(host) }) {
			return true
		}
	}
	return false
}

// place makes the names of the local machine one.
func place(hostport string) string {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return hostport
	}
	if ip := net.ParseIP(host); host == "localhost" || (ip != nil && ip.IsLoopback()) {
		host = "loopback"
	}
	return net.JoinHostPort(host, port)
}

// CheckSource refuses an etcd source that lies among the records of the cluster that runs it: its own checkpoints
// would be its changes.
func CheckSource(source URI, store, control Store) error {
	if source.Scheme != Etcd || !store.Same(control) || !PrefixSpan([]byte(RecordsPrefix)).Encloses(source.Span()) {
		return nil
	}
	return loopFault("source", source, "lies among the records of this cluster", "choose a prefix outside "+RecordsPrefix)
}

// CheckSink refuses an etcd sink that lies in a range that clusters keep for themselves, in any etcd, and one that
// encloses the records of the cluster that runs it.
func CheckSink(sink URI, store, control Store) error {
	if sink.Scheme != Etcd {
		return nil
	}
	cure := "choose a prefix outside " + RecordsPrefix + " and " + ClaimsPrefix
	for _, reserved := range []string{RecordsPrefix, ClaimsPrefix} {
		if PrefixSpan([]byte(reserved)).Encloses(sink.Span()) {
			return loopFault("sink", sink, "lies in "+reserved+", which clusters keep for themselves", cure)
		}
	}
	if store.Same(control) && sink.Span().Encloses(PrefixSpan([]byte(RecordsPrefix))) {
		return loopFault("sink", sink, "would write over the records of this cluster", cure)
	}
	return nil
}

// CheckLoop refuses a sink that writes into its own source, be it data or claims: an etcd, or a database of a PostgreSQL.
func CheckLoop(source, sink URI, sourceStore, sinkStore Store) error {
	if source.Scheme == Postgres && sink.Scheme == Postgres && bytes.Equal(source.Path, sink.Path) && sourceStore.Same(sinkStore) {
		return loopFault("sink", sink, "is the database that the source reads", "choose another database")
	}
	if source.Scheme != Etcd || sink.Scheme != Etcd || !sourceStore.Same(sinkStore) {
		return nil
	}
	for _, written := range []changefeed.Span{sink.Span(), PrefixSpan([]byte(ClaimsPrefix))} {
		if source.Span().Overlaps(written) {
			return loopFault("sink", sink, fmt.Sprintf("writes to %v of the etcd that the source reads", written),
				"choose prefixes that don't overlap, or another etcd")
		}
	}
	return nil
}

func loopFault(field string, uri URI, detail, cure string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSinkLoop, Field: field, Value: uri.String(), Detail: detail, Cure: cure, Permanent: true,
	}
}
