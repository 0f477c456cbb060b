package postgres

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"fencerow/change"
)

// listed is a table that could be followed.
type listed struct {
	oid          uint32
	schema, name string
	identified   bool // its rows have an identity, also in all partitions
	owned        bool // we may put it into a publication
	readable     bool
}

func (l listed) String() string { return l.schema + "." + l.name }

// candidatesSQL lists the tables that can be followed. A partitioned table stands for its partitions. Unlogged and temporary
// tables are not in the log.
const candidatesSQL = `SELECT c.oid, n.nspname, c.relname,
	NOT EXISTS (
		SELECT FROM (SELECT c.oid AS leaf UNION SELECT t.relid FROM pg_partition_tree(c.oid) t) p JOIN pg_class l ON l.oid = p.leaf
		WHERE l.relreplident <> 'f' AND NOT EXISTS (SELECT FROM pg_index i WHERE i.indrelid = l.oid AND
			(l.relreplident = 'd' AND i.indisprimary AND i.indimmediate OR l.relreplident = 'i' AND i.indisreplident))),
	pg_has_role(c.relowner, 'USAGE'), has_table_privilege(c.oid, 'SELECT')
	FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
	WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p' AND NOT c.relispartition
		AND n.nspname NOT LIKE 'pg\_%' AND n.nspname NOT IN ('information_schema', '` + ownSchema + `')
	ORDER BY n.nspname, c.relname`

// candidates returns the tables that the patterns match, in order of names.
func (s *Source) candidates(ctx context.Context, c *connection) ([]listed, error) {
	answer, err := c.query(ctx, candidatesSQL)
	if err != nil {
		return nil, fmt.Errorf("list the tables: %w", err)
	}
	var out []listed
	for i := range answer {
		one := listed{
			oid: uint32(answer.number(i, 0)), schema: answer.text(i, 1), name: answer.text(i, 2),
			identified: answer.bool(i, 3), owned: answer.bool(i, 4), readable: answer.bool(i, 5),
		}
		if s.patterns.match(one.schema, one.name) {
			out = append(out, one)
		}
	}
	return out, nil
}

// typeGone is what the server calls a type that it doesn't have any more.
const typeGone = "???"

// typesOf returns the names of the columns' types, with their modifiers, and notes how long they are.
func typesOf(ctx context.Context, c *connection, columns []relationColumn) ([]string, error) {
	oids, modifiers := make([]string, len(columns)), make([]string, len(columns))
	for i, column := range columns {
		oids[i], modifiers[i] = strconv.FormatUint(uint64(column.typeOID), 10), strconv.Itoa(int(column.modifier))
	}
	answer, err := c.query(ctx, `SELECT format_type(t.oid, t.modifier), coalesce(p.typlen, 0)
		FROM unnest($1::oid[], $2::int[]) WITH ORDINALITY t(oid, modifier, place) LEFT JOIN pg_type p ON p.oid = t.oid ORDER BY t.place`,
		arrayOf(oids), arrayOf(modifiers))
	if err != nil || len(answer) != len(columns) {
		return nil, fmt.Errorf("name types: %w", cmp.Or(err, errNoAnswer))
	}
	out := make([]string, len(columns))
	for i := range answer {
		out[i] = answer.text(i, 0)
		columns[i].length = int(answer.number(i, 1))
	}
	return out, nil
}

// arrayOf writes numbers as an array.
func arrayOf(numbers []string) string { return "{" + strings.Join(numbers, ",") + "}" }

// describe returns the tables with these numbers, as the catalog has them now; those that are gone are missing.
func describe(ctx context.Context, c *connection, oids ...uint32) (map[uint32]*catalogTable, error) {
	list := make([]string, len(oids))
	for i, oid := range oids {
		list[i] = strconv.FormatUint(uint64(oid), 10)
	}
	array := arrayOf(list)
	answer, err := c.query(ctx, `SELECT c.oid, n.nspname, c.relname, c.relreplident,
		(SELECT string_agg(k.number::text, ' ' ORDER BY k.place) FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k(number, place)
			WHERE i.indrelid = c.oid AND k.place <= i.indnkeyatts AND CASE c.relreplident
				WHEN 'i' THEN i.indisreplident WHEN 'n' THEN false ELSE i.indisprimary AND i.indimmediate END)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY ($1::oid[])`, array)
	if err != nil {
		return nil, fmt.Errorf("describe tables: %w", err)
	}
	out := make(map[uint32]*catalogTable, len(answer))
	for i := range answer {
		table := &catalogTable{schema: answer.text(i, 1), name: answer.text(i, 2), identity: answer[i][3][0]}
		for number := range strings.FieldsSeq(answer.text(i, 4)) {
			n, err := strconv.Atoi(number)
			if err != nil {
				return nil, fmt.Errorf("describe tables: %w", err)
			}
			table.key = append(table.key, n)
		}
		out[uint32(answer.number(i, 0))] = table
	}
	answer, err = c.query(ctx, `SELECT attrelid, attnum, attname, atttypid, coalesce(format_type(nullif(atttypid, 0), atttypmod), ''),
		NOT attnotnull, attgenerated <> '', attisdropped, atttypmod, (attmissingval::text::text[])[1], attlen
		FROM pg_attribute WHERE attrelid = ANY ($1::oid[]) AND attnum > 0 ORDER BY attrelid, attnum`, array)
	if err != nil {
		return nil, fmt.Errorf("describe tables: %w", err)
	}
	for i := range answer {
		if table := out[uint32(answer.number(i, 0))]; table != nil {
			table.columns = append(table.columns, catalogColumn{
				number: int(answer.number(i, 1)), name: answer.text(i, 2), typeOID: uint32(answer.number(i, 3)), typeName: answer.text(i, 4),
				null: answer.bool(i, 5), generated: answer.bool(i, 6), dropped: answer.bool(i, 7),
				modifier: int32(answer.number(i, 8)), added: addedOf(answer[i][9]),
				length: int(answer.number(i, 10)),
			})
		}
	}
	return out, nil
}

// addedOf is what the rows of a table hold in a column that was added later, as long as the table was not written anew.
func addedOf(missing []byte) change.Added {
	if missing == nil || len(missing) > change.AddedBytesMax {
		return change.Added{}
	}
	return change.Added{Known: true, Text: string(missing)}
}
