package node

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/epochstore"
	"fencerow/kv"
	"fencerow/kv/kvetcd"
	"fencerow/maintainer"
	"fencerow/record"
	"fencerow/redo"
	"fencerow/sink"
	"fencerow/sink/blackhole"
	etcdsink "fencerow/sink/etcd"
	"fencerow/sink/file"
	"fencerow/sink/mysql"
	"fencerow/sink/postgres"
	"fencerow/sink/sqlsink"
	"fencerow/sink/stdout"
	"fencerow/source"
	etcdsource "fencerow/source/etcd"
)

// opener makes the sources and sinks of changefeeds. It does no I/O: they connect on first use.
type opener struct {
	cluster  string // id of the etcd cluster that holds the records
	literals endpoint.Literals
	out      *stdout.Output
	log      *zap.Logger
	store    *epochstore.Store // nil where nothing is owned
	streamed string            // where transactions in progress are kept; empty where no log is read
	// postgres makes a source of a PostgreSQL. Tests put another in its place.
	postgres func(serialSource) (source.Serial, error)
}

func newOpener(cluster string, config Config, log *zap.Logger) *opener {
	o := &opener{cluster: cluster, literals: literals(config), out: stdout.NewOutput(config.Stdout), log: log}
	if config.DataDir != "" {
		o.streamed = filepath.Join(config.DataDir, streamedFolder, config.Name)
	}
	o.postgres = o.openPostgres
	return o
}

func literals(config Config) endpoint.Literals {
	if config.AllowLiteralSecrets {
		return endpoint.AllowLiterals
	}
	return endpoint.RefuseLiterals
}

// openSource makes the source of a spec, under an ownership if it is its owner's.
func (o *opener) openSource(spec record.Spec, own maintainer.Ownership) (source.Source, error) {
	uri, err := endpoint.Parse(spec.Source, endpoint.Policy{Field: "source", Literals: o.literals})
	if err != nil {
		return nil, permanent(err)
	}
	switch uri.Scheme {
	case endpoint.Etcd:
		opened, err := etcdsource.New(etcdsource.Config{URI: uri, Options: spec.Options, Logger: o.log})
		if err != nil {
			return nil, err
		}
		return &guardedSource{Source: opened, opener: o, spec: spec, from: uri}, nil
	case endpoint.Postgres:
		return o.postgres(o.serialSource(uri, spec, own))
	case endpoint.MySQL, endpoint.File, endpoint.Stdout, endpoint.Blackhole:
	}
	return nil, unsupported("source", uri, "read from an etcd or a PostgreSQL")
}

// open makes the sink of a spec, with its redo log if it has one, and says how it keeps stale writers out.
func (o *opener) open(spec record.Spec) (sink.Sink, maintainer.Fencing, error) {
	target, fencing, err := o.openTarget(spec)
	if err != nil || spec.Options[redo.OptionRedo] == "" {
		return target, fencing, err
	}
	opened, err := o.openRedo(spec, target, fencing)
	if err != nil {
		return nil, fencing, errors.Join(err, target.Close())
	}
	return opened, fencing, nil
}

// openRedo puts the redo log of a spec before its target.
func (o *opener) openRedo(spec record.Spec, target sink.Sink, fencing maintainer.Fencing) (sink.Sink, error) {
	directory, err := redo.Directory(spec.Options[redo.OptionRedo])
	if err != nil {
		return nil, permanent(err)
	}
	if fencing != maintainer.FencedByClaims {
		return nil, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: redo.OptionRedo, Value: spec.Options[redo.OptionRedo], Permanent: true,
			Detail: "is for sinks that keep claims, and this one keeps none", Cure: "leave the option out, or write to an etcd or to files",
		}
	}
	from, err := endpoint.Parse(spec.Source, endpoint.Policy{Field: "source", Literals: o.literals})
	if err != nil {
		return nil, permanent(err)
	}
	return redo.Open(redo.Config{
		Directory: directory, Identity: o.identity(spec), Whole: endpoint.KeySpace(from), Options: spec.Options, Target: target, Logger: o.log,
		About: redo.About{
			Changefeed: spec.ID().String(), UID: spec.UID, Source: endpoint.Redact(spec.Source), Sink: endpoint.Redact(spec.Sink),
		},
	})
}

func (o *opener) identity(spec record.Spec) sink.Identity {
	return sink.Identity{Cluster: o.cluster, Changefeed: spec.ID(), UID: spec.UID}
}

// openTarget makes the sink of a spec, and says how it keeps stale writers out.
func (o *opener) openTarget(spec record.Spec) (sink.Sink, maintainer.Fencing, error) {
	uri, err := endpoint.Parse(spec.Sink, endpoint.Policy{Field: "sink", Literals: o.literals})
	if err != nil {
		return nil, maintainer.FencedByNothing, permanent(err)
	}
	identity := o.identity(spec)
	switch uri.Scheme {
	case endpoint.Etcd:
		from, err := endpoint.Parse(spec.Source, endpoint.Policy{Field: "source", Literals: o.literals})
		if err != nil {
			return nil, maintainer.FencedByNothing, permanent(err)
		}
		opened, err := etcdsink.New(etcdsink.Config{
			Open:         func(context.Context) (kv.Store, error) { return dialTarget(uri, spec.Options) },
			SourcePrefix: from.Path, TargetPrefix: uri.Path, Name: uri.String(), Identity: identity, Logger: o.log,
		})
		return opened, maintainer.FencedByClaims, err
	case endpoint.File:
		opened, err := file.Open(file.Config{Identity: identity, Directory: string(uri.Path), Options: spec.Options, Logger: o.log})
		return opened, maintainer.FencedByClaims, err
	case endpoint.Stdout:
		opened, err := stdout.Open(stdout.Config{Identity: identity, Output: o.out})
		return opened, maintainer.FencedByNothing, err
	case endpoint.Blackhole:
		return blackhole.New(), maintainer.FencedByNothing, nil
	case endpoint.Postgres:
		opened, err := postgres.New(postgres.Config{
			URI: uri, Options: spec.Options, Identity: identity, Layout: layoutOf(spec), Logger: o.log,
		})
		return opened, maintainer.FencedByClaims, err
	case endpoint.MySQL:
		opened, err := mysql.New(mysql.Config{
			URI: uri, Options: spec.Options, Identity: identity, Layout: layoutOf(spec), Logger: o.log,
		})
		return opened, maintainer.FencedByClaims, err
	}
	return nil, maintainer.FencedByNothing, unsupported("sink", uri, "write to an etcd, a PostgreSQL, a MySQL or MariaDB, files, stdout or a blackhole")
}

// layoutOf returns what the source of a spec has.
func layoutOf(spec record.Spec) sqlsink.Layout {
	switch scheme, _, _ := strings.Cut(spec.Source, ":"); endpoint.Scheme(scheme) {
	case endpoint.Postgres, endpoint.MySQL:
		return sqlsink.LayoutTables
	default:
		return sqlsink.LayoutPairs
	}
}

// dialTarget connects to a target, with the secrets resolved on this node.
func dialTarget(uri endpoint.URI, options changefeed.Options) (*kvetcd.Store, error) {
	password, err := uri.Password.Resolve()
	if err != nil {
		return nil, err
	}
	tls, err := endpoint.TLS(options)
	if err != nil {
		return nil, err
	}
	scheme := "http://"
	if tls != nil {
		scheme = "https://"
	}
	endpoints := make([]string, len(uri.Hosts))
	for i, host := range uri.Hosts {
		endpoints[i] = scheme + host
	}
	client, err := kvetcd.Dial(kvetcd.Config{Endpoints: endpoints, User: uri.User, Password: password, TLS: tls})
	if err != nil {
		return nil, fmt.Errorf("node: dial the target: %w", err)
	}
	return kvetcd.New(client), nil
}

// OpenTarget makes the sink of a changefeed's spec for who has no cluster, only what a redo log says: with claims, and as the
// identity that the log has.
func OpenTarget(as sink.Identity, spec record.Spec, literals endpoint.Literals, log *zap.Logger) (redo.Target, error) {
	o := &opener{cluster: as.Cluster, literals: literals, log: log}
	spec.UID, spec.Namespace, spec.Name = as.UID, as.Changefeed.Namespace, as.Changefeed.Name
	uri, err := endpoint.Parse(spec.Sink, endpoint.Policy{Field: "sink", Literals: literals})
	if err != nil {
		return nil, err
	}
	if uri.Scheme == endpoint.Stdout || uri.Scheme == endpoint.Blackhole {
		return nil, unsupported("sink", uri, "apply to a sink that keeps claims, an etcd or files")
	}
	opened, fencing, err := o.openTarget(spec)
	if err != nil {
		return nil, err
	}
	target, ok := opened.(redo.Target)
	if !ok || fencing != maintainer.FencedByClaims {
		return nil, errors.Join(unsupported("sink", uri, "apply to a sink that keeps claims, an etcd or files"), opened.Close())
	}
	return target, nil
}

// dispatcherOpener and maintainerOpener are the opener as each side declares it.
type (
	dispatcherOpener struct {
		*opener
		logs logs
	}
	maintainerOpener struct{ *opener }
)

func (o *opener) dispatchers(of logs) dispatcherOpener { return dispatcherOpener{opener: o, logs: of} }
func (o *opener) maintainers() maintainerOpener        { return maintainerOpener{o} }

// OpenSink makes the sink of a spec.
func (o dispatcherOpener) OpenSink(spec record.Spec) (sink.Sink, error) {
	opened, _, err := o.open(spec)
	return opened, err
}

// OpenSink makes the sink of a spec, and says how it keeps stale writers out.
func (o maintainerOpener) OpenSink(spec record.Spec) (sink.Sink, maintainer.Fencing, error) {
	return o.open(spec)
}

// permanent marks a fault of the spec itself as one that time can't heal.
func permanent(err error) error {
	fault := *changefeed.AsFault(err, changefeed.CodeRequestInvalid)
	fault.Permanent = true
	return &fault
}

func unsupported(field string, uri endpoint.URI, cure string) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: field, Value: uri.String(), Permanent: true,
		Detail: "is of a kind that this version can't use as a " + field, Cure: cure,
	}
}
