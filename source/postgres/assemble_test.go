package postgres

import (
	"encoding/binary"
	"slices"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
)

// wire writes messages of pgoutput.
type wire []byte

func (w wire) u16(n uint16) wire  { return binary.BigEndian.AppendUint16(w, n) }
func (w wire) u32(n uint32) wire  { return binary.BigEndian.AppendUint32(w, n) }
func (w wire) u64(n uint64) wire  { return binary.BigEndian.AppendUint64(w, n) }
func (w wire) text(s string) wire { return append(append(w, s...), 0) }

func (w wire) tuple(kind byte, cells ...string) wire {
	w = append(w, kind).u16(uint16(len(cells)))
	for _, cell := range cells {
		switch cell {
		case "NULL":
			w = append(w, cellNull)
		case "UNCHANGED":
			w = append(w, cellUnchanged)
		default:
			w = append(append(w, cellText).u32(uint32(len(cell))), cell...)
		}
	}
	return w
}

func begin(at uint64) wire  { return wire{kindBegin}.u64(at).u64(0).u32(7) }
func commit(at uint64) wire { return append(wire{kindCommit}, 0).u64(at).u64(at + 8).u64(0) }

func relationWire(oid uint32) wire {
	w := append(wire{kindRelation}.u32(oid).text("public").text("a"), identityDefault).u16(2)
	w = append(w, 1).text("id").u32(oidInt8).u32(0xffffffff)
	return append(w, 0).text("v").u32(25).u32(0xffffffff)
}

// feed takes messages in, and learns tables as the log tells them.
func feed(a *assembler, messages ...wire) error {
	for _, message := range messages {
		described, err := a.take(message)
		if err != nil {
			return err
		}
		if described != nil {
			a.learn(described.oid, relationOf(*described, nil, make([]string, len(described.columns))))
		}
	}
	return nil
}

// A transaction that is too large for one event comes in several, whose marks say how far it is; read again from such a mark, the rest
// comes and nothing else.
func TestALargeTransactionIsCutByIndex(t *testing.T) {
	const rows = 2*eventChangesMax + 10
	messages := []wire{begin(90), relationWire(1), wire{kindInsert}.u32(1).tuple(tupleNew, "0", "before"), commit(90), begin(100)}
	for i := range rows {
		messages = append(messages, wire{kindInsert}.u32(1).tuple(tupleNew, strconv.Itoa(i), "x"))
	}
	messages = append(messages, commit(100))
	read := func(from change.Mark) (got []change.Change, marks []change.Mark) {
		a := newAssembler(from)
		for _, message := range messages {
			require.NoError(t, feed(a, message))
			if a.full() || !a.open {
				if event, some := a.event(); some {
					got = append(got, event.Changes...)
					marks = append(marks, event.To)
				}
			}
		}
		return got, marks
	}
	got, marks := read(change.At(50))
	require.Len(t, got, rows+1)
	require.Greater(t, len(marks), 3)
	require.Equal(t, change.At(90), marks[0])
	require.Equal(t, change.At(100), marks[len(marks)-1])
	for i, mark := range marks {
		rest, _ := read(mark)
		var want []change.Change
		for _, one := range got {
			if !mark.Done(one.Position, one.Index) {
				want = append(want, one)
			}
		}
		require.Equal(t, len(want), len(rest), i)
		if len(rest) > 0 {
			require.Equal(t, want[0].Key, rest[0].Key)
			require.Equal(t, want[0].Index, rest[0].Index)
		}
	}
}

func TestProgressIsNotTakenInsideATransaction(t *testing.T) {
	a := newAssembler(change.At(10))
	require.NoError(t, feed(a, begin(100), relationWire(1)))
	a.progress(200)
	_, some := a.event()
	require.False(t, some)
	require.NoError(t, feed(a, commit(100)))
	a.progress(50)
	event, some := a.event()
	require.True(t, some)
	require.Equal(t, change.At(100), event.To)
	a.progress(200)
	event, some = a.event()
	require.True(t, some)
	require.Equal(t, change.At(200), event.To)
}

func TestWhatIsNoLogIsAnError(t *testing.T) {
	insert := wire{kindInsert}.u32(1).tuple(tupleNew, "1", "x")
	for name, messages := range map[string][]wire{
		"nothing":                    {{}},
		"an unknown kind":            {{'?'}},
		"a change outside":           {relationWire(1), insert},
		"a row of an unknown table":  {begin(1), insert},
		"a row that is cut":          {begin(1), relationWire(1), insert[:len(insert)-1]},
		"a row that goes on":         {begin(1), relationWire(1), append(slices.Clip(insert), 0)},
		"too few cells":              {begin(1), relationWire(1), wire{kindInsert}.u32(1).tuple(tupleNew, "1")},
		"a key that is NULL":         {begin(1), relationWire(1), wire{kindInsert}.u32(1).tuple(tupleNew, "NULL", "x")},
		"an insert without a row":    {begin(1), relationWire(1), wire{kindInsert}.u32(1)},
		"a delete without a row":     {begin(1), relationWire(1), wire{kindDelete}.u32(1)},
		"a delete with a new row":    {begin(1), relationWire(1), wire{kindDelete}.u32(1).tuple(tupleNew, "1", "x")},
		"a transaction in another":   {begin(1), begin(2)},
		"another transaction's end":  {begin(1), commit(2)},
		"the end of none":            {commit(1)},
		"a length beyond the end":    {begin(1), relationWire(1), append(wire{kindInsert}.u32(1), tupleNew, 0, 2, cellText, 255, 255, 255, 255)},
		"a truncate of the unknown":  {begin(1), append(wire{kindTruncate}.u32(1), 0).u32(9)},
		"a truncate of four billion": {begin(1), append(wire{kindTruncate}.u32(0xffffffff), 0)},
	} {
		require.ErrorIs(t, feed(newAssembler(change.Mark{}), messages...), errMalformed, name)
	}
}

// FuzzMessages holds that bytes of whatever kind are changes or an error.
func FuzzMessages(f *testing.F) {
	join := func(messages ...wire) (out []byte) {
		for _, message := range messages {
			out = append(append(out, byte(len(message)>>8), byte(len(message))), message...)
		}
		return out
	}
	f.Add(join(begin(9), relationWire(1), wire{kindInsert}.u32(1).tuple(tupleNew, "1", "x"), commit(9)))
	f.Add(join(begin(9), relationWire(1), wire{kindUpdate}.u32(1).tuple(tupleKey, "1", "NULL").tuple(tupleNew, "2", "UNCHANGED"), commit(9)))
	f.Add(join(begin(9), relationWire(1), wire{kindUpdate}.u32(1).tuple(tupleOld, "1", "x").tuple(tupleNew, "2", "UNCHANGED"), commit(9)))
	f.Add(join(begin(9), relationWire(1), wire{kindDelete}.u32(1).tuple(tupleKey, "1", "NULL"), append(wire{kindTruncate}.u32(1), 0).u32(1)))
	f.Add(join(wire{kindType}.u32(70000).text("public").text("mood"), append(wire{kindMessage}, 1).u64(3).text("fencerow").u32(0)))
	f.Fuzz(func(t *testing.T, data []byte) {
		a := newAssembler(change.At(1))
		last := a.done
		for len(data) >= 2 {
			n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
			message := wire(data[2 : 2+n])
			data = data[2+n:]
			if _, err := joining(message); err != nil {
				require.ErrorIs(t, err, errMalformed)
			}
			if feed(a, message) != nil {
				return
			}
			event, some := a.event()
			if !some {
				continue
			}
			require.True(t, last.Before(event.To))
			for _, one := range event.Changes {
				require.False(t, last.Done(one.Position, one.Index))
				require.True(t, event.To.Done(one.Position, one.Index))
				require.NotEmpty(t, one.Key)
				require.Equal(t, one.Op == change.OpDelete || one.Op == change.OpTruncate, one.After == nil)
			}
			last = event.To
		}
	})
}

func FuzzCopy(f *testing.F) {
	f.Add([]byte("k\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01"))
	f.Add([]byte("w0123456701234567012345678"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if _, err := parseCopy(data); err != nil {
			require.ErrorIs(t, err, errMalformed)
		}
	})
}

// BenchmarkInserts is what a row of pgbench's accounts costs, from the message to the change.
func BenchmarkInserts(b *testing.B) {
	a := newAssembler(change.Mark{})
	filler := "                                                                                    "
	require.NoError(b, feed(a, begin(1), append(wire{kindRelation}.u32(1).text("public").text("pgbench_accounts"), identityDefault).u16(4).
		column("aid", oidInt4, 1).column("bid", oidInt4, 0).column("abalance", oidInt4, 0).column("filler", 1042, 0)))
	message := wire{kindInsert}.u32(1).tuple(tupleNew, "1234567", "13", "0", filler)
	b.SetBytes(int64(len(message)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := a.take(message); err != nil {
			b.Fatal(err)
		}
		if a.full() {
			a.event()
		}
	}
}

func (w wire) column(name string, oid uint32, flags byte) wire {
	return append(w, flags).text(name).u32(oid).u32(0xffffffff)
}
