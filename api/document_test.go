package api

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
)

// document is an OpenAPI document as a stranger reads it.
type document struct {
	Paths map[string]map[string]struct {
		Parameters []struct {
			Name, In string
			Required bool
		}
		RequestBody *struct{ Required bool }
		Responses   map[string]struct {
			Content map[string]struct{ Schema map[string]any }
		}
	}
	Components struct{ Schemas map[string]map[string]any }
}

func readDocument(t *testing.T, url string) document {
	t.Helper()
	return getJSON[document](t, url+"/api/v1/openapi.json")
}

func getJSON[T any](t *testing.T, url string) T {
	t.Helper()
	response, err := http.Get(url)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	require.Equal(t, http.StatusOK, response.StatusCode, url)
	var out T
	require.NoError(t, json.NewDecoder(response.Body).Decode(&out), url)
	return out
}

// check holds a value against a schema: its types, what is required, and that nothing is undocumented.
func (d document) check(schema map[string]any, value any, at string) error {
	if reference, found := schema["$ref"].(string); found {
		name := reference[strings.LastIndexByte(reference, '/')+1:]
		schema, found = d.Components.Schemas[name]
		if !found {
			return fmt.Errorf("%s: no schema %s", at, name)
		}
	}
	if schema["oneOf"] != nil {
		return nil
	}
	right := true
	switch schema["type"] {
	case "object":
		fields, ok := value.(map[string]any)
		if !ok {
			return fmt.Errorf("%s: %v is no object", at, value)
		}
		return d.checkFields(schema, fields, at)
	case "array":
		items, ok := value.([]any)
		if !ok {
			return fmt.Errorf("%s: %v is no array", at, value)
		}
		for i, item := range items {
			if err := d.check(schema["items"].(map[string]any), item, fmt.Sprintf("%s[%d]", at, i)); err != nil {
				return err
			}
		}
	case "string":
		text, ok := value.(string)
		right = ok
		if pattern, found := schema["pattern"].(string); found {
			right = right && regexp.MustCompile(pattern).MatchString(text)
		}
		if allowed, found := schema["enum"].([]any); found {
			right = right && slices.Contains(allowed, any(text))
		}
	case "integer":
		number, ok := value.(float64)
		right = ok && number == float64(int64(number))
	case "number":
		_, right = value.(float64)
	case "boolean":
		_, right = value.(bool)
	default:
		return fmt.Errorf("%s: schema %v is unknown", at, schema)
	}
	if !right {
		return fmt.Errorf("%s: %v does not fit %v", at, value, schema)
	}
	return nil
}

func (d document) checkFields(schema, fields map[string]any, at string) error {
	required, _ := schema["required"].([]any)
	for _, name := range required {
		if _, found := fields[name.(string)]; !found {
			return fmt.Errorf("%s: %s is missing", at, name)
		}
	}
	properties, _ := schema["properties"].(map[string]any)
	for name, value := range fields {
		property, found := properties[name]
		if !found {
			property, found = schema["additionalProperties"]
		}
		if !found {
			return fmt.Errorf("%s: %s is not documented", at, name)
		}
		if err := d.check(property.(map[string]any), value, at+"."+name); err != nil {
			return err
		}
	}
	return nil
}

// A sample of a body for each route that takes one.
var samples = map[string]string{
	"POST /changefeeds":                          `{"name":"other","source":"` + source + `","sink":"blackhole:"}`,
	"PUT /changefeeds/{namespace}/{name}":        `{"name":"orders","source":"` + source + `","sink":"` + sink + `"}`,
	"POST /changefeeds/{namespace}/{name}/move":  `{"to":"n2"}`,
	"POST /changefeeds/{namespace}/{name}/split": `{"at":["/orders/m"]}`,
	"POST /changefeeds/{namespace}/{name}/merge": `{"at":"/orders/m"}`,
	"POST /changefeeds/{namespace}/{name}/reset": `{"start":"snapshot"}`,
	"POST /changefeeds/{namespace}/{name}/skip":  `{"position":"50","index":0}`,
	"POST /changefeeds/{namespace}/{name}/bump":  `{"above":7}`,
	"PUT /log-level":                             `{"level":"debug"}`,
	"POST /session":                              `{"token":"nobody knows it"}`,
}

type answered struct {
	status int
	kind   string
	header http.Header
	body   []byte
}

func send(t *testing.T, method, url, body string, header http.Header) answered {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	maps.Copy(request.Header, header)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	out := answered{status: response.StatusCode, kind: response.Header.Get("Content-Type"), header: response.Header}
	if !strings.HasPrefix(out.kind, "text/event-stream") {
		out.body, err = io.ReadAll(response.Body)
		require.NoError(t, err)
	}
	return out
}

// Every documented route is asked for what it documents, and its answer held against the schema; then everything that
// may be refused is, with a problem of a known code.
func TestEveryRouteDoesAsDocumented(t *testing.T) {
	_, probe := serve(t, newFake())
	d := readDocument(t, probe.URL)
	for path, methods := range d.Paths {
		for method, op := range methods {
			route := strings.ToUpper(method) + " " + path
			t.Run(route, func(t *testing.T) {
				url, header := prepared(t, route)
				answer := send(t, strings.ToUpper(method), url, samples[route], header)
				documented, found := op.Responses[strconv.Itoa(answer.status)]
				require.True(t, found, "status %d is not documented: %s", answer.status, answer.body)
				if content, found := documented.Content["application/json"]; found {
					var value any
					require.NoError(t, json.Unmarshal(answer.body, &value))
					require.NoError(t, d.check(content.Schema, value, "answer"))
				}
				require.Equal(t, samples[route] != "", op.RequestBody != nil)
			})
		}
	}
}

// prepared is a server of its own in which the route can succeed.
func prepared(t *testing.T, route string) (url string, header http.Header) {
	t.Helper()
	f := newFake()
	c, server := serve(t, f)
	must(c.Create(t.Context(), request()))
	f.own(orders, "node-1", changefeed.StateRunning, 5)
	f.nodes = append(f.nodes, f.nodes[0])
	f.nodes[1].ID, f.nodes[1].Name = "node-2", "n2"
	header = http.Header{}
	f.spans[orders] = []Span{{Span: changefeed.Span{End: changefeed.Key("/orders/m")}}, {Span: changefeed.Span{Start: changefeed.Key("/orders/m")}}}
	if strings.HasSuffix(route, "/split") {
		f.spans[orders] = []Span{{Span: changefeed.Whole()}}
	}
	f.heads[source] = Look{Head: 9}
	method, path, _ := strings.Cut(route, " ")
	switch {
	case strings.HasSuffix(path, "/reset"):
		view := f.views[orders]
		view.Spec.Value.Desired, view.Epoch.Value.Owner = changefeed.DesiredPaused, ""
	case strings.HasSuffix(path, "/drain"):
		f.drained = []string{"n1"}
	case method == http.MethodPut:
		header.Set("If-Match", `"`+must(c.Changefeed(t.Context(), orders)).Value.Revision+`"`)
	}
	name := "orders"
	if strings.HasPrefix(path, "/nodes") {
		name = "n1"
	}
	if slices.Contains(atRoot, path) {
		return server.URL + path, header
	}
	return server.URL + "/api/v1" + strings.NewReplacer("{namespace}", "default", "{name}", name).Replace(path), header
}

// problem reads a refusal, which has a known code and a cure.
func (d document) problem(t *testing.T, answer answered) string {
	t.Helper()
	require.Equal(t, "application/problem+json", answer.kind, "%s", answer.body)
	var value map[string]any
	require.NoError(t, json.Unmarshal(answer.body, &value))
	require.NoError(t, d.check(map[string]any{"$ref": "#/components/schemas/Problem"}, value, "problem"))
	require.InDelta(t, answer.status, value["status"], 0)
	require.NotEmpty(t, value["cure"], "%s", answer.body)
	return value["code"].(string)
}

func TestEveryRouteRefusesAsDocumented(t *testing.T) {
	_, server := serve(t, newFake())
	d := readDocument(t, server.URL)
	for path, methods := range d.Paths {
		for method, op := range methods {
			method := strings.ToUpper(method)
			named := func(namespace, name string) string {
				return server.URL + "/api/v1" + strings.NewReplacer("{namespace}", namespace, "{name}", name).Replace(path)
			}
			if strings.Contains(path, "{name}") {
				answer := send(t, method, named("default", "nobody"), samples[method+" "+path], http.Header{"If-Match": {`"5"`}})
				require.Equal(t, http.StatusNotFound, answer.status, "%s %s: %s", method, path, answer.body)
				require.Contains(t, []string{"changefeed.not_found", "node.not_found"}, d.problem(t, answer))
			}
			if strings.Contains(path, "{namespace}") {
				url, header := prepared(t, method+" "+path)
				answer := send(t, method, strings.Replace(url, "/default/", "/no%20name/", 1), samples[method+" "+path], header)
				require.Equal(t, http.StatusBadRequest, answer.status, "%s %s: %s", method, path, answer.body)
				require.Equal(t, "request.invalid", d.problem(t, answer))
			}
			if op.RequestBody != nil {
				for _, body := range []string{"{", `{"colour":"red"}`, `[]`} {
					url, header := prepared(t, method+" "+path)
					answer := send(t, method, url, body, header)
					require.Equal(t, http.StatusBadRequest, answer.status, "%s %s %s: %s", method, path, body, answer.body)
					require.Equal(t, "request.invalid", d.problem(t, answer))
				}
			}
			for _, parameter := range op.Parameters {
				if parameter.In == "header" && parameter.Required {
					url, header := prepared(t, method+" "+path)
					answer := send(t, method, url, samples[method+" "+path], nil)
					require.Equal(t, http.StatusPreconditionRequired, answer.status)
					d.problem(t, answer)
					header.Set("If-Match", `"1"`)
					answer = send(t, method, url, samples[method+" "+path], header)
					require.Equal(t, http.StatusPreconditionFailed, answer.status)
					require.Equal(t, "spec.conflict", d.problem(t, answer))
				}
			}
		}
	}
}

// A schema check that finds nothing proves nothing.
func TestTheSchemaCheckCanFail(t *testing.T) {
	_, server := serve(t, newFake())
	d := readDocument(t, server.URL)
	feed := map[string]any{"$ref": "#/components/schemas/Changefeed"}
	for name, text := range map[string]string{
		"a field that is missing":    `{"namespace":"a","name":"b","revision":"1"}`,
		"one that is not documented": `{"namespace":"a","name":"b","revision":"1","state":"running","colour":"red"}`,
		"another type":               `{"namespace":"a","name":"b","revision":"1","state":"running","epoch":"7"}`,
		"a position as a number":     `{"namespace":"a","name":"b","revision":"1","state":"running","checkpoint":7}`,
		"a code that is none":        `{"namespace":"a","name":"b","revision":"1","state":"running","error":{"code":"odd","message":"","since":"","next_try":""}}`,
	} {
		var value any
		require.NoError(t, json.Unmarshal([]byte(text), &value))
		require.Error(t, d.check(feed, value, "answer"), name)
	}
}
