package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"golang.org/x/time/rate"
)

const (
	liveChanges   = 100_000
	latencyPuts   = 5_000
	latencyRate   = 500
	memoryChanges = 1_000_000
)

// liveCPU writes 100,000 changes while both sides watch, one after another, and counts the processor time of each.
func liveCPU(ctx context.Context, b *bench) (result, error) {
	source, err := b.startEtcd(ctx)
	if err != nil {
		return result{}, err
	}
	defer source.stop()
	n, err := b.startNode(ctx)
	if err != nil {
		return result{}, err
	}
	defer n.stop()
	return b.interleave(
		func() (float64, error) {
			b.count++
			name := fmt.Sprintf("live%d", b.count)
			if err := n.create(ctx, name, "etcd://"+source.endpoint+from, "blackhole:", "now"); err != nil {
				return 0, err
			}
			if err := n.running(ctx, name); err != nil {
				return 0, err
			}
			used, err := n.during(func() error {
				_, last, err := source.single(ctx, liveChanges)
				if err != nil {
					return err
				}
				return n.reached(ctx, name, last)
			})
			return used, errors.Join(err, n.remove(ctx, name))
		},
		func() (float64, error) {
			got, err := source.client.Get(ctx, "ready")
			if err != nil {
				return 0, err
			}
			p, err := b.child("watch", source.endpoint, from, fmt.Sprint(got.Header.Revision+1), fmt.Sprint(got.Header.Revision+liveChanges))
			if err != nil {
				return 0, err
			}
			defer p.stop()
			if _, _, err := source.single(ctx, liveChanges); err != nil {
				return 0, err
			}
			select {
			case <-p.Exited:
				used := p.Cmd.ProcessState.UserTime() + p.Cmd.ProcessState.SystemTime()
				return used.Seconds(), nil
			case <-ctx.Done():
				return 0, ctx.Err()
			}
		})
}

// during returns the processor time that the process used while work ran.
func (p *process) during(work func() error) (float64, error) {
	before, err := p.cpu()
	if err != nil {
		return 0, err
	}
	if err := work(); err != nil {
		return 0, err
	}
	after, err := p.cpu()
	return after - before, err
}

// latency puts at a steady rate and takes the time until a watch on the target sees each.
func latency(ctx context.Context, b *bench) (result, error) {
	return b.pair(ctx, func(source, target *etcd, n *node) (result, error) {
		return b.interleave(
			func() (float64, error) {
				end, err := b.feed(ctx, n, source, target, "now")
				if err != nil {
					return 0, err
				}
				took, err := seen(ctx, source, target)
				return took, errors.Join(err, end(), target.clear(ctx, to))
			},
			func() (float64, error) {
				p, err := b.child("relay", source.endpoint, target.endpoint)
				if err != nil {
					return 0, err
				}
				took, err := seen(ctx, source, target)
				p.stop()
				return took, errors.Join(err, target.clear(ctx, to))
			})
	})
}

// seen returns the median milliseconds from a put at the source to its event at the target.
func seen(ctx context.Context, source, target *etcd) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, waitMax)
	defer cancel()
	watch := target.client.Watch(ctx, to, clientv3.WithPrefix())
	// The copy is running once one change came through.
	err := until(ctx, "the copy runs", func(ctx context.Context) error {
		if _, err := source.client.Put(ctx, from+"begin", "begin"); err != nil {
			return err
		}
		got, err := target.client.Get(ctx, to+"begin", clientv3.WithCountOnly())
		if err == nil && got.Count == 0 {
			err = errors.New("nothing came through")
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	failed := make(chan error, 1)
	go func() {
		pace := rate.NewLimiter(latencyRate, 1)
		for i := range latencyPuts {
			if err := pace.Wait(ctx); err != nil {
				failed <- err
				return
			}
			stamp := fmt.Sprintf("%0*d", valueBytes, time.Now().UnixNano())
			if _, err := source.client.Put(ctx, key(from, i), stamp); err != nil {
				failed <- err
				return
			}
		}
	}()
	samples := make([]float64, 0, latencyPuts)
	for len(samples) < latencyPuts {
		select {
		case err := <-failed:
			return 0, err
		case response, ok := <-watch:
			if !ok || response.Err() != nil {
				return 0, fmt.Errorf("watch on the target: %w", errors.Join(response.Err(), context.Cause(ctx)))
			}
			now := time.Now().UnixNano()
			for _, event := range response.Events {
				var sent int64
				if _, err := fmt.Sscanf(string(event.Kv.Value), "%d", &sent); err == nil && len(event.Kv.Value) == valueBytes {
					samples = append(samples, float64(now-sent)/float64(time.Millisecond))
				}
			}
		}
	}
	return median(samples), nil
}

// memory lets a node work off 1,000,000 changes into a target behind a slow line, and takes its peak resident memory.
func memory(ctx context.Context, b *bench) (result, error) {
	return b.pair(ctx, func(source, target *etcd, n *node) (result, error) {
		first, _, err := source.single(ctx, memoryChanges)
		if err != nil {
			return result{}, err
		}
		slow, err := slowLine(ctx, target.endpoint)
		if err != nil {
			return result{}, err
		}
		if err := n.create(ctx, "memory", "etcd://"+source.endpoint+from, "etcd://"+slow+to, fmt.Sprint(first)); err != nil {
			return result{}, err
		}
		// Enough of the backlog passes the slow line to fill whatever holds what was read ahead.
		if err := n.reached(ctx, "memory", first+memoryChanges/50); err != nil {
			return result{}, err
		}
		peak, err := n.resident()
		return result{ours: []float64{peak}}, err
	})
}

// slowLineBytes is what the slow line lets through towards the target in a second.
const slowLineBytes = 512 * 1024

// slowLine listens and relays to an address, slowly towards it, until ctx ends.
func slowLine(ctx context.Context, address string) (string, error) {
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { _ = listener.Close() })
	go func() {
		for {
			near, err := listener.Accept()
			if err != nil {
				return
			}
			far, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
			if err != nil {
				_ = near.Close()
				continue
			}
			go relayBytes(ctx, far, near, rate.NewLimiter(slowLineBytes, slowLineBytes))
			go relayBytes(ctx, near, far, rate.NewLimiter(rate.Inf, slowLineBytes))
		}
	}()
	return (&url.URL{Host: listener.Addr().String()}).Host, nil
}

func relayBytes(ctx context.Context, to, from net.Conn, pace *rate.Limiter) {
	defer func() { _, _ = to.Close(), from.Close() }()
	buffer := make([]byte, 16*1024)
	for {
		n, err := from.Read(buffer)
		if n > 0 {
			if pace.WaitN(ctx, n) != nil {
				return
			}
			if _, err := to.Write(buffer[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
