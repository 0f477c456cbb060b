package node

import (
	"context"
	"errors"

	"fencerow/api"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/source"
	postgressource "fencerow/source/postgres"
)

// openPostgres makes a source of a PostgreSQL.
func (o *opener) openPostgres(wanted serialSource) (source.Serial, error) {
	opened, err := postgressource.New(postgressource.Config{
		URI: wanted.uri, Options: wanted.spec.Options, Changefeed: wanted.spec.ID(), UID: string(wanted.spec.UID),
		Epoch: wanted.own.Record.Epoch, Confirm: wanted.confirm, Directory: o.streamed, Logger: o.log,
	})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// lookAtPostgres asks a PostgreSQL where it is, and whether a changefeed could be made of it.
func (b backend) lookAtPostgres(ctx context.Context, uri endpoint.URI, options changefeed.Options) (look api.Look, err error) {
	look.Store.Hosts = uri.Hosts
	opened, err := postgressource.New(postgressource.Config{URI: uri, Options: options, UID: "look", Logger: b.log})
	if err != nil {
		return look, err
	}
	defer func() { err = errors.Join(err, opened.Close()) }() //nolint:contextcheck // a goodbye has its own time
	if check := opened.Check(ctx); answered(check) {
		look.Unfit = check
	}
	if look.Head, err = opened.Head(ctx); err != nil {
		if look.Unfit != nil {
			err = nil // it says more
		}
		return look, err
	}
	look.Store.ClusterID, err = opened.Identity(ctx)
	return look, err
}

// answered reports whether it is the server that says no, and not the way to it.
func answered(err error) bool {
	if err == nil {
		return false
	}
	var said interface{ SQLState() string }
	return changefeed.AsFault(err, changefeed.CodeSourceUnreachable).Err == nil || errors.As(err, &said)
}
