package client

import (
	"context"
	"maps"
	"net/http"
	"net/url"
	"strconv"

	"fencerow/api/shape"
	"fencerow/changefeed"
)

// Create creates a changefeed.
func (c *Client) Create(ctx context.Context, request shape.Create) (Answer[shape.Changefeed], error) {
	return c.create(ctx, request, nil)
}

// TryCreate says what Create would make, or why it would be refused.
func (c *Client) TryCreate(ctx context.Context, request shape.Create) (Answer[shape.Changefeed], error) {
	return c.create(ctx, request, dryRun())
}

func (c *Client) create(ctx context.Context, request shape.Create, query url.Values) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, call{method: http.MethodPost, path: api("changefeeds"), body: request, query: query})
}

// Update updates a changefeed that was read at the revision.
func (c *Client) Update(ctx context.Context, id changefeed.ID, revision string, request shape.Create) (Answer[shape.Changefeed], error) {
	return do[shape.Changefeed](ctx, c, updateCall(id, revision, request))
}

// TryUpdate says what Update would make, or why it would be refused.
func (c *Client) TryUpdate(ctx context.Context, id changefeed.ID, revision string, request shape.Create) (Answer[shape.Changefeed], error) {
	call := updateCall(id, revision, request)
	call.query = dryRun()
	return do[shape.Changefeed](ctx, c, call)
}

func updateCall(id changefeed.ID, revision string, request shape.Create) call {
	return call{
		method: http.MethodPut, path: feed(id), body: request,
		header: http.Header{"If-Match": {strconv.Quote(revision)}},
	}
}

func dryRun() url.Values { return url.Values{"dry_run": {"true"}} }

// Edit changes some of what a changefeed was created with. What is empty stays as it is.
type Edit struct {
	Source string
	Sink   string
	Set    changefeed.Options
	Unset  []string
}

// Change reads a changefeed and updates it. Somebody who changes it in between makes it fail, with code spec.conflict.
func (c *Client) Change(ctx context.Context, id changefeed.ID, edit Edit) (Answer[shape.Changefeed], error) {
	read, err := c.Changefeed(ctx, id)
	if err != nil {
		return read, err
	}
	request := shape.Create{Source: read.Value.Source, Sink: read.Value.Sink, Options: changefeed.Options{}}
	if edit.Source != "" {
		request.Source = edit.Source
	}
	if edit.Sink != "" {
		request.Sink = edit.Sink
	}
	maps.Copy(request.Options, read.Value.Options)
	for _, name := range edit.Unset {
		if _, found := request.Options[name]; !found {
			return read, invalid("--unset", name, "is no option of this changefeed that was set", "see its options with changefeed get")
		}
		delete(request.Options, name)
	}
	maps.Copy(request.Options, edit.Set)
	return c.Update(ctx, id, read.Value.Revision, request)
}
