package node

import (
	"context"
	"fmt"

	"go.uber.org/zap"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/kv"
	"fencerow/kv/kvetcd"
	"fencerow/maintainer"
	"fencerow/record"
	"fencerow/sink"
	"fencerow/sink/blackhole"
	etcdsink "fencerow/sink/etcd"
	"fencerow/sink/file"
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
}

func newOpener(cluster string, config Config, log *zap.Logger) *opener {
	return &opener{cluster: cluster, literals: literals(config), out: stdout.NewOutput(config.Stdout), log: log}
}

func literals(config Config) endpoint.Literals {
	if config.AllowLiteralSecrets {
		return endpoint.AllowLiterals
	}
	return endpoint.RefuseLiterals
}

// OpenSource makes the source of a spec.
func (o *opener) OpenSource(spec record.Spec) (source.Source, error) {
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
	case endpoint.Postgres, endpoint.MySQL, endpoint.File, endpoint.Stdout, endpoint.Blackhole:
	}
	return nil, unsupported("source", uri, "read from an etcd")
}

// open makes the sink of a spec, and says how it keeps stale writers out.
func (o *opener) open(spec record.Spec) (sink.Sink, maintainer.Fencing, error) {
	uri, err := endpoint.Parse(spec.Sink, endpoint.Policy{Field: "sink", Literals: o.literals})
	if err != nil {
		return nil, maintainer.FencedByNothing, permanent(err)
	}
	identity := sink.Identity{Cluster: o.cluster, Changefeed: spec.ID(), UID: spec.UID}
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
	case endpoint.Postgres, endpoint.MySQL:
	}
	return nil, maintainer.FencedByNothing, unsupported("sink", uri, "write to an etcd, to files, to stdout or to a blackhole")
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

// dispatcherOpener and maintainerOpener are the opener as each side declares it.
type (
	dispatcherOpener struct{ *opener }
	maintainerOpener struct{ *opener }
)

func (o *opener) dispatchers() dispatcherOpener { return dispatcherOpener{o} }
func (o *opener) maintainers() maintainerOpener { return maintainerOpener{o} }

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
