package main

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"syscall"

	"fencerow/api/client"
	"fencerow/changefeed"
)

// Exit codes.
const (
	exitDone        = 0
	exitFailed      = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitConflict    = 4
	exitTimeout     = 5
)

// usageError is a command line that can't be understood.
type usageError struct{ error }

func (u usageError) Unwrap() error { return u.error }

// exitCode returns the code for how a command ended.
func exitCode(err error) int {
	var usage usageError
	var answered *client.Error
	var fault *changefeed.Fault
	switch {
	case err == nil:
		return exitDone
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &answered):
		return exitOfStatus(answered.Status)
	case errors.Is(err, client.ErrUnreachable), errors.Is(err, syscall.EADDRINUSE):
		return exitUnreachable
	case errors.Is(err, client.ErrFailed):
		return exitFailed
	case errors.As(err, &fault):
		return exitOfCode(fault.Code)
	case errors.Is(err, context.DeadlineExceeded):
		return exitTimeout
	default:
		return exitFailed
	}
}

func exitOfStatus(status int) int {
	switch status {
	case http.StatusBadRequest, http.StatusRequestEntityTooLarge, http.StatusUnprocessableEntity, http.StatusPreconditionRequired,
		http.StatusMethodNotAllowed:
		return exitUsage
	case http.StatusServiceUnavailable, http.StatusBadGateway:
		return exitUnreachable
	case http.StatusNotFound, http.StatusConflict, http.StatusPreconditionFailed:
		return exitConflict
	case http.StatusRequestTimeout, http.StatusGatewayTimeout:
		return exitTimeout
	default:
		return exitFailed
	}
}

func exitOfCode(code changefeed.Code) int {
	switch code {
	case changefeed.CodeRequestInvalid, changefeed.CodeSinkLoop:
		return exitUsage
	case changefeed.CodeEtcdUnreachable, changefeed.CodeSourceUnreachable, changefeed.CodeSinkUnreachable:
		return exitUnreachable
	case changefeed.CodeNotFound, changefeed.CodeExists, changefeed.CodeNameTaken, changefeed.CodeSpecConflict, changefeed.CodeNodeNotFound,
		changefeed.CodeSinkInUse:
		return exitConflict
	case changefeed.CodeTimeout:
		return exitTimeout
	default:
		return exitFailed
	}
}

// oneLine returns the error as one line.
func oneLine(err error) string {
	var parts []string
	for line := range strings.Lines(err.Error()) {
		if line = strings.TrimSpace(line); line != "" {
			parts = append(parts, line)
		}
	}
	return strings.Join(parts, "; ")
}
