package client

import (
	"context"
	"net/http"
	"time"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/record"
)

// Split asks for borders between spans at the keys.
func (c *Client) Split(ctx context.Context, id changefeed.ID, at []changefeed.Key) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{method: http.MethodPost, path: feed(id, "split"), body: shape.Split{At: at}})
}

// Merge asks for the two spans that meet at the key to be one.
func (c *Client) Merge(ctx context.Context, id changefeed.ID, at changefeed.Key) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{method: http.MethodPost, path: feed(id, "merge"), body: shape.Merge{At: at}})
}

// Move asks for the owner of a changefeed to be the node of that name or id.
func (c *Client) Move(ctx context.Context, id changefeed.ID, to string) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{method: http.MethodPost, path: feed(id, "move"), body: shape.Move{To: to}})
}

// Drain has a node emptied until Undrain.
func (c *Client) Drain(ctx context.Context, name string) (Answer[shape.Node], error) {
	return do[shape.Node](ctx, c, call{method: http.MethodPut, path: api("nodes", name, "drain")})
}

// Undrain lets a node be given work again. The answer has no name where no node of it lives.
func (c *Client) Undrain(ctx context.Context, name string) (Answer[shape.Node], error) {
	return do[shape.Node](ctx, c, call{method: http.MethodDelete, path: api("nodes", name, "drain")})
}

// SetLogLevel changes what the node that is asked logs.
func (c *Client) SetLogLevel(ctx context.Context, level string) (Answer[shape.LogLevel], error) {
	return do[shape.LogLevel](ctx, c, call{method: http.MethodPut, path: api("log-level"), body: shape.LogLevel{Level: level}})
}

// Check says what is inconsistent, and what to do.
func (c *Client) Check(ctx context.Context) (Answer[shape.List[shape.Finding]], error) {
	return do[shape.List[shape.Finding]](ctx, c, call{method: http.MethodGet, path: api("check")})
}

// AwaitDrained waits until the node of that name runs nothing any more, or is gone. It tells how things stand: the node, and
// how many others can take over.
func (c *Client) AwaitDrained(ctx context.Context, name string, tell func(node shape.Node, others int)) error {
	ticker := time.NewTicker(awaitEvery)
	defer ticker.Stop()
	for {
		answer, err := c.Nodes(ctx)
		if ctx.Err() != nil {
			return tooLong(ctx)
		}
		if err != nil && !transient(err) {
			return err
		}
		left, known := leftOn(answer.Value.Items, name, tell)
		if err == nil && known && left == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return tooLong(ctx)
		case <-ticker.C:
		}
	}
}

// leftOn counts what runs on the node of that name; a node that is gone runs nothing.
func leftOn(nodes []shape.Node, name string, tell func(shape.Node, int)) (left int, known bool) {
	for _, node := range nodes {
		if node.Name != name {
			continue
		}
		tell(node, othersThan(nodes, name))
		if node.Maintainers == nil || node.Dispatchers == nil {
			return 0, false
		}
		return *node.Maintainers + *node.Dispatchers, true
	}
	return 0, true
}

// othersThan counts the nodes that can be given work, beside the one of that name.
func othersThan(nodes []shape.Node, name string) int {
	others := 0
	for _, node := range nodes {
		if node.Name != name && node.Liveness == record.Alive {
			others++
		}
	}
	return others
}
