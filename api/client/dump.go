package client

import (
	"context"
	"fmt"
	"io"
	"net/http"
)

// Dump writes the zip of records, metrics and goroutines to w.
func (c *Client) Dump(ctx context.Context, w io.Writer) error {
	data, err := c.raw(ctx, call{method: http.MethodGet, path: api("debug", "dump")})
	if err != nil {
		return err
	}
	if _, err := w.Write(data); err != nil {
		return fmt.Errorf("client: write the dump: %w", err)
	}
	return nil
}
