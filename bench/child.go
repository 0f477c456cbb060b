package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"

	clientv3 "go.etcd.io/etcd/client/v3"

	"fencerow/integration/proc"
)

// children are the baselines that run as processes of their own, started by this command.
var children = map[string]func(args []string) error{"watch": watchChild, "relay": relayChild} //nolint:gochecknoglobals // a table

func (b *bench) child(args ...string) (*process, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return b.start(self, args...)
}

// watchChild is one raw watch from a revision until it has seen another: endpoint, prefix, first, last.
func watchChild(args []string) error {
	client, err := proc.Dial(args[0])
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	first, err := strconv.ParseInt(args[2], 10, 64)
	if err != nil {
		return err
	}
	last, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil {
		return err
	}
	watch := client.Watch(context.Background(), args[1], clientv3.WithPrefix(), clientv3.WithRev(first))
	for response := range watch {
		if err := response.Err(); err != nil {
			return err
		}
		if n := len(response.Events); n > 0 && response.Events[n-1].Kv.ModRevision >= last {
			return nil
		}
	}
	return fmt.Errorf("the watch ended before revision %d", last)
}

// relayChild watches the source and puts each change into the target, one after another: source, target.
func relayChild(args []string) error {
	source, err := proc.Dial(args[0])
	if err != nil {
		return err
	}
	defer func() { _ = source.Close() }()
	target, err := proc.Dial(args[1])
	if err != nil {
		return err
	}
	defer func() { _ = target.Close() }()
	ctx := context.Background()
	got, err := source.Get(ctx, from, clientv3.WithCountOnly())
	if err != nil {
		return err
	}
	for response := range source.Watch(ctx, from, clientv3.WithPrefix(), clientv3.WithRev(got.Header.Revision+1)) {
		if err := response.Err(); err != nil {
			return err
		}
		for _, event := range response.Events {
			name := to + strings.TrimPrefix(string(event.Kv.Key), from)
			if event.Type == clientv3.EventTypeDelete {
				_, err = target.Delete(ctx, name)
			} else {
				_, err = target.Put(ctx, name, string(event.Kv.Value))
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}
