package serial

import (
	"bytes"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/source"
)

// sample makes a message with rows of every shape.
func sample(random *rand.Rand, relations []*change.Relation) Message {
	m := Message{
		Number: random.Uint64(), Follows: change.Mark{Position: change.Position(random.Uint64()), Index: random.Uint32()}, Cost: random.IntN(1 << 30),
		Event: source.Event{To: change.At(change.Position(random.Uint64())), Resolved: change.Position(random.Uint64())},
	}
	row := func() change.Row {
		of := relations[random.IntN(len(relations))]
		tuple := &change.Tuple{Of: of, Cells: make([][]byte, len(of.Columns)), KeyOnly: random.IntN(4) == 0}
		for i := range tuple.Cells {
			switch random.IntN(4) {
			case 0: // NULL
			case 1:
				tuple.Cells[i] = []byte{}
			default:
				tuple.Cells[i] = bytes.Repeat([]byte{byte(random.Uint32())}, random.IntN(300))
			}
		}
		if random.IntN(3) == 0 {
			tuple.Unchanged = make([]bool, len(of.Columns))
			for i := range tuple.Unchanged {
				tuple.Unchanged[i] = random.IntN(2) == 0
			}
		}
		return tuple
	}
	position := change.Position(random.Uint32())
	for i := range random.IntN(6) {
		position += change.Position(random.IntN(3))
		c := change.Change{
			Position: position, Index: uint32(i), Op: change.Op(1 + random.IntN(5)), Key: bytes.Repeat([]byte{'k'}, random.IntN(40)),
		}
		if random.IntN(3) > 0 {
			c.CommitTime = time.Unix(int64(random.IntN(1<<30)), int64(random.IntN(1e9))).UTC()
		}
		if random.IntN(3) > 0 {
			c.Before = row()
		}
		if random.IntN(3) > 0 {
			c.After = row()
		}
		switch random.IntN(3) {
		case 0:
			c.Table = "elsewhere.t"
		case 1:
			for _, one := range []change.Row{c.After, c.Before} {
				if tuple, ok := one.(*change.Tuple); ok {
					c.Table = tuple.Of.String()
					break
				}
			}
		}
		m.Event.Changes = append(m.Event.Changes, c)
	}
	return m
}

func sampleRelations() []*change.Relation {
	return []*change.Relation{
		{Schema: "public", Name: "a", Columns: []change.Column{
			{Name: "id", Type: "bigint", Number: 1, Kind: change.KindInt, Key: 1},
			{Name: "v", Type: "numeric(10,2)", Number: -3, Null: true, Generated: true},
			{Name: "w", Type: "text", Number: 4, Added: change.Added{Known: true, Text: "it's"}},
			{Name: "x", Type: "text", Added: change.Added{Known: true}},
		}},
		{Schema: "public", Name: "empty", Columns: []change.Column{}},
		{Schema: "ünïcode", Name: "b", Columns: []change.Column{{Name: "x", Type: "bytea", Kind: change.KindBytes}}},
	}
}

// What was sent arrives as it was, however the stream of records is cut.
func TestMessagesArriveAsTheyWereSent(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, 0))
		relations := sampleRelations()
		encoder := newEncoder()
		var sent, got []Message
		for range 30 {
			m := sample(random, relations)
			sent = append(sent, m)
			require.NoError(t, encoder.message(&m))
		}
		var records assembler
		for rest := encoder.out; len(rest) > 0; {
			n := min(len(rest), 1+random.IntN(200))
			require.NoError(t, records.add(rest[:n], func(m Message) { got = append(got, m) }))
			rest = rest[n:]
		}
		require.Equal(t, sent, got)
		require.LessOrEqual(t, len(records.decoder.relations), len(relations), "each once")
	}
}

// In the process itself rows keep the very relation that they had.
func TestSilentEncoderKeepsRelations(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 1))
	relations := sampleRelations()
	encoder := newEncoder()
	encoder.silent = true
	for range 50 {
		m := sample(random, relations)
		encoder.out = encoder.out[:0]
		require.NoError(t, encoder.message(&m))
		var got []Message
		records := assembler{decoder: *encoder.decoder()}
		require.NoError(t, records.add(encoder.out, func(m Message) { got = append(got, m) }))
		require.Equal(t, []Message{m}, got)
		for i := range m.Event.Changes {
			if tuple, ok := m.Event.Changes[i].After.(*change.Tuple); ok {
				require.Same(t, tuple.Of, got[0].Event.Changes[i].After.(*change.Tuple).Of)
			}
		}
	}
}

func TestRowsOfOtherKindsDoNotTravel(t *testing.T) {
	m := Message{Event: source.Event{Changes: []change.Change{{After: &change.KV{}}}}}
	require.ErrorIs(t, newEncoder().message(&m), errRow)
}

// Bytes of a broken peer are an error, and take no more memory than they have.
func FuzzRecords(f *testing.F) {
	random := rand.New(rand.NewPCG(1, 0))
	for range 4 {
		encoder := newEncoder()
		m := sample(random, sampleRelations())
		require.NoError(f, encoder.message(&m))
		f.Add(encoder.out)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var records assembler
		var got []Message
		if records.add(data, func(m Message) { got = append(got, m) }) != nil {
			return
		}
		again := newEncoder()
		for i := range got {
			require.NoError(t, again.message(&got[i]))
		}
	})
}

func FuzzRequest(f *testing.F) {
	request := Request{UID: "u", Epoch: 1, ID: "x", Credit: 1, Pieces: []source.Piece{{Mark: change.At(1)}}}
	frame, err := request.frame()
	require.NoError(f, err)
	f.Add(frame)
	f.Fuzz(func(t *testing.T, data []byte) {
		read, err := readRequest(data)
		if err != nil {
			return
		}
		frame, err := read.frame()
		require.NoError(t, err)
		again, err := readRequest(frame)
		require.NoError(t, err)
		require.Equal(t, read.ID, again.ID)
	})
}
