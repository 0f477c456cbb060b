package api

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"

	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/record"
)

// lookMax bounds how long a creation waits for a source or sink: one that can't be reached is created all the same,
// and retried by its maintainer.
const lookMax = 3 * time.Second

// Kinds are the kinds of sources and sinks that this node has, and the options that each takes.
type Kinds struct {
	Sources map[endpoint.Scheme][]changefeed.Option
	Sinks   map[endpoint.Scheme][]changefeed.Option
	Common  []changefeed.Option // of every changefeed
	// Logs are the sources that keep a log for the changefeed from the moment on at which it begins: only the owner can say
	// where that is, and none can begin earlier.
	Logs []endpoint.Scheme
}

// keepsLog reports whether a source is of those.
func (k Kinds) keepsLog(scheme endpoint.Scheme) bool { return slices.Contains(k.Logs, scheme) }

// Options returns the options of a changefeed of these kinds.
func (k Kinds) Options(source, sink endpoint.Scheme) []changefeed.Option {
	return slices.Concat(k.Common, k.Sources[source], k.Sinks[sink])
}

func schemes(of map[endpoint.Scheme][]changefeed.Option) []endpoint.Scheme {
	return slices.Sorted(maps.Keys(of))
}

// draft is a request that was validated as far as it can be without asking anybody.
type draft struct {
	id     changefeed.ID
	source endpoint.URI
	sink   endpoint.URI
	start  string
	at     *change.Position // of a start that is a position
	log    bool             // the source keeps a log from the moment on at which the changefeed begins
	unfit  error            // why the source can't be one, as it says itself
	opts   changefeed.Options
}

// literals says for each field whether it may have a password written out.
type literals struct{ source, sink endpoint.Literals }

// validate reads a request. It asks nobody.
func (k Kinds) validate(request shape.Create, allowed literals) (draft, error) {
	out := draft{
		id: changefeed.ID{Namespace: request.Namespace, Name: request.Name}, start: request.Start, opts: request.Options,
	}
	if out.id.Namespace == "" {
		out.id.Namespace = changefeed.DefaultNamespace
	}
	if err := out.id.Validate(); err != nil {
		return draft{}, err
	}
	var err error
	out.source, err = endpoint.Parse(request.Source, endpoint.Policy{Field: "source", Schemes: schemes(k.Sources), Literals: allowed.source})
	if err != nil {
		return draft{}, err
	}
	out.sink, err = endpoint.Parse(request.Sink, endpoint.Policy{Field: "sink", Schemes: schemes(k.Sinks), Literals: allowed.sink})
	if err != nil {
		return draft{}, err
	}
	if err := k.checkSinkOptions(out.opts, out.sink.Scheme); err != nil {
		return draft{}, err
	}
	if err := out.opts.Validate(k.Options(out.source.Scheme, out.sink.Scheme)); err != nil {
		return draft{}, err
	}
	if err := out.checkRedo(); err != nil {
		return draft{}, err
	}
	out.log = k.keepsLog(out.source.Scheme)
	return out, out.parseStart()
}

// checkSinkOptions refuses an option that only other kinds of sinks take, and says which do.
func (k Kinds) checkSinkOptions(options changefeed.Options, of endpoint.Scheme) error {
	for _, name := range slices.Sorted(maps.Keys(options)) {
		var takers []string
		for _, scheme := range schemes(k.Sinks) {
			if slices.ContainsFunc(k.Sinks[scheme], func(option changefeed.Option) bool { return option.Name == name }) {
				takers = append(takers, string(scheme))
			}
		}
		everywhere := slices.ContainsFunc(k.Common, func(option changefeed.Option) bool { return option.Name == name })
		if len(takers) == 0 || everywhere || slices.Contains(takers, string(of)) || slices.Contains(optionsOfSources(k), name) {
			continue
		}
		return &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "options." + name, Value: fmt.Sprintf("%.100q", options[name]),
			Detail: fmt.Sprintf("is not an option of a %s sink", of),
			Cure:   "leave it out, or use a sink that takes it: " + strings.Join(takers, ", "),
		}
	}
	return nil
}

// optionsOfSources are the names of what sources take, which a sink may take under the same name.
func optionsOfSources(k Kinds) []string {
	var out []string
	for _, options := range k.Sources {
		for _, option := range options {
			out = append(out, option.Name)
		}
	}
	return out
}

// parseStart reads the start: now, which is what an empty one means, snapshot, or a position.
func (d *draft) parseStart() error {
	switch d.start {
	case "":
		d.start = record.StartNow
	case record.StartNow, record.StartSnapshot:
	default:
		at, err := change.ParsePosition(d.start)
		if err != nil || at == 0 {
			return &changefeed.Fault{
				Code: changefeed.CodeRequestInvalid, Field: "start", Value: fmt.Sprintf("%.100q", d.start),
				Detail: "is no start", Cure: "give now, snapshot, or a position above 0",
			}
		}
		if d.log {
			return &changefeed.Fault{
				Code: changefeed.CodeRequestInvalid, Field: "start", Value: fmt.Sprintf("%.100q", d.start),
				Detail: "is a position, and this source keeps its log only from the moment on at which a changefeed begins",
				Cure:   "give now, or snapshot",
			}
		}
		d.at = &at
	}
	return nil
}

// look asks source and sink where they stand, and refuses loops and a start in the future. What can't be reached is
// judged by what is written.
func (d *draft) look(ctx context.Context, backend Backend) (head change.Position, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookMax)
	defer cancel()
	source, sink, redo := Look{Store: endpoint.Store{Hosts: d.source.Hosts}}, Look{Store: endpoint.Store{Hosts: d.sink.Hosts}}, Look{}
	// Both at once: one that does not answer must not use up the other's time.
	var asked sync.WaitGroup
	ask := func(uri endpoint.URI, answer *Look) {
		asked.Go(func() {
			if seen, err := backend.Look(ctx, uri, d.opts); err == nil {
				answer.Head, answer.Store.ClusterID, answer.Unfit = seen.Head, seen.Store.ClusterID, seen.Unfit
			}
		})
	}
	ask(d.source, &source)
	if d.sink.Scheme == endpoint.Etcd {
		ask(d.sink, &sink)
	}
	if uri, ok, err := redoOf(d.opts); ok && err == nil {
		asked.Go(func() {
			if seen, err := backend.Look(ctx, uri, nil); err == nil {
				redo = seen
			}
		})
	}
	asked.Wait()
	d.unfit = source.Unfit
	control := backend.Store()
	for _, err := range []error{
		endpoint.CheckSource(d.source, source.Store, control),
		endpoint.CheckSink(d.sink, sink.Store, control),
		endpoint.CheckLoop(d.source, d.sink, source.Store, sink.Store),
		d.checkRedoHolder(redo, control.ClusterID),
	} {
		if err != nil {
			return 0, err
		}
	}
	if d.at != nil && source.Head > 0 && *d.at > source.Head {
		return 0, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "start", Value: d.start,
			Detail: fmt.Sprintf("lies in the future: the source is at %s", source.Head),
			Cure:   "give now, snapshot, or a position at or below the source's",
		}
	}
	return source.Head, nil
}

// spec builds the record of a new changefeed. `now` becomes a position here if the source said where it is; else its
// maintainer resolves it, once.
func (d *draft) spec(head change.Position) record.Spec {
	spec := record.Spec{
		UID: changefeed.UID(uuid.NewString()), Namespace: d.id.Namespace, Name: d.id.Name,
		Source: d.source.Record(), Sink: d.sink.Record(), Start: d.start, StartPosition: d.at,
		Options: d.opts, Desired: changefeed.DesiredRunning,
	}
	if d.start == record.StartNow && head > 0 && !d.log {
		spec.StartPosition = &head
	}
	if spec.Options == nil {
		spec.Options = changefeed.Options{}
	}
	return spec
}

// update returns the spec with what the request changes, and whether that is anything. What is fixed for a uid can't be
// changed; source and sink only while nobody owns the changefeed.
func (k Kinds) update(view View, request shape.Create, allowed literals) (record.Spec, bool, error) {
	old := *view.Spec.Value
	if old.Desired == changefeed.DesiredRemoved {
		return old, false, beingRemoved(view.ID)
	}
	// What was shown with a hidden password means the one that is stored.
	if request.Source == endpoint.Redact(old.Source) {
		request.Source, allowed.source = old.Source, endpoint.AllowLiterals
	}
	if request.Sink == endpoint.Redact(old.Sink) {
		request.Sink, allowed.sink = old.Sink, endpoint.AllowLiterals
	}
	if request.Start == "" {
		request.Start = old.Start
	}
	request.Namespace, request.Name = view.ID.Namespace, view.ID.Name
	next, err := k.validate(request, allowed)
	if err != nil {
		return old, false, err
	}
	if err := checkFixed(old, next); err != nil {
		return old, false, err
	}
	spec := next.spec(0)
	spec.UID, spec.StartPosition, spec.Desired, spec.Extra = old.UID, old.StartPosition, old.Desired, old.Extra
	spec.Skips = old.Skips
	moved := spec.Source != old.Source || spec.Sink != old.Sink
	if moved && !(old.Desired == changefeed.DesiredPaused && stateOf(&old, view.Epoch.Value, nil) == changefeed.StatePaused) {
		return old, false, notPaused(view.ID, "its source and sink can only be changed while it is")
	}
	return spec, moved || !maps.Equal(spec.Options, old.Options), nil
}

func checkFixed(old record.Spec, next draft) error {
	fixed := func(field, was string) error {
		return &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: field, Value: was, Detail: "is fixed for a changefeed",
			Cure: "leave it as it was, or remove the changefeed and create it anew",
		}
	}
	for field, pair := range map[string]struct {
		was  string
		next endpoint.URI
	}{"source": {old.Source, next.source}, "sink": {old.Sink, next.sink}} {
		was, err := endpoint.Parse(pair.was, endpoint.Policy{Field: field, Literals: endpoint.AllowLiterals})
		if err != nil {
			return fmt.Errorf("api: stored %s: %w", field, err)
		}
		if was.Target() != pair.next.Target() {
			return fixed(field, was.String())
		}
	}
	if next.start != old.Start {
		return fixed("start", old.Start)
	}
	return checkRedoFixed(old, next)
}

func beingRemoved(id changefeed.ID) error {
	return &changefeed.Fault{
		Code: changefeed.CodeSpecConflict, Field: "changefeed", Value: id.String(), Detail: "is being removed",
		Cure: "wait until it is gone (changefeed remove --wait), and create it anew",
	}
}

// parseAfter reads where a list goes on.
func parseAfter(text string) (changefeed.ID, error) {
	if text == "" {
		return changefeed.ID{}, nil
	}
	if !strings.Contains(text, "/") {
		return changefeed.ID{}, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "after", Value: fmt.Sprintf("%.100q", text), Detail: "is not namespace/name",
			Cure: "give the next of the page before",
		}
	}
	return changefeed.ParseID(text, "")
}
