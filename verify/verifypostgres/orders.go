package verifypostgres

import (
	"context"
	"slices"
	"strings"
)

// Order says in which order a column has its values. Columns with one and the same have the same one.
type Order string

// The orders that have names. Others are those of a collation.
const (
	OrderNatural Order = "natural" // the type's own
	OrderBytes   Order = "bytes"   // of texts, byte by byte
)

// Orders returns the orders of a table's columns, as far as they are known: not those of types that people made, which may have
// any.
func (s *Server) Orders(ctx context.Context, schema, table string) (map[string]Order, error) {
	rows, err := s.ask(ctx, `SELECT a.attname, t.typname, coalesce(l.collprovider::text, ''),
		coalesce(CASE WHEN l.collprovider = 'd' THEN to_jsonb(d)->>'datlocprovider' END, 'c'),
		coalesce(CASE WHEN l.collprovider = 'd' THEN coalesce(to_jsonb(d)->>'datlocale', to_jsonb(d)->>'daticulocale')
			ELSE coalesce(to_jsonb(l)->>'colllocale', to_jsonb(l)->>'colliculocale') END, ''),
		coalesce(CASE WHEN l.collprovider = 'd' THEN d.datcollate ELSE l.collcollate END, '')
		FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_database d ON d.datname = current_database()
		LEFT JOIN pg_collation l ON l.oid = a.attcollation
		WHERE a.attrelid = to_regclass($1) AND a.attnum > 0 AND NOT a.attisdropped AND t.typtype = 'b' AND t.typcategory <> 'A'
			AND t.oid < 16384 AND coalesce(l.collisdeterministic, true)`, quote(schema)+"."+quote(table))
	if err != nil {
		return nil, err
	}
	out := make(map[string]Order, len(rows))
	for _, row := range rows {
		out[string(row[0])] = orderOf(string(row[1]), string(row[2]), string(row[3]), string(row[4]), string(row[5]))
	}
	return out, nil
}

// orderOf names the order of a type under a collation: of a provider, the database's if it is the default one, and of one of the two
// names that it may have.
func orderOf(typeName, provider, database, locale, libc string) Order {
	switch provider {
	case "":
		return OrderNatural
	case "d":
		provider = database
	}
	name := locale
	if provider == "c" {
		name = libc
	}
	out := Order(provider + ":" + name)
	if provider != "i" && slices.Contains([]string{"C", "POSIX", "C.UTF-8", "C.UTF8", "PG_UNICODE_FAST"}, strings.ToUpper(name)) {
		out = OrderBytes
	}
	if typeName == "bpchar" { // spaces at the end are nothing to it
		out += ", padded"
	}
	return out
}
