package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"fencerow/api/shape"
	"fencerow/changefeed"
)

const (
	// verifySilence is how long a comparison may say nothing; it does so every few seconds.
	verifySilence = time.Minute
	// eventBytesMax bounds one event: a report names at most 10,000 differences.
	eventBytesMax = 64 << 20
)

// Verify compares a changefeed's target with its source, and returns when that is done, however long it takes. tell is told how
// far it is.
func (c *Client) Verify(ctx context.Context, id changefeed.ID, rowsPerSecond, limit int, tell func(shape.VerifyProgress)) (Answer[shape.Verified], error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	query := url.Values{"rate": {strconv.Itoa(rowsPerSecond)}, "limit": {strconv.Itoa(limit)}}
	request, err := c.request(ctx, call{method: http.MethodGet, path: feed(id, "verify"), query: query})
	if err != nil {
		return Answer[shape.Verified]{}, err
	}
	request.Header.Set("Accept", "text/event-stream")
	first := time.AfterFunc(c.timeout, func() { cancel(context.DeadlineExceeded) })
	defer first.Stop()
	response, err := c.http.Do(request)
	if err != nil {
		return Answer[shape.Verified]{}, c.cut(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	first.Stop()
	silence := time.AfterFunc(verifySilence, func() { cancel(ErrUnreachable) })
	defer silence.Stop()
	if response.StatusCode != http.StatusOK {
		data, err := io.ReadAll(io.LimitReader(response.Body, answerBytesMax))
		if err != nil {
			return Answer[shape.Verified]{}, c.cut(ctx, err)
		}
		return Answer[shape.Verified]{}, problem(response.StatusCode, data)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, eventBytesMax)
	event := ""
	for lines.Scan() {
		silence.Reset(verifySilence)
		if name, found := bytes.CutPrefix(lines.Bytes(), []byte("event: ")); found {
			event = string(name)
		}
		data, found := bytes.CutPrefix(lines.Bytes(), []byte("data: "))
		if !found {
			continue
		}
		out, done, err := verified(event, data, tell)
		if done || err != nil {
			return out, err
		}
	}
	return Answer[shape.Verified]{}, c.cut(ctx, errors.Join(io.ErrUnexpectedEOF, lines.Err()))
}

// cut says why a comparison came to no end.
func (c *Client) cut(ctx context.Context, err error) error {
	switch cause := context.Cause(ctx); {
	case errors.Is(cause, context.DeadlineExceeded):
		return fmt.Errorf("no answer from %s within %v: %w", c.base, c.timeout, cause)
	case errors.Is(cause, ErrUnreachable):
		return c.failure(context.WithoutCancel(ctx), err)
	default:
		return c.failure(ctx, err)
	}
}

// verified reads one event.
func verified(event string, data []byte, tell func(shape.VerifyProgress)) (out Answer[shape.Verified], done bool, err error) {
	switch event {
	case "report":
		out.Raw = bytes.Clone(data)
		err = json.Unmarshal(data, &out.Value)
	case "problem":
		failed := &Error{}
		if err := json.Unmarshal(data, &failed.Problem); err != nil {
			return out, false, err
		}
		return out, false, failed
	case "progress":
		var progress shape.VerifyProgress
		if err := json.Unmarshal(data, &progress); err != nil {
			return out, false, err
		}
		tell(progress)
	case "difference":
		progress := shape.VerifyProgress{Difference: &shape.Difference{}}
		if err := json.Unmarshal(data, progress.Difference); err != nil {
			return out, false, err
		}
		tell(progress)
	}
	return out, event == "report", err
}
