package sqlsink

import (
	"context"
	"slices"
	"strings"

	"fencerow/change"
	"fencerow/changefeed"
)

// What a target keeps of its source, for who compares the two. It is read as rows are written: where a table goes, and which of its
// columns, follows from the options and from what the table was brought to last.

// Kept is where the rows of a table of the source are.
type Kept struct {
	Of   *change.Relation
	Name TableName // with the schema in which the server finds it, where it has such and names have none
	// Table is nil where the target has none: it is made at its first row.
	Table   *Table
	Columns []Bound // those of the key among them
	Key     []Bound // in the key's order
	// Left are the columns of the source that have none in the target, or one that the target computes.
	Left []string
}

// Kept says where the rows of tables are, as these are now. It writes nothing.
func (s *Sink) Kept(ctx context.Context, of []*change.Relation) ([]Kept, error) {
	var out []Kept
	err := s.with(ctx, "look at the tables", func(session Session) error {
		out = nil
		w := &tableWriter{writer: &writer{sink: s, session: session}}
		rows, err := w.reading(ctx)
		if err != nil {
			return err
		}
		for _, relation := range of {
			one, err := w.kept(ctx, relation, rows)
			if err != nil {
				return err
			}
			out = append(out, one)
		}
		return nil
	})
	return out, err
}

// reading begins a transaction that writes nothing, and returns what is noted of the changefeed's tables.
func (w *tableWriter) reading(ctx context.Context) ([]tableRecord, error) {
	s := w.sink.statements
	results, err := w.session.Do(ctx, Statement{Text: "START TRANSACTION READ ONLY"}, s.dialect.Present())
	if err != nil {
		return nil, err
	}
	is := func(name string) bool {
		return slices.ContainsFunc(results[1].Rows, func(row []string) bool { return strings.HasSuffix(row[0], name) })
	}
	if !is("heads") || !is(oursForTables) {
		return nil, nil
	}
	if results, err = w.session.Do(ctx, s.readHead()); err != nil {
		return nil, err
	}
	head, err := headOf(results[0])
	if err != nil || !head.Exists() || head.Identity.UID != w.sink.config.Identity.UID {
		return nil, err
	}
	if results, err = w.session.Do(ctx, s.readTables(head.id)); err != nil {
		return nil, err
	}
	return readTables(results[0].Rows)
}

// kept looks at one table.
func (w *tableWriter) kept(ctx context.Context, of *change.Relation, rows []tableRecord) (Kept, error) {
	source := TableName{Schema: of.Schema, Name: of.Name}
	out := Kept{Of: of, Name: w.target(source)}
	at, err := w.look(ctx, source, rows)
	switch {
	case isFault(err, changefeed.CodeSinkLost): // somebody dropped it
	case err != nil:
		return Kept{}, err
	case at == nil: // no row of it came yet, and the table may be there all the same
		at = &place{bound: make(map[*change.Relation]*binding)}
		if at.table, err = w.describe(ctx, out.Name); err != nil {
			return Kept{}, err
		}
	}
	if at == nil || at.table == nil {
		return out, nil
	}
	if at.known() == nil {
		at.of = of
	}
	out.Table = at.table
	bound := at.bind(of, w.sink.config.Settings.Naming)
	out.Columns, out.Key = bound.columns, bound.key
	for _, column := range of.Columns {
		written := slices.ContainsFunc(out.Columns, func(b Bound) bool { return b.From.Name == column.Name })
		if !written && !column.Generated {
			out.Left = append(out.Left, column.Name)
		}
	}
	out.Name, err = w.sink.found(ctx, w.session, out.Name)
	return out, err
}

// found adds the schema in which the server finds a table that is named without one, where it has such.
func (s *Sink) found(ctx context.Context, session Session, name TableName) (TableName, error) {
	if name.Schema != "" {
		return name, nil
	}
	results, err := session.Do(ctx, s.config.Dialect.Describe(name.Name))
	if err != nil || len(results[0].Rows) == 0 {
		return name, err
	}
	if schema, has := strings.CutSuffix(results[0].Rows[0][0], "."+name.Name); has {
		name.Schema = schema
	}
	return name, nil
}

// KeptPairs says in which table key-value pairs are. It writes nothing.
func (s *Sink) KeptPairs(ctx context.Context) (TableName, error) {
	if s.config.Settings.Mode != ModeCopy {
		return TableName{}, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "options." + optionMode.Name, Value: string(s.config.Settings.Mode), Permanent: true,
			Detail: "keeps changes, not rows, so there is nothing that could be as the source is", Cure: "compare a changefeed with mode=copy",
		}
	}
	name := TableName{Name: s.config.Settings.Table}
	if schema, table, found := strings.Cut(name.Name, "."); found {
		name = TableName{Schema: schema, Name: table}
	}
	err := s.with(ctx, "look at the table", func(session Session) error {
		results, err := session.Do(ctx, s.config.Dialect.Describe(s.config.Settings.Table))
		if err != nil {
			return err
		}
		if len(results[0].Rows) == 0 {
			return &changefeed.Fault{
				Code: changefeed.CodeSinkLost, Field: "sink", Value: s.config.Name, Detail: "has no table " + name.String(),
				Cure: "let the changefeed run: it makes the table, or says what is needed",
			}
		}
		name, err = s.found(ctx, session, name)
		return err
	})
	return name, err
}

// PairColumns are the names of the columns that a copy of key-value pairs has, the key's first, as its rows have them.
func PairColumns() []string {
	columns := ColumnsOf(ModeCopy)
	out := make([]string, len(columns))
	for i := range columns {
		out[i] = columns[i].Name
	}
	return out
}
