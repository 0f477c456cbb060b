package mysql

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync/atomic"

	driverpkg "github.com/go-sql-driver/mysql"

	"fencerow/change"
	"fencerow/sink/sqlsink"
)

const (
	// loadFrom is from how many rows on they are read by LOAD DATA: it takes a server about half as long, and more round trips.
	loadFrom = 500
	// loadChunkBytes is how much of it is made at a time: what goes in one message of the driver's.
	loadChunkBytes = 16 << 10
	// unfitMax bounds the tables that a connection remembers as those whose rows don't go in by LOAD DATA.
	unfitMax = 256
	// lostMax is how many connections in a row may be lost in LOAD DATA until nothing is loaded any more.
	lostMax = 3
)

// loading is what the connections of one sink know of LOAD DATA. Who stands between us and the server may end a connection for it, so
// that it would be tried for ever.
type loading struct{ lost atomic.Int32 } // connections in a row

func (l *loading) off() bool { return l.lost.Load() >= lostMax }

// settings of a server that LOAD DATA depends on.
const loadSettings = "'local_infile', 'wsrep_on'"

// loads reports whether a server of this version, with these settings, takes rows by LOAD DATA as part of a transaction. A cluster of
// Galera's may commit in the middle of it, as may what only speaks like these servers.
func loads(version string, settings [][]string) bool {
	local := false
	if strings.Contains(version, "TiDB") {
		return false
	}
	for _, setting := range settings {
		on := setting[1] == "ON" || setting[1] == "1"
		switch {
		case setting[0] == "local_infile":
			local = on
		case on:
			return false
		}
	}
	return local
}

// load returns the statement that reads the rows of a step, without its beginning, which names what is read; false if they are to go in
// statements of their own. Bytes that are no text can't be told from it there.
func (s *steps) load() (sqlsink.Statement, bool) {
	if len(s.step.Rows) < loadFrom {
		return sqlsink.Statement{}, false
	}
	for i := range s.columns {
		if s.columns[i].form == formBytes {
			return sqlsink.Statement{}, false
		}
	}
	return sqlsink.Statement{
		Text:    "INTO TABLE " + s.table + " CHARACTER SET utf8mb4 " + namesOf(s.columns),
		Touches: len(s.step.Rows),
		Data:    func() io.Reader { return &loadReader{columns: s.columns, rows: s.step.Rows} },
		Apart:   func() ([]sqlsink.Statement, error) { return s.insert("") },
	}, true
}

// loadReader reads as the rows of a step in the form that LOAD DATA takes if it isn't told of another, which is that of lines. It makes
// them as they are read, so that the server works meanwhile.
type loadReader struct {
	columns []field
	rows    []sqlsink.StepRow
	chunk   []byte
	from    int // what of the chunk was not read
}

// Read implements [io.Reader]. A cell that its column can't hold is an error.
func (r *loadReader) Read(p []byte) (int, error) {
	if r.from == len(r.chunk) {
		if err := r.fill(); err != nil {
			return 0, err
		}
	}
	if r.from == len(r.chunk) {
		return 0, io.EOF
	}
	n := copy(p, r.chunk[r.from:])
	r.from += n
	return n, nil
}

func (r *loadReader) fill() error {
	if r.chunk == nil {
		r.chunk = make([]byte, 0, loadChunkBytes+loadChunkBytes/8)
	}
	out := r.chunk[:0]
	for len(r.rows) > 0 && len(out) < loadChunkBytes {
		for i := range r.columns {
			if i > 0 {
				out = append(out, '\t')
			}
			value, err := r.columns[i].valueOf(r.rows[0].Cells[r.columns[i].At])
			if err != nil {
				return err
			}
			out = change.AppendCell(out, value)
		}
		out = append(out, '\n')
		r.rows = r.rows[1:]
	}
	r.chunk, r.from = out, 0
	return nil
}

// loadpoint is where a LOAD DATA begins.
const loadpoint = "fencerow_load"

// load does a statement that reads rows. Of what is wrong with a row the server says no more than that something is, and goes on, with
// another value or without the row. Then they are taken back, and go in statements of their own, as they do where none are read.
func (s *session) load(ctx context.Context, statement sqlsink.Statement, at int) error {
	if s.open && s.loads && !s.loading.off() && !s.unfit[statement.Text] {
		exact, err := s.loaded(ctx, statement)
		if exact || err != nil {
			return err
		}
		if len(s.unfit) >= unfitMax {
			clear(s.unfit)
		}
		s.unfit[statement.Text] = true
	}
	apart, err := statement.Apart()
	if err != nil {
		return err
	}
	_, err = s.Do(ctx, apart...)
	if refused, ok := errors.AsType[*sqlsink.Refused](err); ok {
		return &sqlsink.Refused{Statement: at, Reason: refused.Reason, Err: refused.Err}
	}
	return err
}

// loaded reports whether the server read the rows, and stored them all as they are. If not, they are taken back.
func (s *session) loaded(ctx context.Context, statement sqlsink.Statement) (exact bool, err error) {
	name := prefix + rand.Text() // the server tells us what it wants to read: nobody else's rows
	driverpkg.RegisterReaderHandler(name, statement.Data)
	defer driverpkg.DeregisterReaderHandler(name)
	affected, err := s.exec(ctx, []sqlsink.Statement{
		{Text: "SAVEPOINT " + loadpoint}, {Text: "LOAD DATA LOCAL INFILE 'Reader::" + name + "' " + statement.Text},
	})
	if err == nil && affected[1] == int64(statement.Touches) {
		told, err := s.query(ctx, sqlsink.Statement{Text: "SELECT @@warning_count", Rows: true})
		if err != nil {
			return false, refusal(err, 0)
		}
		s.loading.lost.Store(0)
		if told.Rows[0][0] == "0" {
			return true, nil
		}
	}
	if _, failed := s.exec(ctx, []sqlsink.Statement{{Text: "ROLLBACK TO " + loadpoint}}); failed != nil {
		if err == nil {
			err = failed
		}
		if _, answered := errors.AsType[*driverpkg.MySQLError](err); !answered && ctx.Err() == nil {
			s.loading.lost.Add(1)
		}
		return false, fmt.Errorf("LOAD DATA: %w", refusal(err, 0))
	}
	return false, nil
}
