package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"

	"fencerow/api/shape"
	"fencerow/changefeed"
)

// What applying a manifest did, or would do.
const (
	Created   = "created"
	Updated   = "updated"
	Unchanged = "unchanged"
)

// Difference is a field that a manifest changes. Passwords read xxxxx on both sides.
type Difference struct {
	Field string `json:"field"`
	From  string `json:"from,omitempty"`
	To    string `json:"to,omitempty"`
}

// Applied is what became of one manifest.
type Applied struct {
	Action      string          `json:"action"`
	Namespace   string          `json:"namespace"`
	Name        string          `json:"name"`
	Differences []Difference    `json:"differences,omitempty"`
	Changefeed  json.RawMessage `json:"changefeed,omitempty"`
}

// Apply creates what does not exist and updates what does; what is as described stays untouched.
func (c *Client) Apply(ctx context.Context, manifest shape.Create) (Applied, error) {
	return c.apply(ctx, manifest, writes{create: c.Create, update: c.Update})
}

// TryApply says what Apply would do, and changes nothing.
func (c *Client) TryApply(ctx context.Context, manifest shape.Create) (Applied, error) {
	return c.apply(ctx, manifest, writes{create: c.TryCreate, update: c.TryUpdate})
}

type writes struct {
	create func(context.Context, shape.Create) (Answer[shape.Changefeed], error)
	update func(context.Context, changefeed.ID, string, shape.Create) (Answer[shape.Changefeed], error)
}

func (c *Client) apply(ctx context.Context, manifest shape.Create, write writes) (Applied, error) {
	id := changefeed.ID{Namespace: manifest.Namespace, Name: manifest.Name}
	out := Applied{Namespace: id.Namespace, Name: id.Name}
	before, err := c.Changefeed(ctx, id)
	var answered *Error
	var after Answer[shape.Changefeed]
	switch {
	case err == nil:
		out.Action = Unchanged
		after, err = write.update(ctx, id, before.Value.Revision, manifest)
	case errors.As(err, &answered) && answered.Status == http.StatusNotFound:
		out.Action = Created
		after, err = write.create(ctx, manifest)
	}
	if err != nil {
		return out, fmt.Errorf("apply %s: %w", id, err)
	}
	out.Changefeed = after.Raw
	out.Differences = differences(&before.Value, &after.Value)
	if out.Action == Unchanged && (len(out.Differences) > 0 || before.Value.Revision != after.Value.Revision) {
		out.Action = Updated
	}
	return out, nil
}

// differences lists what users said, field by field.
func differences(before, after *shape.Changefeed) []Difference {
	var out []Difference
	compare := func(field, from, to string) {
		if from != to {
			out = append(out, Difference{Field: field, From: from, To: to})
		}
	}
	compare("source", before.Source, after.Source)
	compare("sink", before.Sink, after.Sink)
	compare("start", before.Start, after.Start)
	names := maps.Clone(before.Options)
	if names == nil {
		names = changefeed.Options{}
	}
	maps.Copy(names, after.Options)
	for _, name := range slices.Sorted(maps.Keys(names)) {
		compare("options."+name, before.Options[name], after.Options[name])
	}
	return out
}
