package api

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"

	"fencerow/api/shape"
	"fencerow/changefeed"
	"fencerow/fence"
)

// problemType is where the codes are documented, relative to the server.
const problemType = "/api/v1/openapi.json#"

// refusal is a fault with a status of its own.
type refusal struct {
	status int
	fault  *changefeed.Fault
}

func (r *refusal) Error() string { return r.fault.Error() }
func (r *refusal) Unwrap() error { return r.fault }

func refuse(status int, fault *changefeed.Fault) error { return &refusal{status: status, fault: fault} }

// statuses are those of codes; the others are 500.
var statuses = map[changefeed.Code]int{ //nolint:gochecknoglobals // read only
	changefeed.CodeRequestInvalid:    http.StatusBadRequest,
	changefeed.CodeNotFound:          http.StatusNotFound,
	changefeed.CodeNodeNotFound:      http.StatusNotFound,
	changefeed.CodeExists:            http.StatusConflict,
	changefeed.CodeSpecConflict:      http.StatusConflict,
	changefeed.CodeNodeDraining:      http.StatusUnprocessableEntity,
	changefeed.CodeNameTaken:         http.StatusConflict,
	changefeed.CodeSinkInUse:         http.StatusConflict,
	changefeed.CodeSinkLoop:          http.StatusUnprocessableEntity,
	changefeed.CodeSinkRefused:       http.StatusUnprocessableEntity,
	changefeed.CodeRecordInvalid:     http.StatusUnprocessableEntity,
	changefeed.CodeSourceUnreachable: http.StatusServiceUnavailable,
	changefeed.CodeSinkUnreachable:   http.StatusServiceUnavailable,
	changefeed.CodeEtcdUnreachable:   http.StatusServiceUnavailable,
	changefeed.CodeAuthRequired:      http.StatusUnauthorized,
	changefeed.CodeAuthForbidden:     http.StatusForbidden,
	changefeed.CodeLimitExceeded:     http.StatusRequestEntityTooLarge,
	changefeed.CodeTimeout:           http.StatusGatewayTimeout,
}

// problemOf turns an error into what people are shown.
func problemOf(err error) shape.Problem {
	var fault *changefeed.Fault
	status := 0
	var own *refusal
	switch {
	case errors.As(err, &own):
		fault, status = own.fault, own.status
	case errors.As(err, &fault):
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		fault = &changefeed.Fault{
			Code: changefeed.CodeTimeout, Detail: "the records did not answer in time",
			Cure: "look at the node's /readyz, and try again",
		}
	case errors.Is(err, fence.ErrStale):
		fault = &changefeed.Fault{
			Code: changefeed.CodeSpecConflict, Detail: "somebody else changed it meanwhile",
			Cure: "read it again, and repeat the change",
		}
	default:
		fault = &changefeed.Fault{
			Code: changefeed.CodeEtcdUnreachable, Err: err, Detail: "the records can't be reached",
			Cure: "look at the node's /readyz and at etcd, and try again",
		}
	}
	if status == 0 {
		status = statuses[fault.Code]
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	return shape.Problem{
		Type: problemType + string(fault.Code), Title: http.StatusText(status), Status: status, Code: fault.Code,
		Detail: detailOf(fault), Field: fault.Field, Value: fault.Value, Cure: fault.Cure,
	}
}

func detailOf(fault *changefeed.Fault) string {
	parts := []string{}
	if fault.Detail != "" {
		parts = append(parts, fault.Detail)
	}
	if fault.Err != nil && !errors.Is(fault.Err, fence.ErrStale) { // that one is said by the detail already
		parts = append(parts, fault.Err.Error())
	}
	return strings.Join(parts, ": ")
}

func writeProblem(w http.ResponseWriter, err error) {
	problem := problemOf(err)
	w.Header().Set("Content-Type", "application/problem+json")
	if problem.Status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", `Bearer realm="cdc-node"`)
	}
	if problem.Status == http.StatusTooManyRequests {
		w.Header().Set("Retry-After", "1")
	}
	w.WriteHeader(problem.Status)
	_ = json.NewEncoder(w).Encode(problem) //nolint:errcheck // the caller is gone; nobody is left to tell
}

func writeJSON(w http.ResponseWriter, status int, value any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(value) //nolint:errcheck // the caller is gone; nobody is left to tell
}
