package sqlsink

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"fencerow/changefeed"
)

// The options that every SQL sink takes.
var (
	optionTable = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "table", Default: "fencerow_data", Check: checkTable,
		Doc: "the table that key-value pairs are written to: a name, or schema.name in PostgreSQL; one changefeed a table. " +
			"A source of tables has rename instead",
	}
	optionMode = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "mode", Default: string(ModeCopy), Check: checkMode,
		Doc: "copy: the table has one row a key, as the source has it. log: one row a change is appended, each exactly once; " +
			"not for a source of tables",
	}
	optionCreate = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "create_tables", Default: "true", Check: checkBool,
		Doc: "true: a table that is missing is created. false: it is an error, with the statement that creates it",
	}
	optionRename = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "rename", Check: func(value string) error { _, err := ParseNaming(value, ""); return err },
		Doc: "of a source of tables, those that go elsewhere than to a table of their own name: public.a:shop.b,public.*:shop.*; " +
			`a name with . : , or " in it stands in double quotes`,
	}
	optionRenameColumns = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "rename_columns", Check: func(value string) error { _, err := ParseNaming("", value); return err },
		Doc: "of a source of tables, columns that have another name in the target: public.a.id:number,public.a.name:title",
	}
	optionSchema = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "schema", Default: string(SchemaStop), Check: checkSchema,
		Doc: "when a table of the source was altered. stop: the changefeed stops with the statement to run, if the target no longer " +
			"fits. evolve: the target is altered likewise, where no value can be lost by it. ignore: the columns in common are written",
	}
)

// Options returns the options that every SQL sink takes.
func Options() []changefeed.Option {
	return []changefeed.Option{optionTable, optionMode, optionCreate, optionRename, optionRenameColumns, optionSchema}
}

// Settings are the options as values.
type Settings struct {
	Table  string
	Mode   Mode
	Create bool
	Naming Naming
	Schema Schema
}

// Layout says what is written.
type Layout uint8

// The layouts.
const (
	LayoutPairs  Layout = iota // key-value pairs, into one table
	LayoutTables               // rows of tables, into one table each
)

// ParseSettings reads the options. Those that are none of ours are not looked at.
func ParseSettings(options changefeed.Options, layout Layout) (Settings, error) {
	mine := changefeed.Options{}
	for _, option := range Options() {
		if value, found := options[option.Name]; found {
			mine[option.Name] = value
		}
	}
	if err := mine.Validate(Options()); err != nil {
		return Settings{}, err
	}
	if err := suits(mine, layout); err != nil {
		return Settings{}, err
	}
	naming, err := ParseNaming(mine.Value(optionRename), mine.Value(optionRenameColumns))
	return Settings{
		Table: mine.Value(optionTable), Mode: Mode(mine.Value(optionMode)), Create: mine.Value(optionCreate) == "true",
		Naming: naming, Schema: Schema(mine.Value(optionSchema)),
	}, err
}

// suits refuses options that mean nothing for what the source has.
func suits(options changefeed.Options, layout Layout) error {
	refuse := func(option changefeed.Option, detail, cure string) error {
		return &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "options." + option.Name, Value: fmt.Sprintf("%.100q", options[option.Name]),
			Permanent: true, Detail: detail, Cure: cure,
		}
	}
	if layout == LayoutTables {
		if _, found := options[optionTable.Name]; found {
			return refuse(optionTable, "is for key-value pairs, and the source has tables of its own", "say where they go by rename=public.a:shop.b")
		}
		if options.Value(optionMode) != string(ModeCopy) {
			return refuse(optionMode, "is for key-value pairs, and the source has tables",
				"leave it out; of a table without a key each row that is inserted is kept exactly once")
		}
		return nil
	}
	for _, option := range []changefeed.Option{optionRename, optionRenameColumns, optionSchema} {
		if _, found := options[option.Name]; found {
			return refuse(option, "is for a source of tables, and this one has key-value pairs", "leave it out; table names where the pairs go")
		}
	}
	return nil
}

// Names are those that every server takes in quotes, and a person without surprise. PostgreSQL's are at most 63 bytes.
var tablePattern = regexp.MustCompile(`^(?:[A-Za-z_][A-Za-z0-9_]{0,62}\.)?[A-Za-z_][A-Za-z0-9_]{0,62}$`)

func checkTable(value string) error {
	if !tablePattern.MatchString(value) {
		return errors.New("is not a name of letters, digits and _, at most 63 long, or schema.name")
	}
	return nil
}

func checkMode(value string) error {
	if value != string(ModeCopy) && value != string(ModeLog) {
		return errors.New("is neither copy nor log")
	}
	return nil
}

func checkSchema(value string) error {
	if value != string(SchemaStop) && value != string(SchemaEvolve) && value != string(SchemaIgnore) {
		return errors.New("is neither stop nor evolve nor ignore")
	}
	return nil
}

func checkBool(value string) error {
	if _, err := strconv.ParseBool(value); err != nil || value != "true" && value != "false" {
		return errors.New("is neither true nor false")
	}
	return nil
}
