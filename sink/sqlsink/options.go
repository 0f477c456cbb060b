package sqlsink

import (
	"errors"
	"regexp"
	"strconv"

	"fencerow/changefeed"
)

// The options that every SQL sink takes.
var (
	optionTable = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "table", Default: "fencerow_data", Check: checkTable,
		Doc: "the table that key-value pairs are written to: a name, or schema.name in PostgreSQL; one changefeed a table",
	}
	optionMode = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "mode", Default: string(ModeCopy), Check: checkMode,
		Doc: "copy: the table has one row a key, as the source has it. log: one row a change is appended, each exactly once",
	}
	optionCreate = changefeed.Option{ //nolint:gochecknoglobals // read only
		Name: "create_tables", Default: "true", Check: checkBool,
		Doc: "true: a table that is missing is created. false: it is an error, with the statement that creates it",
	}
)

// Options returns the options that every SQL sink takes.
func Options() []changefeed.Option {
	return []changefeed.Option{optionTable, optionMode, optionCreate}
}

// Settings are the options as values.
type Settings struct {
	Table  string
	Mode   Mode
	Create bool
}

// ParseSettings reads the options. Those that are none of ours are not looked at.
func ParseSettings(options changefeed.Options) (Settings, error) {
	mine := changefeed.Options{}
	for _, option := range Options() {
		if value, found := options[option.Name]; found {
			mine[option.Name] = value
		}
	}
	if err := mine.Validate(Options()); err != nil {
		return Settings{}, err
	}
	return Settings{
		Table: mine.Value(optionTable), Mode: Mode(mine.Value(optionMode)), Create: mine.Value(optionCreate) == "true",
	}, nil
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

func checkBool(value string) error {
	if _, err := strconv.ParseBool(value); err != nil || value != "true" && value != "false" {
		return errors.New("is neither true nor false")
	}
	return nil
}
