package verifysql

import (
	"context"
	"strings"

	"fencerow/kv"
	"fencerow/verify"
	"fencerow/verify/verifyetcd"
)

// PairServer is a [Server] with tables of key-value pairs.
type PairServer interface {
	Server
	// Quote writes a name for a statement.
	Quote(name string) string
	// Bytes writes bytes for a statement.
	Bytes(value []byte) string
	// Raw returns the bytes that a cell of bytes stands for.
	Raw(cell []byte) ([]byte, error)
}

// Pairs is a table of key-value pairs as a prefix of an etcd has them. Keys are compared by their bytes at both sides, so that chunks
// are the same.
type Pairs struct {
	PairServer
	// From is the table as statements have it.
	From string
	// Prefix is what all keys of the source begin with.
	Prefix string
	// Columns are the names of key, value, create revision, revision, version and lease.
	Columns []string
	Version string // see [Table]
}

var _ verify.Side = (*Pairs)(nil)

// scan reads pairs.
func (p *Pairs) scan(ctx context.Context, tail string, begin func(), each func(verify.Row)) error {
	out := []string{"''"}
	if p.Version != "" {
		out[0] = p.Version
	}
	for _, name := range p.Columns {
		out = append(out, p.Quote(name))
	}
	return p.Read(ctx, "SELECT "+strings.Join(out, ", ")+" FROM "+p.From+tail, begin, func(cells [][]byte) error {
		if len(cells) != len(out) {
			return errCells
		}
		for i := 1; i <= 2; i++ { // key and value
			var err error
			if cells[i], err = p.Raw(cells[i]); err != nil {
				return err
			}
		}
		if key, inside := strings.CutPrefix(string(cells[1]), p.Prefix); inside { // conditions ask for no other
			each(verifyetcd.RowOf(key, string(cells[0]), cells[2:]))
		}
		return nil
	})
}

// within is the condition that a key lies in a chunk.
func (p *Pairs) within(chunk verify.Chunk) string {
	key := p.Quote(p.Columns[0])
	out := " WHERE " + key + " >= " + p.Bytes([]byte(p.Prefix+chunk.From))
	end := kv.PrefixEnd(p.Prefix)
	if chunk.To != "" {
		end = p.Prefix + chunk.To
	}
	if end != "\x00" { // all that follow
		out += " AND " + key + " < " + p.Bytes([]byte(end))
	}
	return out + " ORDER BY " + key
}

// Sum implements [verify.Side].
func (p *Pairs) Sum(ctx context.Context, chunk verify.Chunk) (verify.Sum, error) {
	sum := verifyetcd.NewSum()
	err := p.scan(ctx, p.within(chunk)+limit(sumRowsMax), func() { sum = verifyetcd.NewSum() }, func(row verify.Row) { sum.Add(row) })
	return sum.Sum(), err
}

// List implements [verify.Side].
func (p *Pairs) List(ctx context.Context, chunk verify.Chunk, rowsMax int) ([]verify.Row, error) {
	return p.rows(ctx, p.within(chunk)+limit(rowsMax))
}

// Look implements [verify.Side].
func (p *Pairs) Look(ctx context.Context, _ string, keys []string) ([]verify.Row, error) {
	if len(keys) == 0 {
		return nil, nil
	}
	literals := make([]string, len(keys))
	for i, key := range keys {
		literals[i] = p.Bytes([]byte(p.Prefix + key))
	}
	return p.rows(ctx, " WHERE "+p.Quote(p.Columns[0])+" IN ("+strings.Join(literals, ", ")+")")
}

func (p *Pairs) rows(ctx context.Context, tail string) (out []verify.Row, err error) {
	err = p.scan(ctx, tail, func() { out = nil }, func(row verify.Row) { out = append(out, row) })
	return out, err
}
