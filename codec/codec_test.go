package codec

import (
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
)

func newEncoder() *Encoder {
	return NewEncoder(changefeed.ID{Namespace: "default", Name: "orders"}, "u1", fence.Mint(1043, 2))
}

// tableRow is a row of a table, with a key of two columns.
type tableRow struct {
	key  Row
	rest Row
}

func (r tableRow) Columns(yield func(string, any) bool)    { append(r.key, r.rest...).Columns(yield) }
func (r tableRow) KeyColumns(yield func(string, any) bool) { r.key.Columns(yield) }
func (r tableRow) Size() int                               { return r.key.Size() + r.rest.Size() }

func TestChangesReadAsTheContractSays(t *testing.T) {
	const prefix = `{"changefeed":"default/orders","uid":"u1","epoch":1043,"seq":2,`
	kv := &change.KV{Key: []byte("a"), Value: []byte("1"), CreateRevision: 7, ModRevision: 20817, Version: 3, Lease: 7587893178482385152}
	table := tableRow{
		key: Row{{"tenant", int64(-4)}, {"id", uint64(math.MaxUint64)}},
		rest: Row{
			{"f", 1.5},
			{"nan", math.NaN()},
			{"inf", math.Inf(1)},
			{"ninf", math.Inf(-1)},
			{"b", true},
			{"none", nil},
			{"raw", []byte{0xff, 0}},
			{"s", "é\"\\\n\x01"},
			{"bad", "\xff"},
		},
	}
	for name, test := range map[string]struct {
		change change.Change
		want   string
	}{
		"a create of a key-value pair": {
			change.Change{Position: 20817, Op: change.OpCreate, Key: []byte("a"), After: kv},
			`"position":"20817","index":0,"op":"create","key":{"key":"a"},"after":{"key":"a","value":"1","create_revision":"7","mod_revision":"20817","version":3,"lease":"7587893178482385152"}}`,
		},
		"a delete with what was there": {
			change.Change{Position: 5, Index: 9, Op: change.OpDelete, Key: []byte{0xff}, Before: &change.KV{Key: []byte{0xff}}},
			`"position":"5","index":9,"op":"delete","key":{"key":{"base64":"/w=="}},"before":{"key":{"base64":"/w=="},"value":"","create_revision":"0","mod_revision":"0","version":0,"lease":"0"}}`,
		},
		"a row of a table": {
			change.Change{
				Position: 1, Op: change.OpUpdate, Table: "public.t", Key: []byte("x"), After: table,
				CommitTime: time.Date(2026, 1, 2, 3, 4, 5, 6000, time.FixedZone("", 3600)),
			},
			`"position":"1","index":0,"op":"update","commit_time":"2026-01-02T02:04:05.000006Z","table":"public.t","key":{"tenant":-4,"id":18446744073709551615},"place":"x",` +
				`"after":{"tenant":-4,"id":18446744073709551615,"f":1.5,"nan":"NaN","inf":"Infinity","ninf":"-Infinity","b":true,"none":null,"raw":{"base64":"/wA="},` +
				`"s":"é\"\\\n\u0001","bad":{"base64":"/w=="}}}`,
		},
		"a row of a table, of which a column is unchanged": {
			change.Change{
				Position: 1, Op: change.OpUpdate, Table: "public.lines", Key: []byte("public.lines:a\x000000000000000000007"),
				Before: &change.Tuple{Of: lines, Cells: cells("7", "", "", "a"), KeyOnly: true},
				After:  &change.Tuple{Of: lines, Cells: cells("7", "", "1.5", "a"), Unchanged: []bool{false, true, false, false}},
			},
			`"position":"1","index":0,"op":"update","table":"public.lines","key":{"order":"a","line":7},"before":{"line":7,"order":"a"},"after":{"line":7,"price":1.5,"order":"a"}}`,
		},
		"a row of a table without a key": {
			change.Change{Position: 1, Op: change.OpCreate, Table: "public.log", Key: []byte("public.log:"), After: &change.Tuple{Of: journal, Cells: [][]byte{nil, []byte("t")}}},
			`"position":"1","index":0,"op":"create","table":"public.log","key":{},"after":{"text":null,"ok":true}}`,
		},
		"a delete of a row by its key": {
			change.Change{
				Position: 1, Op: change.OpDelete, Table: "public.lines", Key: []byte("public.lines:a\x000000000000000000007"),
				Before: &change.Tuple{Of: lines, Cells: cells("7", "", "", "a"), KeyOnly: true},
			},
			`"position":"1","index":0,"op":"delete","table":"public.lines","key":{"order":"a","line":7},"before":{"line":7,"order":"a"}}`,
		},
		"a truncate": {
			change.Change{Position: 1, Op: change.OpTruncate, Table: "public.log", Key: []byte("public.log:")},
			`"position":"1","index":0,"op":"truncate","table":"public.log","key":{}}`,
		},
		"a truncate of a part of a table": {
			change.Change{Position: 1, Op: change.OpTruncate, Table: "public.log", Key: []byte("public.log:m")},
			`"position":"1","index":0,"op":"truncate","table":"public.log","key":{},"place":"public.log:m"}`,
		},
		"a read with an empty key": {
			change.Change{Position: 3, Op: change.OpRead},
			`"position":"3","index":0,"op":"read","key":{"key":""}}`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			line := newEncoder().AppendChange(nil, &test.change)
			require.Equal(t, prefix+test.want, string(line))
			require.True(t, json.Valid(line))
			record, err := Decode(line)
			require.NoError(t, err)
			key, ok := record.KeyBytes()
			require.True(t, ok)
			require.Equal(t, string(test.change.Key), string(key))
		})
	}
}

var (
	lines = &change.Relation{Schema: "public", Name: "lines", Columns: []change.Column{
		{Name: "line", Kind: change.KindInt, Key: 2}, {Name: "note"}, {Name: "price", Kind: change.KindFloat}, {Name: "order", Key: 1},
	}}
	journal = &change.Relation{Schema: "public", Name: "log", Columns: []change.Column{{Name: "text"}, {Name: "ok", Kind: change.KindBool}}}
)

// cells is a row of lines.
func cells(texts ...string) [][]byte {
	var out [][]byte
	for _, text := range texts {
		out = append(out, []byte(text))
	}
	return out
}

// anyCell draws the text form of a value of the kind.
func anyCell(t *rapid.T, kind change.Kind) []byte {
	switch kind {
	case change.KindInt:
		return strconv.AppendInt(nil, rapid.Int64().Draw(t, "int"), 10)
	case change.KindFloat:
		return strconv.AppendFloat(nil, rapid.Float64().Draw(t, "float"), 'f', -1, 64)
	case change.KindBool:
		return []byte(rapid.SampledFrom([]string{"t", "f"}).Draw(t, "bool"))
	case change.KindBytes:
		return fmt.Appendf(nil, `\x%x`, rapid.SliceOf(rapid.Byte()).Draw(t, "bytes"))
	default:
		return []byte(strings.ReplaceAll(rapid.String().Draw(t, "text"), "\x00", ""))
	}
}

func TestRowsOfTablesAreReadBack(t *testing.T) {
	kinds := []change.Kind{change.KindText, change.KindInt, change.KindFloat, change.KindBool, change.KindBytes}
	rapid.Check(t, func(t *rapid.T) {
		of := &change.Relation{
			Schema: rapid.SampledFrom([]string{"public", "a.b", "x:y", "%"}).Draw(t, "schema"),
			Name:   rapid.SampledFrom([]string{"t", "T;", "é"}).Draw(t, "name"),
		}
		row := &change.Tuple{Of: of}
		inKey := rapid.IntRange(0, 3).Draw(t, "columns in the key")
		for i := range inKey + rapid.IntRange(0, 3).Draw(t, "more columns") {
			column := change.Column{Name: "c" + strconv.Itoa(i), Kind: rapid.SampledFrom(kinds).Draw(t, "kind")}
			if i < inKey {
				column.Key = inKey - i // the key's order is not the columns'
			}
			of.Columns = append(of.Columns, column)
			row.Cells = append(row.Cells, anyCell(t, column.Kind))
			row.Unchanged = append(row.Unchanged, column.Key == 0 && rapid.Bool().Draw(t, "unchanged"))
		}
		start, _ := change.TableSpan(of.Schema, of.Name)
		in := change.Change{Position: 7, Op: change.OpUpdate, Table: of.String(), Key: change.AppendKey(start, of, row.Cells), After: row}
		line := newEncoder().AppendChange(nil, &in)
		require.True(t, json.Valid(line))
		out, err := Decode(line)
		require.NoError(t, err)
		key, ok := out.KeyBytes()
		require.True(t, ok)
		require.Equal(t, string(in.Key), string(key))
		require.Equal(t, in.Table, out.Table)
		require.Len(t, out.Key, inKey)
		for i, column := range of.Columns {
			read, found := out.After.Column(column.Name)
			require.Equal(t, !row.Unchanged[i], found)
			if raw, ok := read.Bytes(); ok && column.Kind == change.KindText {
				require.Equal(t, string(row.Cells[i]), string(raw))
			}
		}
	})
}

func TestResolvedLinesReadAsTheContractSays(t *testing.T) {
	span := changefeed.Span{Start: []byte("a"), End: []byte{0xff}}
	line := newEncoder().AppendResolved(nil, span, 20900)
	require.Equal(t, `{"changefeed":"default/orders","uid":"u1","epoch":1043,"seq":2,"span":{"start":"a","end":{"base64":"/w=="}},"resolved":"20900"}`, string(line))
	record, err := Decode(line)
	require.NoError(t, err)
	require.True(t, record.IsResolved)
	require.True(t, span.Equal(record.Span))
	require.Equal(t, change.Position(20900), record.Position)
	require.Equal(t, fence.Mint(1043, 2), record.Token)
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		key := rapid.SliceOf(rapid.Byte()).Draw(t, "key")
		value := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) })).Draw(t, "value")
		in := change.Change{
			Position: change.Position(rapid.Uint64().Draw(t, "position")), Index: rapid.Uint32().Draw(t, "index"),
			Op: change.OpUpdate, Key: key, Before: &change.KV{Key: key}, After: &change.KV{Key: key, Value: value, Lease: rapid.Int64().Draw(t, "lease")},
		}
		line := newEncoder().AppendChange(nil, &in)
		require.True(t, json.Valid(line))
		require.NotContains(t, string(line), "\n")
		out, err := Decode(line)
		require.NoError(t, err)
		require.Equal(t, in.Position, out.Position)
		require.Equal(t, in.Index, out.Index)
		require.Equal(t, in.Op, out.Op)
		read, ok := out.KeyBytes()
		require.True(t, ok)
		require.Equal(t, string(key), string(read))
		column, found := out.After.Column("value")
		require.True(t, found)
		raw, ok := column.Bytes()
		require.True(t, ok)
		require.Equal(t, string(value), string(raw))
		require.NotNil(t, out.Before)
	})
}

func TestLinesThatAreNotOursAreRefused(t *testing.T) {
	good := string(newEncoder().AppendChange(nil, &change.Change{Position: 1, Op: change.OpDelete, Key: []byte("k")}))
	_, err := Decode([]byte(good[:len(good)-1] + `,"new":{"a":[1,-2.5e3,null,true,false,"x"]},"more":[]}`))
	require.NoError(t, err, "unknown fields are ignored")
	deep := ""
	for range 100 {
		deep += "["
	}
	for name, line := range map[string]string{
		"nothing":               ``,
		"not JSON":              `{"changefeed"`,
		"something follows":     good + `{}`,
		"a field twice":         good[:len(good)-1] + `,"op":"delete"}`,
		"a missing field":       `{"changefeed":"a/b","uid":"u","epoch":1,"seq":1,"position":"1","op":"delete","key":{}}`,
		"a number as position":  `{"changefeed":"a/b","uid":"u","epoch":1,"seq":1,"position":1,"index":0,"op":"delete","key":{}}`,
		"a negative epoch":      `{"changefeed":"a/b","uid":"u","epoch":-1,"seq":1,"position":"1","index":0,"op":"delete","key":{}}`,
		"an index too large":    `{"changefeed":"a/b","uid":"u","epoch":1,"seq":1,"position":"1","index":4294967296,"op":"delete","key":{}}`,
		"an unknown op":         `{"changefeed":"a/b","uid":"u","epoch":1,"seq":1,"position":"1","index":0,"op":"upsert","key":{}}`,
		"a delete with after":   good[:len(good)-1] + `,"after":{}}`,
		"a truncate with rows":  `{"changefeed":"a/b","uid":"u","epoch":1,"seq":1,"position":"1","index":0,"op":"truncate","table":"a.b","key":{},"after":{}}`,
		"a truncate of nothing": `{"changefeed":"a/b","uid":"u","epoch":1,"seq":1,"position":"1","index":0,"op":"truncate","key":{}}`,
		"a number as a place":   good[:len(good)-1] + `,"place":7}`,
		"nested too deeply":     good[:len(good)-1] + `,"x":` + deep,
		"a nested value":        good[:len(good)-1] + `,"before":{"a":[1]}}`,
		"an object in a row":    good[:len(good)-1] + `,"before":{"a":{"b":"c"}}}`,
		"an empty object":       good[:len(good)-1] + `,"before":{"a":{}}}`,
		"bad base64":            good[:len(good)-1] + `,"before":{"a":{"base64":"?"}}}`,
		"half a surrogate":      good[:len(good)-1] + `,"table":"\ud800"}`,
		"a raw control":         good[:len(good)-1] + ",\"table\":\"\x01\"}",
		"bytes as text":         good[:len(good)-1] + ",\"table\":\"\xff\"}",
		"an unknown escape":     good[:len(good)-1] + `,"table":"\x"}`,
		"a leading zero":        good[:len(good)-1] + `,"n":01}`,
		"change and resolved":   good[:len(good)-1] + `,"resolved":"1","span":{}}`,
		"an empty span":         `{"changefeed":"a/b","uid":"u","epoch":1,"seq":1,"span":{"start":"b","end":"a"},"resolved":"1"}`,
		"a span of numbers":     `{"changefeed":"a/b","uid":"u","epoch":1,"seq":1,"span":{"start":1},"resolved":"1"}`,
		"a name with two parts": `{"changefeed":"a/b/c","uid":"u","epoch":1,"seq":1,"span":{},"resolved":"1"}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Decode([]byte(line))
			require.Error(t, err)
		})
	}
	_, err = Decode(make([]byte, LineBytesMax+1))
	require.ErrorContains(t, err, "more than")
}

func TestEncodingAChangeAllocatesNothing(t *testing.T) {
	encoder, c := newEncoder(), sampleChange()
	buffer := make([]byte, 0, 4096)
	require.Zero(t, testing.AllocsPerRun(100, func() { buffer = encoder.AppendChange(buffer[:0], &c) }))
}

func sampleChange() change.Change {
	key, value := []byte("/orders/00000042"), make([]byte, 200)
	for i := range value {
		value[i] = 'a' + byte(i%26)
	}
	return change.Change{
		Position: 20817, Op: change.OpUpdate, Key: key,
		After: &change.KV{Key: key, Value: value, CreateRevision: 7, ModRevision: 20817, Version: 3},
	}
}

func BenchmarkAppendChange(b *testing.B) {
	encoder, c := newEncoder(), sampleChange()
	var buffer []byte
	b.ReportAllocs()
	for b.Loop() {
		buffer = encoder.AppendChange(buffer[:0], &c)
	}
}

func BenchmarkDecode(b *testing.B) {
	c := sampleChange()
	line := newEncoder().AppendChange(nil, &c)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Decode(line); err != nil {
			b.Fatal(err)
		}
	}
}

func FuzzDecode(f *testing.F) {
	c := sampleChange()
	f.Add(newEncoder().AppendChange(nil, &c))
	f.Add(newEncoder().AppendResolved(nil, changefeed.Whole(), 3))
	f.Add(newEncoder().AppendChange(nil, &change.Change{Position: 1, Op: change.OpTruncate, Table: "a.b", Key: []byte("a.b:")}))
	f.Add(newEncoder().AppendChange(nil, &change.Change{
		Position: 1, Op: change.OpDelete, Table: "public.lines", Key: []byte("x"), Before: &change.Tuple{Of: lines, Cells: cells("7", "", "", "a"), KeyOnly: true},
	}))
	f.Add([]byte(`{"changefeed":"a/b","uid":"\u00e9\ud83d\ude00","epoch":1,"seq":1,"position":"1","index":0,"op":"read","key":{"k":1e3},"x":[{}]}`))
	f.Fuzz(func(t *testing.T, line []byte) {
		record, err := Decode(line)
		if err != nil {
			return
		}
		require.True(t, json.Valid(line), "what is accepted is JSON")
		if record.IsResolved {
			return
		}
		again := change.Change{Position: record.Position, Index: record.Index, Op: record.Op, Table: record.Table, CommitTime: record.CommitTime}
		if key, ok := record.KeyBytes(); ok {
			again.Key = key
		}
		if record.After != nil {
			again.After = record.After
		}
		encoded := NewEncoder(record.Changefeed, record.UID, record.Token).AppendChange(nil, &again)
		read, err := Decode(encoded)
		require.NoError(t, err)
		require.Equal(t, record.Position, read.Position)
		require.Equal(t, record.Token, read.Token)
		require.Len(t, read.After, len(record.After))
	})
}
