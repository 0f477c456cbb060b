package node

import (
	"context"
	"errors"
	"fmt"
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
}

// Verify compares with connections of its own, on this node, since secrets are resolved on nodes.
func (b backend) Verify(ctx context.Context, spec record.Spec, how api.VerifyHow) (out shape.Verified, err error) {
	sides, err := b.opener.compare(spec)
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
	for _, one := range report.Unsettled {
		out.Unsettled = append(out.Unsettled, shape.Unsettled{Table: one.Table, Key: c.key(one.Table, one.Key), Why: one.Why})
	}
}

// compare opens both sides of a spec, which connect on first use.
func (o *opener) compare(spec record.Spec) (compared, error) {
	from, err := endpoint.Parse(spec.Source, endpoint.Policy{Field: "source", Literals: o.literals})
	if err != nil {
		return compared{}, err
	}
	to, err := endpoint.Parse(spec.Sink, endpoint.Policy{Field: "sink", Literals: o.literals})
	if err != nil {
		return compared{}, err
	}
	if from.Scheme != endpoint.Etcd || to.Scheme != endpoint.Etcd {
		return compared{}, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "sink", Value: to.String(), Detail: "can't be compared with " + from.String(),
			Cure: "verify changefeeds from an etcd to an etcd",
		}
	}
	source, err := dialTarget(from, spec.Options)
	if err != nil {
		return compared{}, err
	}
	target, err := dialTarget(to, spec.Options)
	if err != nil {
		return compared{}, errors.Join(err, source.Close())
	}
	return compared{
		source: verifyetcd.New(verifyetcd.Config{Store: source, Prefix: string(from.Path), Fault: unreadable("source", from, changefeed.CodeSourceUnreachable)}),
		target: verifyetcd.New(verifyetcd.Config{Store: target, Prefix: string(to.Path), Fault: unreadable("sink", to, changefeed.CodeSinkUnreachable)}),
		key:    func(_, key string) changefeed.Key { return changefeed.Key(string(from.Path) + key) },
		close:  func() error { return errors.Join(source.Close(), target.Close()) },
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
