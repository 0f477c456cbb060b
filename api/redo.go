package api

import (
	"fmt"
	"net/http"
	"path/filepath"
	"strings"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/record"
)

// redoOf returns the directory of the redo log; ok is false if the changefeed keeps none.
func redoOf(options changefeed.Options) (uri endpoint.URI, ok bool, err error) {
	value := options[changefeed.OptionRedo]
	if value == "" {
		return endpoint.URI{}, false, nil
	}
	uri, err = endpoint.Parse(value, endpoint.Policy{Field: changefeed.OptionRedo, Schemes: []endpoint.Scheme{endpoint.File}})
	return uri, err == nil, err
}

// checkRedo refuses a redo log where it can't do what it is for.
func (d *draft) checkRedo() error {
	uri, ok, err := redoOf(d.opts)
	if err != nil || !ok {
		return err
	}
	refused := func(detail, cure string) error {
		return &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: changefeed.OptionRedo, Value: uri.String(), Detail: detail, Cure: cure,
		}
	}
	switch {
	case d.sink.Scheme == endpoint.Stdout || d.sink.Scheme == endpoint.Blackhole:
		return refused("is for sinks that keep claims: a log can't be applied to "+string(d.sink.Scheme)+", which does not know its position",
			"leave the option out, or write to an etcd or to files")
	case d.source.Scheme != endpoint.Etcd:
		return refused("keeps changes of an etcd only in this version, and the source is "+string(d.source.Scheme), "leave the option out")
	case d.sink.Scheme == endpoint.File && overlap(string(uri.Path), string(d.sink.Path)):
		return refused("overlaps the sink's directory", "name a directory that lies outside of it")
	}
	return nil
}

// overlap reports whether one directory lies in the other, or both are one.
func overlap(a, b string) bool {
	within := func(inner, outer string) bool {
		return inner == outer || strings.HasPrefix(inner, strings.TrimSuffix(outer, "/")+"/")
	}
	a, b = filepath.Clean(a), filepath.Clean(b)
	return within(a, b) || within(b, a)
}

// checkRedoHolder refuses a directory that belongs to another changefeed. One of an older creation of the same is taken over.
func (d *draft) checkRedoHolder(seen Look, cluster string) error {
	if !seen.Held || seen.Holder.ID == d.id && seen.HolderCluster == cluster {
		return nil
	}
	of := ""
	if seen.HolderCluster != cluster {
		of = " of cluster " + seen.HolderCluster
	}
	return refuse(http.StatusUnprocessableEntity, &changefeed.Fault{
		Code: changefeed.CodeSinkInUse, Field: changefeed.OptionRedo, Value: d.opts[changefeed.OptionRedo],
		Detail: fmt.Sprintf("belongs to changefeed %s, uid %s%s", seen.Holder.ID, seen.Holder.UID, of),
		Cure:   "name an empty directory, or one that is not there yet",
	})
}

// checkRedoFixed refuses to begin a redo log later, or to move it: it would lack what was written before.
func checkRedoFixed(old record.Spec, next draft) error {
	was, is := old.Options[changefeed.OptionRedo], next.opts[changefeed.OptionRedo]
	if is == "" || is == was {
		return nil
	}
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: changefeed.OptionRedo, Value: is,
		Detail: "is set when a changefeed is created, and can only be taken away later: a log that begins later lacks what came before",
		Cure:   "leave it as it was, or create a changefeed with it",
	}
}
