package postgres

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"fencerow/changefeed"
)

// membership is in which of our publications a table is.
type membership struct {
	oid              uint32
	schema, name     string
	inMain, inAppend bool
}

// publications are ours as they are now.
type publications struct {
	main, append bool // there is one
	members      map[uint32]*membership
	names        names
}

func (s *Source) publications(ctx context.Context, c *connection) (publications, error) {
	out := publications{members: make(map[uint32]*membership)}
	answer, err := c.query(ctx, `SELECT p.pubname = $1, r.prrelid, n.nspname, t.relname FROM pg_publication p
		LEFT JOIN pg_publication_rel r ON r.prpubid = p.oid LEFT JOIN pg_class t ON t.oid = r.prrelid LEFT JOIN pg_namespace n ON n.oid = t.relnamespace
		WHERE p.pubname IN ($1, $2)`, s.slotName(), s.appendName())
	if err != nil {
		return out, fmt.Errorf("read the publications: %w", err)
	}
	for i := range answer {
		isMain := answer.bool(i, 0)
		out.main, out.append = out.main || isMain, out.append || !isMain
		if answer[i][1] == nil {
			continue
		}
		oid := uint32(answer.number(i, 1))
		one := out.members[oid]
		if one == nil {
			one = &membership{oid: oid, schema: answer.text(i, 2), name: answer.text(i, 3)}
			out.members[oid] = one
		}
		one.inMain, one.inAppend = one.inMain || isMain, one.inAppend || !isMain
	}
	answer, err = c.query(ctx, `SELECT obj_description(oid, 'pg_publication') FROM pg_publication WHERE pubname = $1`, s.slotName())
	if err != nil {
		return out, fmt.Errorf("read the comment of a publication: %w", err)
	}
	if len(answer) > 0 {
		out.names = readNames(answer.text(0, 0))
	}
	return out, nil
}

// revision is what has to be done for the publications to be as the tables want them.
type revision struct {
	create []string // publications, with what they publish
	join   []listed // tables that are in none yet, or were there under another name
	// alter are statements for tables that are in one, and shall be in the other or in none.
	alter []string
}

// revise compares the publications with the tables that the patterns match.
func (s *Source) revise(now publications, tables []listed) revision {
	var out revision
	main, appending := quoteName(s.slotName()), quoteName(s.appendName())
	if !now.main {
		out.create = append(out.create, "CREATE PUBLICATION "+main+" WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true)")
	}
	if !now.append {
		out.create = append(out.create, "CREATE PUBLICATION "+appending+" WITH (publish = 'insert, truncate', publish_via_partition_root = true)")
	}
	wanted := make(map[uint32]bool, len(tables))
	change := func(publication, what, schema, name string) {
		out.alter = append(out.alter, "ALTER PUBLICATION "+publication+" "+what+" TABLE ONLY "+quoteTable(schema, name))
	}
	for _, table := range tables {
		wanted[table.oid] = true
		member := now.members[table.oid]
		if member == nil {
			out.join = append(out.join, table)
			continue
		}
		if was := now.names[table.oid]; was != "" && was != keptName(table.schema, table.name) {
			out.join = append(out.join, table)
			continue
		}
		// First in, then out: between two statements of one transaction nobody looks.
		if table.identified != member.inMain {
			if table.identified {
				change(main, "ADD", table.schema, table.name)
			} else {
				change(main, "DROP", table.schema, table.name)
			}
		}
		if table.identified == member.inAppend {
			if table.identified {
				change(appending, "DROP", table.schema, table.name)
			} else {
				change(appending, "ADD", table.schema, table.name)
			}
		}
	}
	gone := make([]*membership, 0)
	for oid, member := range now.members {
		if !wanted[oid] {
			gone = append(gone, member)
		}
	}
	slices.SortFunc(gone, func(a, b *membership) int { return cmp.Compare(a.oid, b.oid) })
	for _, member := range gone {
		out.alter = append(out.alter, s.leave(member)...)
	}
	return out
}

// publicationFor returns the publication in which a table belongs.
func (s *Source) publicationFor(table listed) string {
	if table.identified {
		return quoteName(s.slotName())
	}
	return quoteName(s.appendName())
}

// add returns the statements that put tables into the publications they belong to.
func (s *Source) add(tables []listed) []string {
	var out []string
	for _, table := range tables {
		out = append(out, "ALTER PUBLICATION "+s.publicationFor(table)+" ADD TABLE ONLY "+quoteTable(table.schema, table.name))
	}
	return out
}

// leave returns the statements that take a table out of the publications.
func (s *Source) leave(member *membership) []string {
	var out []string
	drop := func(publication string) {
		out = append(out, "ALTER PUBLICATION "+quoteName(publication)+" DROP TABLE ONLY "+quoteTable(member.schema, member.name))
	}
	if member.inMain {
		drop(s.slotName())
	}
	if member.inAppend {
		drop(s.appendName())
	}
	return out
}

// fit returns why tables that the patterns match can't be followed.
func (s *Source) fit(tables []listed) error {
	if len(tables) == 0 {
		return &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "options." + OptionTables, Value: fmt.Sprintf("%.200q", s.patternsText()), Permanent: true,
			Detail: "matches no table of the database",
			Cure:   "name tables as schema.table; a partition is followed with the table it belongs to, unlogged and temporary tables can't be",
		}
	}
	var foreign, keyless []string
	for _, table := range tables {
		if !table.owned {
			foreign = append(foreign, quoteTable(table.schema, table.name))
		}
		if !table.identified && s.requireKey {
			keyless = append(keyless, quoteTable(table.schema, table.name))
		}
	}
	if len(foreign) > 0 {
		return s.hindrance(
			"has tables that "+quoteName(s.server.URI.User)+" does not own, which a publication needs: "+some(foreign),
			"GRANT the role that owns them to "+quoteName(s.server.URI.User)+", or leave them out with --option "+OptionTables+"=…,!schema.table", nil)
	}
	if len(keyless) > 0 {
		return s.hindrance(
			"has tables without a replica identity, and "+OptionRequireKey+"=true: "+some(keyless),
			"give them a primary key, or ALTER TABLE … REPLICA IDENTITY FULL, or leave them out with --option "+OptionTables+"=…,!schema.table", nil)
	}
	return nil
}

func (s *Source) patternsText() string {
	if text, written := s.config.Options[OptionTables]; written {
		return text
	}
	return tablesDefault
}

// someMax is how many names a fault shows.
const someMax = 10

// some lists names, not too many.
func some(names []string) string {
	if len(names) > someMax {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:someMax], ", "), len(names)-someMax)
	}
	return strings.Join(names, ", ")
}
