package sqlsink

import (
	"bytes"
	"fmt"
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"fencerow/change"
	"fencerow/changefeed"
)

func foldRelation() *change.Relation {
	return &change.Relation{Schema: "public", Name: "a", Columns: []change.Column{
		{Name: "id", Kind: change.KindInt, Key: 1}, {Name: "x"}, {Name: "y"},
	}}
}

// model is a table of the source or of the target: rows by key.
type model map[string][2]string

// drawChanges draws changes that a table can have had, and does them to the model.
func drawChanges(t *rapid.T, of *change.Relation, table model) []change.Change {
	start, _ := change.TableSpan(of.Schema, of.Name)
	key := func(id string) []byte { return change.AppendKey(start, of, [][]byte{[]byte(id)}) }
	var out []change.Change
	for i := range rapid.IntRange(1, 40).Draw(t, "changes") {
		id := fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "id"))
		c := change.Change{Position: 7, Index: uint32(i), Key: key(id), Table: "public.a"}
		value := fmt.Sprint("v", i)
		row, there := table[id]
		switch action := rapid.IntRange(0, 9).Draw(t, "action"); {
		case action == 9:
			c.Op, c.Key = change.OpTruncate, start
			clear(table)
		case !there:
			c.Op, table[id] = change.OpCreate, [2]string{value, value}
			c.After = &change.Tuple{Of: of, Cells: [][]byte{[]byte(id), []byte(value), []byte(value)}}
		case action < 3:
			c.Op = change.OpDelete
			c.Before = &change.Tuple{Of: of, Cells: [][]byte{[]byte(id), nil, nil}, KeyOnly: true}
			delete(table, id)
		default:
			after := &change.Tuple{Of: of, Cells: [][]byte{[]byte(id), []byte(value), nil}, Unchanged: []bool{2: true}}
			row[0] = value
			if action < 6 {
				after.Cells[2], after.Unchanged, row[1] = []byte(value), nil, value
			}
			c.Op, c.After = change.OpUpdate, after
			if to := fmt.Sprint(rapid.IntRange(0, 4).Draw(t, "to")); action == 8 && to != id && !has(table, to) {
				c.Before = &change.Tuple{Of: of, Cells: [][]byte{[]byte(id), nil, nil}, KeyOnly: true}
				after.Cells[0], c.Key = []byte(to), key(to)
				delete(table, id)
				id = to
			}
			table[id] = row
		}
		out = append(out, c)
	}
	return out
}

func has(table model, id string) bool { _, found := table[id]; return found }

// do does a step to the model as a server would, and objects to what one would.
func (table model) do(t *rapid.T, step Step) {
	seen := map[string]bool{}
	for _, row := range step.Rows {
		cells := row.Cells
		if cells == nil {
			cells = row.Old
		}
		id := string(cells[0])
		require.False(t, seen[id], "%v has %s twice", step.Kind, id)
		seen[id] = true
		switch step.Kind {
		case StepInsert, StepUpsert:
			require.True(t, step.Kind == StepUpsert || !has(table, id), "insert of %s, which is there", id)
			table[id] = [2]string{string(cells[1]), string(cells[2])}
		case StepDelete:
			delete(table, string(row.Old[0]))
		case StepUpdate:
			old := string(row.Old[0])
			require.True(t, has(table, old), "update of %s, which is not there", old)
			held := table[old]
			for _, column := range step.Columns {
				if column.At > 0 {
					held[column.At-1] = string(cells[column.At])
				} else {
					delete(table, old)
				}
			}
			table[id] = held
		default:
			require.Fail(t, "unexpected", "%v", step.Kind)
		}
	}
	if step.Kind == StepTruncate {
		clear(table)
	}
}

// Whatever is folded, the table is in the end what it would be if each change were done, in bulk and without.
func TestFoldingKeepsWhatRemains(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		of := foldRelation()
		source := model{}
		drawChanges(t, of, source) // what was there before
		target := maps.Clone(source)
		changes := drawChanges(t, of, source)
		runs, err := fold(changes, changefeed.Whole())
		require.NoError(t, err)
		at := &place{
			of: of, same: true, bound: make(map[*change.Relation]*binding),
			table: &Table{Columns: []TableColumn{{Name: "id"}, {Name: "x"}, {Name: "y"}}},
		}
		p := &planner{way: wayBulk}
		for _, run := range runs {
			p.run(run, at)
		}
		for _, step := range p.steps {
			target.do(t, step)
		}
		require.Equal(t, source, target)
	})
}

func TestBorders(t *testing.T) {
	of := foldRelation()
	for _, border := range []string{
		"", "0", "00", "0000000000000000005", "00000000000000000049", "5", "9", "99999999999999999999", "-", "-0", "-9", "-9223372036854775808", ":", "a",
		"-a", "!", "/", ".", "0000000000000000005x", "000000000000000000:",
	} {
		lowest, _ := lowestNumber(border)
		for _, n := range []string{
			"-9223372036854775808", "-9223372036854775807", "-10", "-9", "-1", "0", "1", "4", "5", "6", "9", "10", "9223372036854775806",
		} {
			key := change.AppendKey(nil, of, [][]byte{[]byte(n)})
			require.Equal(t, bytes.Compare(key, []byte(border)) >= 0, clamp(n) >= lowest, "%s and the border %q, as %d", n, border, lowest)
		}
	}
}
