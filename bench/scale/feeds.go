package main

import (
	"fmt"
	"strings"
	"time"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/record"
)

// The full size.
const (
	nodesMax = 100
	feedsMax = 10_000
	spansMax = 1_000_000

	uriBytes = 100
	keyBytes = 24
)

// begin is where everything starts that has not run yet.
const begin = change.Position(1000)

func nodeName(i int) string { return fmt.Sprintf("node-%03d", i) }

// nodeRecord is a node as it is registered. Its id is a UUID in shape and length.
func nodeRecord(i int) record.Node {
	return record.Node{
		ID: changefeed.NodeID(fmt.Sprintf("%08d-7d0c-4f2a-9d51-000000000000", i)), Name: nodeName(i),
		HTTP: fmt.Sprintf("http://10.0.0.%d:8300", i), Peer: fmt.Sprintf("10.0.0.%d:8301", i), Version: "bench",
		Level: record.LevelCurrent, Started: time.Unix(1_800_000_000, 0).UTC(), Liveness: record.Alive,
	}
}

func feedID(i int) changefeed.ID {
	return changefeed.ID{Namespace: changefeed.DefaultNamespace, Name: fmt.Sprintf("feed-%06d", i)}
}

// specOf is a changefeed with URIs of uriBytes.
func specOf(id changefeed.ID) record.Spec {
	start := begin
	return record.Spec{
		UID: changefeed.UID("00000000-0000-4000-8000-" + strings.TrimPrefix(id.Name, "feed-") + "000000"), Namespace: id.Namespace, Name: id.Name,
		Source: uri("etcd://10.1.0.1:2379,10.1.0.2:2379/orders/"), Sink: uri("etcd://10.2.0.1:2379,10.2.0.2:2379/copy/"),
		Start: record.StartNow, StartPosition: &start, Options: changefeed.Options{}, Desired: changefeed.DesiredRunning,
		Created: time.Unix(1_800_000_000, 0).UTC(), Updated: time.Unix(1_800_000_000, 0).UTC(),
	}
}

func uri(prefix string) string {
	return prefix + strings.Repeat("x", uriBytes-len(prefix))
}

// spanOf is the i-th of n spans that make up the whole key space, with borders of keyBytes.
func spanOf(i, n int) changefeed.Span {
	var span changefeed.Span
	if i > 0 {
		span.Start = border(i)
	}
	if i < n-1 {
		span.End = border(i + 1)
	}
	return span
}

func border(i int) []byte { return fmt.Appendf(nil, "%0*d", keyBytes, i) }
