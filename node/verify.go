package node

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/time/rate"

	"fencerow/api"
	"fencerow/api/shape"
	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/record"
	"fencerow/verify"
	"fencerow/verify/verifyetcd"
)

// compared is a source and a target that can be compared.
type compared struct {
	source verify.Source
	target verify.Side
	// key says how people are shown a row's key.
	key   func(table, key string) changefeed.Key
	close func() error
	// left is what can't be compared; altered is asked in the end for what was not left as it was.
	left    []verify.Left
	altered func(context.Context) ([]verify.Left, error)
}

// Verify compares with connections of its own, on this node, since secrets are resolved on nodes.
func (b backend) Verify(ctx context.Context, spec record.Spec, how api.VerifyHow) (out shape.Verified, err error) {
	sides, err := b.opener.compare(ctx, spec)
	if err != nil {
		return shape.Verified{}, err
	}
	defer func() { err = errors.Join(err, sides.close()) }()
	out = shape.Verified{Namespace: spec.Namespace, Name: spec.Name, UID: spec.UID, Started: time.Now().UTC(), Differences: []shape.Difference{}}
	pace := rate.NewLimiter(rate.Limit(how.Rows), max(how.Rows, verify.ChunkRows))
	report, err := verify.Run(ctx, verify.Config{
		Source: sides.source, Target: sides.target, Limit: how.Limit, Pace: pace.WaitN,
		Reached: func(ctx context.Context) (change.Position, error) {
			status, err := how.Reached(ctx)
			if err != nil || status.Value == nil {
				return 0, err
			}
			return status.Value.Checkpoint, nil
		},
		Tell: func(p verify.Progress) {
			told := shape.VerifyProgress{Rows: p.Rows, Total: p.Total, Pending: p.Pending}
			if p.Found != nil {
				found := sides.difference(*p.Found)
				told.Difference = &found
			}
			how.Tell(told)
		},
	})
	if err != nil {
		return shape.Verified{}, fmt.Errorf("node: compare %s: %w", spec.ID(), err)
	}
	if sides.altered != nil {
		altered, err := sides.altered(ctx)
		if err != nil {
			return shape.Verified{}, fmt.Errorf("node: compare %s: %w", spec.ID(), err)
		}
		report.Left = append(report.Left, altered...)
	}
	sides.fill(&out, report)
	status, err := how.Reached(ctx)
	if err != nil {
		return shape.Verified{}, err
	}
	if value := status.Value; value != nil && value.SyncPoint >= out.From && value.SyncPoint <= out.To && value.SyncPoint > 0 {
		out.SyncPoint = &value.SyncPoint
	}
	return out, nil
}

func (c compared) difference(one verify.Difference) shape.Difference {
	return shape.Difference{Kind: string(one.Kind), Table: one.Table, Key: c.key(one.Table, one.Key), Columns: one.Columns}
}

func (c compared) fill(out *shape.Verified, report verify.Report) {
	out.Ended, out.Rows, out.From, out.To = time.Now().UTC(), report.Rows, report.From, report.To
	out.Limited, out.UnsettledCount = report.Limited, report.UnsettledCount
	for _, one := range report.Differences {
		out.Differences = append(out.Differences, c.difference(one))
	}
	for _, one := range slices.Concat(c.left, report.Left) {
		out.NotCompared = append(out.NotCompared, shape.NotCompared{Table: one.Table, Columns: one.Columns, Why: one.Why})
	}
	for _, one := range report.Unsettled {
		out.Unsettled = append(out.Unsettled, shape.Unsettled{Table: one.Table, Key: c.key(one.Table, one.Key), Why: one.Why})
	}
}

// compare opens both sides of a spec.
func (o *opener) compare(ctx context.Context, spec record.Spec) (compared, error) {
	from, err := endpoint.Parse(spec.Source, endpoint.Policy{Field: "source", Literals: o.literals})
	if err != nil {
		return compared{}, err
	}
	to, err := endpoint.Parse(spec.Sink, endpoint.Policy{Field: "sink", Literals: o.literals})
	if err != nil {
		return compared{}, err
	}
	between := comparing{opener: o, spec: spec, from: from, to: to}
	isSQL := to.Scheme == endpoint.Postgres || to.Scheme == endpoint.MySQL
	switch {
	case from.Scheme == endpoint.Etcd && to.Scheme == endpoint.Etcd:
		return between.etcds()
	case from.Scheme == endpoint.Etcd && isSQL:
		return between.pairs(ctx)
	case from.Scheme == endpoint.Postgres && isSQL:
		return between.tables(ctx)
	}
	return compared{}, &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "sink", Value: to.String(), Detail: "can't be compared with " + from.String(),
		Cure: "verify changefeeds from an etcd to an etcd or a database, or from a PostgreSQL to a PostgreSQL, MySQL or MariaDB",
	}
}

// comparing opens the sides of one changefeed.
type comparing struct {
	*opener
	spec     record.Spec
	from, to endpoint.URI
}

// sourceEtcd reads the prefix of a source.
func (c *comparing) sourceEtcd(kept verifyetcd.Kept) (*verifyetcd.Side, func() error, error) {
	store, err := dialTarget(c.from, c.spec.Options)
	if err != nil {
		return nil, nil, err
	}
	return verifyetcd.New(verifyetcd.Config{
		Store: store, Prefix: string(c.from.Path), Kept: kept, Fault: unreadable("source", c.from, changefeed.CodeSourceUnreachable),
	}), store.Close, nil
}

// pairKey is the whole key of a pair.
func (c *comparing) pairKey(_, key string) changefeed.Key {
	return changefeed.Key(string(c.from.Path) + key)
}

func (c *comparing) etcds() (compared, error) {
	source, closeSource, err := c.sourceEtcd(verifyetcd.KeptValue)
	if err != nil {
		return compared{}, err
	}
	target, err := dialTarget(c.to, c.spec.Options)
	if err != nil {
		return compared{}, errors.Join(err, closeSource())
	}
	return compared{
		source: source, key: c.pairKey, close: func() error { return errors.Join(closeSource(), target.Close()) },
		target: verifyetcd.New(verifyetcd.Config{
			Store: target, Prefix: string(c.to.Path), Fault: unreadable("sink", c.to, changefeed.CodeSinkUnreachable),
		}),
	}, nil
}

// unreadable says to people that a side can't be read.
func unreadable(field string, uri endpoint.URI, code changefeed.Code) func(error) error {
	return func(err error) error {
		return &changefeed.Fault{
			Code: code, Field: field, Value: uri.String(), Detail: "can't be read from this node", Err: err,
			Cure: "see that it answers, that its user may read it, and that its secrets are on this node",
		}
	}
}
