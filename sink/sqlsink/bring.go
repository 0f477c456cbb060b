package sqlsink

import (
	"context"
	"errors"
	"slices"
	"strings"

	"go.uber.org/zap"

	"fencerow/change"
	"fencerow/sink"
)

// A table of the target is brought to the form of the source's by whoever first has a row of it, or a row of another form: under
// the head's lock, so that it happens once. What it was brought to is kept with the mark of the row that brought it. A row
// below that mark is of an older form, of a span that lags, and is only mapped; so forms never go back.

// place is a table of the target as one writer knows it.
type place struct {
	source TableName
	table  *Table
	of     *change.Relation // what it was brought to last; nil: a table that was only emptied
	at     change.Mark      // of the first row that is known to have this form
	fresh  bool             // it was empty when it became the changefeed's
	owed   bool             // it has not got its key yet
	same   bool             // rows are there that the source updates, and none that it creates: so far it was so
	bound  map[*change.Relation]*binding
	named  map[*change.Relation]*change.Relation // forms with columns whose numbers the source has lost, and the same with those that we had
}

// boundMax bounds the forms that a writer remembers of one table.
const boundMax = 64

// wanted is a table that a batch writes, and the form of its rows.
type wanted struct {
	source TableName
	of     *change.Relation // nil: only that it is emptied
	at     change.Mark
	mayOwe bool // it may do without its key
	leads  bool // the batch has nothing of an earlier position
}

// settled reports whether rows of this form can be written to the place as it is known.
func (p *place) settled(want wanted) bool {
	return p != nil && (!p.owed || want.mayOwe) && (want.of == nil || p.of != nil && (sameRelation(p.of, p.numbered(want.of)) || want.at.Before(p.at)))
}

// known returns what the table was brought to; nil if of its columns nothing is known.
func (p *place) known() *change.Relation {
	if p.of == nil || len(p.of.Columns) == 0 {
		return nil
	}
	return p.of
}

// live reports whether the form came with a change. Pages of a snapshot may show a form that changes after them don't have yet.
func (p *place) live() bool { return p.at.Index > 0 }

// bring begins a data transaction in which the tables get the forms that are wanted, and leaves it open. It returns the places
// as they are if the transaction commits.
func (w *tableWriter) bring(ctx context.Context, move Statement, wants []wanted) (map[TableName]*place, error) {
	s := w.sink.statements
	commits := w.sink.config.Tables.CommitsDDL()
	if commits { // what is written before a statement that commits must not have moved on
		var err error
		if move, err = s.move(w.head, w.n, w.held.Pieces(w.n)); err != nil {
			return nil, err
		}
	}
	results, err := w.session.Do(ctx, begin(), s.lockHead(), move, s.readTables(w.head))
	if err != nil {
		return nil, err
	}
	rows, err := readTables(results[3].Rows)
	if err != nil {
		return nil, err
	}
	out := make(map[TableName]*place, len(wants))
	for _, want := range wants {
		at, found := out[want.source]
		if !found {
			if at, err = w.look(ctx, want.source, rows); err != nil {
				return nil, err
			}
		}
		if at != nil && at.owed && !want.mayOwe {
			if at, err = w.payKey(ctx, at); err != nil {
				return nil, err
			}
		}
		if at.settled(want) {
			out[want.source] = at
			continue
		}
		if at, err = w.form(ctx, want, at); err != nil {
			return nil, err
		}
		out[want.source] = at
	}
	if commits {
		return out, w.commit(ctx, nil)
	}
	return out, nil
}

// ddl makes or alters a table. Where that commits by itself, the transaction begins anew, with the same lock, if the claim still
// stands. Crash in between: the table is as it will be wanted, and nothing says so yet.
func (w *tableWriter) ddl(ctx context.Context, name TableName, statements []Statement) error {
	_, err := w.session.Do(ctx, statements...)
	if refused, ok := errors.AsType[*Refused](err); ok && (refused.Reason == RefusedRow || refused.Reason == RefusedDuplicate || refused.Reason == RefusedOther) {
		return notAltered(name, statements[min(refused.Statement, len(statements)-1)].Text, err)
	}
	if err != nil || !w.sink.config.Tables.CommitsDDL() {
		return err
	}
	move, err := w.sink.statements.move(w.head, w.n, w.held.Pieces(w.n))
	if err != nil {
		return err
	}
	_, err = w.session.Do(ctx, begin(), w.sink.statements.lockHead(), move)
	return w.compared(err)
}

// look reads what is known of a table; nil if it is not the changefeed's yet.
func (w *tableWriter) look(ctx context.Context, source TableName, rows []tableRecord) (*place, error) {
	i := slices.IndexFunc(rows, func(row tableRecord) bool { return row.source == sourceText(source) })
	if i < 0 {
		return nil, nil //nolint:nilnil // there is none
	}
	name := w.target(source)
	if rows[i].target != name.String() {
		return nil, movedTable(source, rows[i].target, name.String())
	}
	table, err := w.describe(ctx, name)
	if err != nil {
		return nil, err
	}
	if table == nil {
		return nil, w.sink.tableLost(name.String())
	}
	out := &place{
		source: source, table: table, of: rows[i].of, at: rows[i].at, fresh: rows[i].fresh, same: true,
		bound: make(map[*change.Relation]*binding),
	}
	out.owed = w.owes(out)
	return out, nil
}

func (w *tableWriter) target(source TableName) TableName {
	return w.sink.config.Settings.Naming.Target(source.Schema, source.Name, w.sink.config.Tables)
}

// describe reads the catalog; nil if there is no such table.
func (w *tableWriter) describe(ctx context.Context, name TableName) (*Table, error) {
	results, err := w.session.Do(ctx, w.sink.config.Tables.ReadColumns(name), w.sink.config.Tables.ReadUnique(name))
	if err != nil {
		return nil, err
	}
	return readTable(name, results[0].Rows, results[1].Rows)
}

// form brings one table to a form, with what is known of it, and notes it.
func (w *tableWriter) form(ctx context.Context, want wanted, held *place) (*place, error) {
	next := held
	if held == nil {
		first, err := w.first(ctx, want)
		if err != nil || first == nil {
			return nil, err
		}
		next = first
	}
	if want.of == nil { // of its columns nothing is known yet
		want.of = &change.Relation{Schema: want.source.Schema, Name: want.source.Name}
	}
	out := *next
	if as := withNumbers(want.of, next.known()); as != want.of {
		out.named, want.of = next.naming(want.of, as), as
	}
	applied, err := w.alter(ctx, want, next)
	if err != nil {
		return nil, err
	}
	out.of, out.at, out.bound = want.of, want.at, make(map[*change.Relation]*binding)
	if len(applied) > 0 {
		if out.table, err = w.describe(ctx, next.table.Name); err != nil {
			return nil, err
		}
	}
	return &out, w.note(ctx, &out, applied)
}

// first looks at a table that is not the changefeed's yet, and makes it if it is not there; nil if it is only to be emptied.
func (w *tableWriter) first(ctx context.Context, want wanted) (*place, error) {
	name := w.target(want.source)
	if err := w.free(ctx, name); err != nil {
		return nil, err
	}
	table, err := w.describe(ctx, name)
	if err != nil {
		return nil, err
	}
	out := &place{source: want.source, table: table, fresh: table == nil, same: true}
	if table == nil && want.of == nil {
		return nil, nil //nolint:nilnil // there is none
	}
	if table == nil {
		columns, err := w.columnsFor(ctx, want.of)
		if err != nil {
			return nil, err
		}
		if out.owed = want.mayOwe && len(keyOf(want.of)) > 0; out.owed {
			columns = withoutKey(columns)
		}
		if err := w.create(ctx, want.of, name, columns); err != nil {
			return nil, err
		}
		out.table, err = w.describe(ctx, name)
		return out, err
	}
	results, err := w.session.Do(ctx, query("SELECT CASE WHEN EXISTS (SELECT 1 FROM "+w.sink.config.Tables.Full(name)+") THEN 1 ELSE 0 END"))
	if err != nil {
		return nil, err
	}
	out.fresh = len(results[0].Rows) == 1 && results[0].Rows[0][0] == "0"
	return out, nil
}

// free refuses a table that somebody else writes, or that another table of the same source is written to.
func (w *tableWriter) free(ctx context.Context, name TableName) error {
	results, err := w.session.Do(ctx, w.sink.statements.holderOf(name.String()))
	if err != nil {
		return err
	}
	holder, err := headOf(results[0])
	switch {
	case err != nil:
		return err
	case !holder.Exists():
		return nil
	case holder.id != w.head:
		return sink.InUse(holder.Identity)
	default:
		return twoTables(name)
	}
}

// create makes a table with these columns.
func (w *tableWriter) create(ctx context.Context, of *change.Relation, name TableName, columns []change.Column) error {
	alterations := []Alteration{{Kind: AlterCreate, Columns: columns}}
	if name.Schema != "" {
		alterations = append([]Alteration{{Kind: AlterSchema, Name: name.Schema}}, alterations...)
	}
	var statements []Statement
	for _, alteration := range alterations {
		statements = append(statements, exec(w.sink.config.Tables.Alter(name, alteration)))
	}
	if !w.sink.config.Settings.Create {
		return w.sink.missingTable(of, name, statements[len(statements)-1].Text)
	}
	return w.ddl(ctx, name, statements)
}

// columnsFor returns the columns that a table made for a relation gets: those that the source computes are left out, and types
// that the target has not are text.
func (w *tableWriter) columnsFor(ctx context.Context, of *change.Relation) ([]change.Column, error) {
	var out []change.Column
	for _, column := range of.Columns {
		if !column.Generated {
			column.Name = w.sink.config.Settings.Naming.Column(of, column.Name)
			out = append(out, column)
		}
	}
	return w.known(ctx, out)
}

// known gives columns whose types the target has not the type text.
func (w *tableWriter) known(ctx context.Context, columns []change.Column) ([]change.Column, error) {
	typed, ok := w.sink.config.Tables.(UserTypes)
	if !ok {
		return columns, nil
	}
	ask, needed := typed.ReadTypes(columns)
	if !needed {
		return columns, nil
	}
	results, err := w.session.Do(ctx, ask)
	if err != nil {
		return nil, err
	}
	out := slices.Clone(columns)
	for _, row := range results[0].Rows {
		for i := range out {
			if len(row) > 0 && out[i].Type == row[0] {
				out[i].Type, out[i].Kind = "text", change.KindText
			}
		}
	}
	return out, nil
}

// alter does what a table lacks, or says what is to be done.
func (w *tableWriter) alter(ctx context.Context, want wanted, held *place) ([]string, error) {
	settings := w.sink.config.Settings
	if len(want.of.Columns) == 0 {
		return nil, nil
	}
	next, err := w.withKnownTypes(ctx, want.of)
	if err != nil {
		return nil, err
	}
	found := comparison{
		naming: settings.Naming, dialect: w.sink.config.Tables, target: held.table, last: held.known(), live: held.live(), next: next,
	}.differences()
	if held.owed {
		found = slices.DeleteFunc(found, func(d difference) bool { return d.Kind == AlterKey })
	}
	do, refused := decide(settings.Schema, found)
	if !refused && len(do) == 0 {
		return nil, nil
	}
	if err := w.barrier(ctx, want, held); err != nil {
		return nil, err
	}
	if refused {
		return nil, w.sink.misfit(want.of, held.table.Name, found)
	}
	var texts []string
	var statements []Statement
	for _, d := range do {
		texts = append(texts, w.sink.config.Tables.Alter(held.table.Name, d.Alteration))
		statements = append(statements, exec(texts[len(texts)-1]))
	}
	if err := w.endOthers(ctx, pageFor(want.source, nil).span); err != nil {
		return nil, err
	}
	w.sink.config.Logger.Info("a table of the target is altered as the source was",
		zap.Stringer("changefeed", w.sink.config.Identity.Changefeed), zap.Stringer("table", held.table.Name), zap.Strings("statements", texts),
		zap.Stringer("position", want.at))
	return texts, w.ddl(ctx, held.table.Name, statements)
}

func (w *tableWriter) withKnownTypes(ctx context.Context, of *change.Relation) (*change.Relation, error) {
	columns, err := w.known(ctx, of.Columns)
	return &change.Relation{Schema: of.Schema, Name: of.Name, Columns: columns}, err
}

// decide says which differences are done away with, and whether the rest keeps rows from being written.
func decide(schema Schema, found []difference) (do []difference, refused bool) {
	for _, d := range found {
		switch {
		case schema == SchemaEvolve && d.safe:
			do = append(do, d)
		case d.needed && (schema != SchemaIgnore || d.Kind == AlterKey || d.Kind == AlterNull):
			return nil, true
		}
	}
	return do, false
}

// note registers a table, or what it was brought to.
func (w *tableWriter) note(ctx context.Context, at *place, applied []string) error {
	text, err := encodeRelation(at.of)
	if err != nil {
		return err
	}
	record := tableRecord{
		source: sourceText(at.source), target: at.table.Name.String(), at: at.at, fresh: at.fresh, relation: text,
		altered: strings.Join(applied, "; "),
	}
	_, err = w.session.Do(ctx, w.sink.statements.putTable(w.head, record)...)
	return err
}

// sourceText is the name of a source's table without doubt about where the schema ends.
func sourceText(name TableName) string {
	start, _ := change.TableSpan(name.Schema, name.Name)
	return strings.TrimSuffix(string(start), ":")
}
