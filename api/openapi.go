package api

import (
	"encoding"
	"net/http"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"fencerow/api/shape"
	"fencerow/changefeed"
)

// operation documents one method of one path.
type operation struct {
	method, path, summary string
	request, response     any
	status                int
}

// operations documents every route under /api/v1; a test holds it to the routes.
func operations() []operation {
	const feed = "/changefeeds/{namespace}/{name}"
	one := shape.Changefeed{}
	return []operation{
		{"GET", "/cluster", "The cluster, its coordinator and its nodes.", nil, shape.Cluster{}, http.StatusOK},
		{"GET", "/nodes", "The live nodes, a page at a time: ?limit= (100, at most 1000), ?after= (the next of the page before).", nil, shape.List[shape.Node]{}, http.StatusOK},
		{"GET", "/local", "What this node runs.", nil, shape.Local{}, http.StatusOK},
		{
			"GET", "/local/progress", "How far the changefeeds are that this node owns: ?first= and ?last= are namespace/name.",
			nil,
			shape.List[shape.Progress]{},
			http.StatusOK,
		},
		{"GET", "/check", "What is inconsistent among records, nodes and sinks, and what to do.", nil, shape.List[shape.Finding]{}, http.StatusOK},
		{
			"GET", "/changefeeds", "The changefeeds, by name: ?namespace=, ?limit= (100, at most 1000), ?after= (the next of the page before).",
			nil,
			shape.List[shape.Changefeed]{},
			http.StatusOK,
		},
		{"POST", "/changefeeds", "Create a changefeed; with ?dry_run=true only say what would be (200).", shape.Create{}, one, http.StatusCreated},
		{"GET", feed, "One changefeed.", nil, one, http.StatusOK},
		{"PUT", feed, "Update a changefeed; If-Match is required. With ?dry_run=true only say what would be.", shape.Create{}, one, http.StatusOK},
		{
			"DELETE", feed, "Remove a changefeed. ?force=true deletes its records whoever owns it: until the owner notices it may still write.",
			nil, one, http.StatusAccepted,
		},
		{"POST", feed + "/pause", "Pause; what is paused already is 200.", nil, one, http.StatusAccepted},
		{"POST", feed + "/resume", "Resume, or try at once what failed.", nil, one, http.StatusAccepted},
		{"POST", feed + "/move", "Move the owner to another node; nothing is replayed.", shape.Move{}, one, http.StatusAccepted},
		{"POST", feed + "/split", "Split spans at keys, which are kept in the option split_keys.", shape.Split{}, one, http.StatusAccepted},
		{"POST", feed + "/merge", "Join the two spans that meet at a key.", shape.Merge{}, one, http.StatusAccepted},
		{"POST", feed + "/reset", "A paused changefeed with another start, and so with a new uid.", shape.Reset{}, one, http.StatusOK},
		{"POST", feed + "/skip", "Leave out one change that the sink refuses; it is recorded.", shape.Skip{}, one, http.StatusAccepted},
		{"PUT", "/nodes/{name}/drain", "Empty a node, until undrain, over its restarts.", nil, shape.Node{}, http.StatusAccepted},
		{"DELETE", "/nodes/{name}/drain", "Let a node be given work again; 204 where no node of that name lives.", nil, shape.Node{}, http.StatusOK},
		{"POST", feed + "/bump", "A new epoch now; with above, one above it, for all changefeeds from then on.", shape.Bump{}, one, http.StatusAccepted},
		{"GET", feed + "/spans", "The cover of the key space, in its order; pages as of the nodes.", nil, shape.List[shape.Span]{}, http.StatusOK},
		{"GET", feed + "/history", "The last ownerships, newest first; the current one has no until. Pages as of the nodes.", nil, shape.List[shape.Ownership]{}, http.StatusOK},
		{"GET", feed + "/head", "Where the source is now.", nil, shape.Head{}, http.StatusOK},
		{
			"GET", feed + "/verify",
			"Compare the target with the source while changes go on, for admins; server-sent events: progress, difference, and at the end report or " +
				"problem. ?rate= rows a second (20000), ?limit= of differences (100, at most 10000).",
			nil,
			shape.Verified{},
			http.StatusOK,
		},
		{"POST", "/coordinator/resign", "End the term of the coordinator.", nil, shape.Cluster{}, http.StatusAccepted},
		{"PUT", "/log-level", "What this node logs: debug, info, warn or error.", shape.LogLevel{}, shape.LogLevel{}, http.StatusOK},
		{"GET", "/debug/dump", "Redacted records, metrics and goroutines, as a zip; for admins.", nil, nil, http.StatusOK},
		{"GET", "/session", "What the caller may do; open to all.", nil, shape.Session{}, http.StatusOK},
		{"POST", "/session", "Log a browser in with a token: it gets a cookie for this node.", shape.Login{}, shape.Session{}, http.StatusOK},
		{"DELETE", "/session", "Log a browser out.", nil, nil, http.StatusNoContent},
		{"GET", "/events", "What happens, as it happens, as server-sent events: ownership, state, fence, node.", nil, shape.Event{}, http.StatusOK},
		{"GET", "/openapi.json", "This document.", nil, nil, http.StatusOK},
		{"GET", "/healthz", "Whether the loops turn; open to all.", nil, shape.Health{}, http.StatusOK},
		{"GET", "/readyz", "Whether the node has a live session and current watches, else 503 with the reason; open to all.", nil, shape.Health{}, http.StatusOK},
		{"GET", "/metrics", "Metrics, as Prometheus reads them.", nil, nil, http.StatusOK},
	}
}

// atRoot are the paths that are not under /api/v1: what looks there knows no versions.
var atRoot = []string{"/healthz", "/readyz", "/metrics"} //nolint:gochecknoglobals // read only

type object = map[string]any

func (s *Server) openapi(*http.Request) (reply, error) {
	return reply{status: http.StatusOK, body: openapiDocument(s.config.Version)}, nil
}

func openapiDocument(version string) object {
	schemas := object{}
	paths := map[string]object{}
	problem := object{"description": "What was refused or failed.", "content": object{
		"application/problem+json": object{"schema": schemaOf(reflect.TypeFor[shape.Problem](), schemas)},
	}}
	for _, op := range operations() {
		success := object{"description": http.StatusText(op.status)}
		switch {
		case op.path == "/events", strings.HasSuffix(op.path, "/verify"):
			success["content"] = object{"text/event-stream": object{"schema": schemaOf(reflect.TypeOf(op.response), schemas)}}
		case op.response != nil:
			success["content"] = jsonContent(op.response, schemas)
		}
		responses := object{strconv.Itoa(op.status): success, "default": problem}
		switch op.method + op.path {
		case "POST/changefeeds/{namespace}/{name}/pause", "POST/changefeeds/{namespace}/{name}/resume", "POST/changefeeds":
			responses["200"] = success // nothing is left to be done, or it was only tried
		case "DELETE/nodes/{name}/drain":
			responses["204"] = object{"description": "no node of that name lives"}
		}
		documented := object{"summary": op.summary, "operationId": operationID(op), "responses": responses}
		if slices.Contains(atRoot, op.path) {
			documented["servers"] = []object{{"url": "/"}}
		}
		if op.path == "/readyz" {
			responses["503"] = success
		}
		if op.request != nil {
			documented["requestBody"] = object{"required": op.path != "/changefeeds/{namespace}/{name}/bump", "content": jsonContent(op.request, schemas)}
		}
		if parameters := parametersOf(op); len(parameters) > 0 {
			documented["parameters"] = parameters
		}
		if paths[op.path] == nil {
			paths[op.path] = object{}
		}
		paths[op.path][strings.ToLower(op.method)] = documented
	}
	return object{
		"openapi": "3.1.0",
		"info":    object{"title": "Fencerow", "version": version, "description": "Clustered change data capture. Any node answers everything."},
		"servers": []object{{"url": "/api/v1"}},
		"paths":   paths,
		"components": object{"schemas": schemas, "securitySchemes": object{
			"token": object{"type": "http", "scheme": "bearer"},
		}},
		"security": []object{{"token": []string{}}, {}},
	}
}

func operationID(op operation) string {
	words := strings.FieldsFunc(op.path, func(r rune) bool { return strings.ContainsRune("/{}.-", r) })
	return strings.ToLower(op.method) + "_" + strings.Join(words, "_")
}

func parametersOf(op operation) []object {
	var out []object
	text := func(in, name string, required any) {
		out = append(out, object{"name": name, "in": in, "required": required, "schema": object{"type": "string"}})
	}
	for part := range strings.SplitSeq(op.path, "/") {
		if name, found := strings.CutPrefix(part, "{"); found {
			text("path", strings.TrimSuffix(name, "}"), true)
		}
	}
	paged := func() {
		out = append(out, object{"name": "limit", "in": "query", "required": false, "schema": object{
			"type": "integer", "minimum": 1, "maximum": listMax, "default": listDefault,
		}})
		text("query", "after", false)
	}
	switch op.method + op.path {
	case "GET/changefeeds":
		text("query", "namespace", false)
		paged()
	case "GET/nodes", "GET/changefeeds/{namespace}/{name}/spans", "GET/changefeeds/{namespace}/{name}/history":
		paged()
	case "GET/local/progress":
		text("query", "first", false)
		text("query", "last", false)
	case "POST/changefeeds":
		text("query", "dry_run", false)
	case "DELETE/changefeeds/{namespace}/{name}":
		text("query", "force", false)
	case "PUT/changefeeds/{namespace}/{name}":
		text("header", "If-Match", true)
		text("query", "dry_run", false)
	}
	return out
}

func jsonContent(value any, schemas object) object {
	return object{"application/json": object{"schema": schemaOf(reflect.TypeOf(value), schemas)}}
}

var (
	typeTime = reflect.TypeFor[time.Time]()              //nolint:gochecknoglobals // read only
	typeKey  = reflect.TypeFor[changefeed.Key]()         //nolint:gochecknoglobals // read only
	typeCode = reflect.TypeFor[changefeed.Code]()        //nolint:gochecknoglobals // read only
	typeText = reflect.TypeFor[encoding.TextMarshaler]() //nolint:gochecknoglobals // read only
)

// schemaOf describes a type; structs go to schemas under their names.
func schemaOf(t reflect.Type, schemas object) object {
	switch {
	case t.Kind() == reflect.Pointer:
		return schemaOf(t.Elem(), schemas)
	case t == typeTime:
		return object{"type": "string", "format": "date-time"}
	case t == typeKey:
		return object{"description": "text, or {\"base64\": …}", "oneOf": []object{{"type": "string"}, {
			"type": "object", "properties": object{"base64": object{"type": "string"}}, "required": []string{"base64"},
		}}}
	case t == typeCode:
		return object{"type": "string", "enum": changefeed.Codes()}
	case t.Implements(typeText):
		return object{"type": "string", "pattern": "^[0-9]+$"}
	}
	switch t.Kind() {
	case reflect.Struct:
		return structSchema(t, schemas)
	case reflect.Slice:
		return object{"type": "array", "items": schemaOf(t.Elem(), schemas)}
	case reflect.Map:
		return object{"type": "object", "additionalProperties": schemaOf(t.Elem(), schemas)}
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.Float64:
		return object{"type": "number"}
	case reflect.Int, reflect.Int64, reflect.Uint32, reflect.Uint64:
		return object{"type": "integer"}
	default:
		return object{"type": "string"}
	}
}

func structSchema(t reflect.Type, schemas object) object {
	name := schemaName(t)
	reference := object{"$ref": "#/components/schemas/" + name}
	if _, done := schemas[name]; done {
		return reference
	}
	schemas[name] = object{} // ends recursion
	properties, required := object{}, []string{}
	for i := range t.NumField() {
		field, rest, _ := strings.Cut(t.Field(i).Tag.Get("json"), ",")
		if field == "" || field == "-" {
			continue
		}
		properties[field] = schemaOf(t.Field(i).Type, schemas)
		if !strings.Contains(rest, "omitempty") {
			required = append(required, field)
		}
	}
	schemas[name] = object{"type": "object", "properties": properties, "required": required}
	return reference
}

// schemaName is the type's name; that of a list has its item's.
func schemaName(t reflect.Type) string {
	name := t.Name()
	if i := strings.IndexByte(name, '['); i >= 0 {
		inner := name[i+1 : len(name)-1]
		return name[:i] + "Of" + inner[strings.LastIndexByte(inner, '.')+1:]
	}
	return name
}
