package changefeed

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// Option describes one option that a kind of source or sink, or every changefeed, takes.
type Option struct {
	Name    string
	Default string
	Doc     string
	Check   func(value string) error // nil, or why the value is refused; the message names the form that is taken
}

// Options are the options of one changefeed, as users wrote them.
type Options map[string]string

// Value returns what was written for the option, else its default.
func (o Options) Value(option Option) string {
	if value, found := o[option.Name]; found {
		return value
	}
	return option.Default
}

// Validate checks every option against the known ones, and returns the first fault in order of names.
func (o Options) Validate(known []Option) error {
	byName := make(map[string]Option, len(known))
	for _, option := range known {
		byName[option.Name] = option
	}
	for _, name := range slices.Sorted(maps.Keys(o)) {
		option, found := byName[name]
		if !found {
			return &Fault{
				Code: CodeRequestInvalid, Field: "options." + name, Value: fmt.Sprintf("%.100q", o[name]),
				Detail: "is not an option of this source and sink",
				Cure:   "use one of " + strings.Join(slices.Sorted(maps.Keys(byName)), ", "),
			}
		}
		if option.Check == nil {
			continue
		}
		if err := option.Check(o[name]); err != nil {
			return &Fault{
				Code: CodeRequestInvalid, Field: "options." + name, Value: fmt.Sprintf("%.100q", o[name]),
				Detail: "is refused", Cure: option.Doc, Err: err,
			}
		}
	}
	return nil
}

// Values returns the value of each of the known options, written or default, and refuses written ones that their checks
// refuse. Other options are not looked at: they are of other kinds.
func (o Options) Values(known []Option) (map[string]string, error) {
	own, values := make(Options), make(map[string]string, len(known))
	for _, option := range known {
		if value, found := o[option.Name]; found {
			own[option.Name] = value
		}
		values[option.Name] = o.Value(option)
	}
	return values, own.Validate(known)
}

// OneOf is a check that takes only these values.
func OneOf(values ...string) func(string) error {
	return func(value string) error {
		if slices.Contains(values, value) {
			return nil
		}
		return fmt.Errorf("is none of %q", values)
	}
}

// Between is a check that takes whole numbers from least to most.
func Between(least, most int64) func(string) error {
	return func(value string) error {
		n, err := strconv.ParseInt(value, 10, 64)
		if err != nil {
			return errors.New("is not a whole number")
		}
		if n < least || n > most {
			return fmt.Errorf("is not from %d to %d", least, most)
		}
		return nil
	}
}
