package node

import (
	"context"
	"encoding/json"
	"errors"
	"strings"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/internal/mydial"
	"fencerow/internal/pgdial"
	"fencerow/sink/mysql"
	"fencerow/sink/postgres"
	"fencerow/sink/sqlsink"
	postgressource "fencerow/source/postgres"
	"fencerow/verify"
	"fencerow/verify/verifyetcd"
	"fencerow/verify/verifymysql"
	"fencerow/verify/verifypostgres"
	"fencerow/verify/verifysql"
	"fencerow/verify/verifytables"
)

// name is that of the connections of a comparison.
func (c *comparing) name() string { return "fencerow verify " + c.spec.ID().String() }

// postgresAt is a connection to a PostgreSQL.
func (c *comparing) postgresAt(uri endpoint.URI, field string, code changefeed.Code) *verifypostgres.Server {
	return &verifypostgres.Server{
		Dial: pgdial.Server{URI: uri, Options: c.spec.Options, Field: field}, Name: c.name(), Fault: unreadable(field, uri, code),
	}
}

func (c *comparing) sinkPostgres() *verifypostgres.Server {
	return c.postgresAt(c.to, "sink", changefeed.CodeSinkUnreachable)
}

// sinkMySQL is a connection to a MySQL or MariaDB.
func (c *comparing) sinkMySQL() *verifymysql.Server {
	return &verifymysql.Server{
		Dial: mydial.Server{URI: c.to, Options: c.spec.Options}, Name: c.name(), Fault: unreadable("sink", c.to, changefeed.CodeSinkUnreachable),
	}
}

// sqlSink is the changefeed's own sink, which knows where it has what.
func (c *comparing) sqlSink() (*sqlsink.Sink, error) {
	if c.to.Scheme == endpoint.Postgres {
		return postgres.New(postgres.Config{URI: c.to, Options: c.spec.Options, Identity: c.identity(c.spec), Layout: layoutOf(c.spec), Logger: c.log})
	}
	return mysql.New(mysql.Config{URI: c.to, Options: c.spec.Options, Identity: c.identity(c.spec), Layout: layoutOf(c.spec), Logger: c.log})
}

// pairs compares an etcd with a table of key-value pairs.
func (c *comparing) pairs(ctx context.Context) (compared, error) {
	sink, err := c.sqlSink()
	if err != nil {
		return compared{}, err
	}
	table, err := sink.KeptPairs(ctx)
	if err = errors.Join(err, sink.Close()); err != nil {
		return compared{}, err
	}
	source, closeSource, err := c.sourceEtcd(verifyetcd.KeptPair)
	if err != nil {
		return compared{}, err
	}
	target := &verifysql.Pairs{Prefix: string(c.from.Path), Columns: sqlsink.PairColumns()}
	var closeTarget func() error
	if c.to.Scheme == endpoint.Postgres {
		server := c.sinkPostgres()
		target.PairServer, closeTarget = server, server.Close
		target.Version = verifypostgres.Version
	} else {
		server := c.sinkMySQL()
		target.PairServer, closeTarget = server, server.Close
	}
	target.From = target.Quote(table.Name)
	if table.Schema != "" {
		target.From = target.Quote(table.Schema) + "." + target.From
	}
	return compared{
		source: source, target: target, key: c.pairKey, close: func() error { return errors.Join(closeSource(), closeTarget()) },
	}, nil
}

// look reads what the changefeed follows, and where the target has it.
func (c *comparing) look(ctx context.Context) (_ []verifytables.Pair, err error) {
	source, err := postgressource.New(postgressource.Config{
		URI: c.from, Options: c.spec.Options, Changefeed: c.spec.ID(), UID: string(c.spec.UID), Logger: c.log,
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, source.Close()) }() //nolint:contextcheck // a goodbye has its own time
	followed, err := source.Followed(ctx)
	if err != nil {
		return nil, err
	}
	sink, err := c.sqlSink()
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sink.Close()) }()
	kept, err := sink.Kept(ctx, verifytables.Relations(followed))
	if err != nil {
		return nil, err
	}
	return verifytables.Pairs(followed, kept), nil
}

// tables compares tables of a PostgreSQL with those of a database.
func (c *comparing) tables(ctx context.Context) (compared, error) {
	pairs, err := c.look(ctx)
	if err != nil {
		return compared{}, err
	}
	server := c.postgresAt(c.from, "source", changefeed.CodeSourceUnreachable)
	open := c.postgresTables
	if c.to.Scheme == endpoint.MySQL {
		open = c.mysqlTables
	}
	out, err := open(ctx, server, pairs)
	if err != nil {
		return compared{}, errors.Join(err, server.Close()) //nolint:contextcheck // a goodbye has its own time
	}
	closeTarget := out.close
	out.close = func() error { return errors.Join(server.Close(), closeTarget()) } //nolint:contextcheck // a goodbye has its own time
	out.key = tableKey
	out.altered = func(ctx context.Context) ([]verify.Left, error) {
		now, err := c.look(ctx)
		return verifytables.Altered(pairs, now), err
	}
	return out, nil
}

// tableKey shows the key of a row: the value of a key of one column, a list of them else.
func tableKey(_, key string) changefeed.Key {
	if key == "" {
		return nil
	}
	texts, err := verifysql.Texts(key)
	if err != nil {
		return changefeed.Key(key)
	}
	if len(texts) == 1 {
		return changefeed.Key(texts[0])
	}
	var out strings.Builder
	encoder := json.NewEncoder(&out)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(texts); err != nil {
		return changefeed.Key(key)
	}
	return changefeed.Key(strings.TrimSuffix(out.String(), "\n"))
}

// orders reads in which order a server has columns, by the names of the source's tables.
func orders(ctx context.Context, server *verifypostgres.Server, pairs []verifytables.Pair, where func(*verifytables.Pair) sqlsink.TableName) (verifytables.Orders, error) {
	out := make(verifytables.Orders, len(pairs))
	for i := range pairs {
		name := where(&pairs[i])
		if name.Schema == "" {
			continue
		}
		found, err := server.Orders(ctx, name.Schema, name.Name)
		if err != nil {
			return nil, err
		}
		out[pairs[i].Relation.String()] = found
	}
	return out, nil
}

func atSource(p *verifytables.Pair) sqlsink.TableName {
	return sqlsink.TableName{Schema: p.Relation.Schema, Name: p.Relation.Name}
}

func (c *comparing) postgresTables(ctx context.Context, source *verifypostgres.Server, pairs []verifytables.Pair) (compared, error) {
	target := c.sinkPostgres()
	ours, err := orders(ctx, source, pairs, atSource)
	if err != nil {
		return compared{}, errors.Join(err, target.Close()) //nolint:contextcheck // a goodbye has its own time
	}
	theirs, err := orders(ctx, target, pairs, func(p *verifytables.Pair) sqlsink.TableName { return p.Name })
	if err != nil {
		return compared{}, errors.Join(err, target.Close()) //nolint:contextcheck // a goodbye has its own time
	}
	from, to, left := verifytables.Postgres(pairs, ours, theirs)
	return compared{
		source: &verifypostgres.Side{Server: source, Tables: from}, target: &verifypostgres.Side{Server: target, Tables: to},
		left: left, close: target.Close,
	}, nil
}

func (c *comparing) mysqlTables(ctx context.Context, source *verifypostgres.Server, pairs []verifytables.Pair) (compared, error) {
	ours, err := orders(ctx, source, pairs, atSource)
	if err != nil {
		return compared{}, err
	}
	target := c.sinkMySQL()
	from, to, left := verifytables.MySQL(pairs, ours, target.Absent)
	return compared{
		source: verifypostgres.NewReading(source, from, verifytables.Forms(pairs)), target: &verifysql.Side{Server: target, Tables: to},
		left: left, close: target.Close,
	}, nil
}
