package sqlsink

import (
	"encoding/json"
	"fmt"

	"fencerow/change"
)

// relationRow is a relation as it is kept in the target.
type relationRow struct {
	Schema  string      `json:"schema"`
	Name    string      `json:"name"`
	Columns []columnRow `json:"columns"`
}

type columnRow struct {
	Name      string `json:"name"`
	Type      string `json:"type"`
	Number    int    `json:"number,omitempty"`
	Kind      uint8  `json:"kind,omitempty"`
	Key       int    `json:"key,omitempty"`
	Null      bool   `json:"null,omitempty"`
	Generated bool   `json:"generated,omitempty"`
	// Added is what the rows hold that were there when the column was added.
	Added *string `json:"added,omitempty"`
}

func encodeRelation(of *change.Relation) (string, error) {
	row := relationRow{Schema: of.Schema, Name: of.Name, Columns: make([]columnRow, len(of.Columns))}
	for i, c := range of.Columns {
		row.Columns[i] = columnRow{
			Name: c.Name, Type: c.Type, Number: c.Number, Kind: uint8(c.Kind), Key: c.Key, Null: c.Null, Generated: c.Generated,
		}
		if c.Added.Known {
			row.Columns[i].Added = &c.Added.Text
		}
	}
	text, err := json.Marshal(row)
	if err != nil {
		return "", fmt.Errorf("sink sql: encode the table %s: %w", of, err)
	}
	return string(text), nil
}

func decodeRelation(text string) (*change.Relation, error) {
	var row relationRow
	if err := json.Unmarshal([]byte(text), &row); err != nil {
		return nil, fmt.Errorf("sink sql: what is known of a table can't be read: %w", err)
	}
	out := &change.Relation{Schema: row.Schema, Name: row.Name}
	for _, c := range row.Columns {
		column := change.Column{
			Name: c.Name, Type: c.Type, Number: c.Number, Kind: change.Kind(c.Kind), Key: c.Key, Null: c.Null, Generated: c.Generated,
		}
		if c.Added != nil {
			column.Added = change.Added{Known: true, Text: *c.Added}
		}
		out.Columns = append(out.Columns, column)
	}
	return out, nil
}
