//go:build databases

package postgres_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/source"
	"fencerow/source/postgres"
)

// linesReader takes the pages apart that came as lines, and counts them.
type linesReader struct {
	source.Reader
	count int
}

func (r *linesReader) Next(ctx context.Context) (source.Event, error) {
	event, err := r.Reader.Next(ctx)
	if err != nil || event.Lines == nil {
		return event, err
	}
	r.count++
	event.Changes, err = event.Lines.Changes(event.To.Position)
	return event, err
}

// openLines reads as a sink that takes lines does.
func openLines(t *testing.T, s *postgres.Source, spans ...changefeed.Span) *linesReader {
	t.Helper()
	request := source.Request{Lines: true}
	for _, span := range spans {
		request.Pieces = append(request.Pieces, source.Piece{Span: span})
	}
	reader, err := s.Read(t.Context(), request)
	require.NoError(t, err)
	return &linesReader{Reader: reader}
}

// bothForms are how pages are read: as changes, and as lines.
var bothForms = map[string]func(*testing.T, *postgres.Source, ...changefeed.Span) source.Reader{
	"changes": openPages,
	"lines": func(t *testing.T, s *postgres.Source, spans ...changefeed.Span) source.Reader {
		t.Helper()
		return openLines(t, s, spans...)
	},
}

// lined reads to the end. It returns how many pages were lines.
func lined(t *testing.T, s *postgres.Source, spans ...changefeed.Span) (events []source.Event, asLines int) {
	t.Helper()
	reader := openLines(t, s, spans...)
	defer func() { require.NoError(t, reader.Close()) }()
	events = toEnd(t, reader)
	checkPages(t, events, spans)
	return events, reader.count
}

const oddRows = `CREATE TABLE odd (id int PRIMARY KEY, a text, b bytea, c text[], d jsonb, e timestamptz, f numeric, g boolean, h text GENERATED ALWAYS AS (a || '!') STORED);
	INSERT INTO odd (id, a, b, c, d, e, f, g) VALUES (-3, NULL, NULL, NULL, NULL, NULL, NULL, NULL), (0, '', '', '{}', '{}', 'infinity', 'NaN', false),
		(1, E'\t\n\r\b\f\v\\', '\x005c09', ARRAY[E'\t', E'\\', NULL, '', '"'], '{"a": "\t\\"}', '0044-03-15 BC', 1e-20, true),
		(2, '\N', 'a', '{NULL,"NULL"}', '"\\N"', 'epoch', -0, NULL), (3, '\.', '\\', ARRAY[E'a\nb'], 'null', now(), 'infinity', true);
	INSERT INTO odd (id, a) SELECT i, chr(i) FROM generate_series(10, 700) i;
	CREATE TABLE words (word text, n int, PRIMARY KEY (n, word)); INSERT INTO words SELECT E'\\' || chr(i) || E'\t', i % 7 FROM generate_series(1, 300) i;
	CREATE TABLE plain (n int); INSERT INTO plain VALUES (1); CREATE TABLE none (id int PRIMARY KEY)`

// evenRows are of the types whose rows go in binary form, at their edges and by chance.
const evenRows = `CREATE TABLE even (id bigint, word varchar(40), a boolean, b smallint, c int, d numeric, e numeric(12,3), f text, g char(6), h bytea, i uuid,
		j json, k jsonb, l date, m timestamp, n timestamptz(3), PRIMARY KEY (word, id));
	INSERT INTO even (id, word) VALUES (-9223372036854775808, ''), (9223372036854775807, E'\t\n'), (0, '\N'), (0, 'ü😀');
	INSERT INTO even (id, word, b, c, d, l, m, n) VALUES
		(1, 'edge', -32768, -2147483648, 'NaN', 'infinity', 'infinity', 'infinity'), (2, 'edge', 32767, 2147483647, 'infinity', '-infinity', '-infinity', '-infinity'),
		(3, 'edge', 0, 0, '-infinity', '4713-01-01 BC', '4713-01-01 00:00:01 BC', '4713-01-02 BC'), (4, 'edge', 0, 0, 0, '0001-12-31 BC', '0001-01-01 BC', '0001-02-29 23:59:59.999 BC'),
		(5, 'edge', 0, 0, -0.0, '0001-01-01', '0001-01-01 00:00:00.1', '1970-01-01'), (6, 'edge', 0, 0, 1e300, '5874897-12-31', '294276-12-31 23:59:59.999999', '294276-12-31'),
		(7, 'edge', 0, 0, -1e-300, '1999-12-31', '1999-12-31 23:59:59.999999', '2000-01-01 00:00:00.001'), (8, 'edge', 0, 0, 9999.9999, '2000-02-29', '10000-01-01', '9999-12-31'),
		(9, 'edge', 0, 0, 10000.00010, '2000-03-01', '2000-01-01 00:00:00.000001', '2000-01-01 00:00:00.12');
	INSERT INTO even (id, word, h, i, j, k, f, g) VALUES (1, 'text', '', '00000000-0000-0000-0000-000000000000', '{"a":  1}', '{"a":  1, "a": 2}', '', ''),
		(2, 'text', '\xff00', 'ffffffff-ffff-ffff-ffff-ffffffffffff', 'null', 'null', E'\\', 'ab'), (3, 'text', '\x5c', NULL, '"\\"', '"\n"', E'\r', 'abcdef');
	INSERT INTO even SELECT i, md5(i::text), i % 2 = 0, i % 30000, i * 7919, (random() - 0.5)::numeric * 10::numeric ^ (i % 60 - 30)::numeric, (random() * 1e6)::numeric - 5e5,
		repeat(chr(i), i % 9), chr(96 + i % 20), decode(md5(i::text), 'hex'), md5(i::text)::uuid, to_json(i), to_jsonb(md5(i::text)),
		'2000-01-01'::date + (i * 7919 % 4000000 - 2000000), '2000-01-01'::timestamp + (random() - 0.5) * interval '5000 years', '2000-01-01'::timestamptz + (random() - 0.5) * interval '4000 years'
		FROM generate_series(10, 900) i`

// The text of a row in binary form is what the server itself writes, to the letter.
func TestSnapshotInBinaryFormIsTheSame(t *testing.T) {
	d := newWorld(t)
	d.exec(evenRows)
	d.prepare()
	for _, rows := range []string{"1", "7", "10000"} {
		s := d.paged(rows)
		want := rowsOf(t, all(t, s, changefeed.Whole()))
		require.Len(t, want, 4+9+3+891)
		events, _ := lined(t, s, changefeed.Whole())
		got := rowsOf(t, events)
		require.Len(t, got, len(want))
		for key, row := range want {
			require.Equal(t, row, got[key], "%q", key)
		}
		for _, event := range events {
			require.True(t, event.Lines == nil || event.Lines.Form == change.LinesBinary)
		}
	}
}

// Lines are the rows that the snapshot has otherwise, in pages that lie the same.
func TestSnapshotAsLinesIsTheSame(t *testing.T) {
	d := newWorld(t)
	d.exec(oddRows)
	d.prepare()
	for _, rows := range []string{"1", "7", "1000"} {
		s := d.paged(rows)
		want := rowsOf(t, all(t, s, changefeed.Whole()))
		events, asLines := lined(t, s, changefeed.Whole())
		require.Equal(t, want, rowsOf(t, events))
		require.Positive(t, asLines)
		for _, event := range events {
			if len(event.Changes) > 0 {
				table := event.Changes[0].Table
				require.Equal(t, table != "public.plain", event.Lines != nil, "a table without key is one page: %s", table)
			}
		}
		border := []byte("public.odd:0000000000000000100")
		below, _ := lined(t, s, changefeed.Span{End: border})
		above, _ := lined(t, s, changefeed.Span{Start: border})
		require.Equal(t, want, rowsOf(t, append(below, above...)))
	}
}
