package maintainer

import (
	"bytes"
	"slices"

	"fencerow/changefeed"
)

// Names of the options that say where spans meet. Dispatchers don't obey them.
const (
	SplitKeys = changefeed.OptionSplitKeys
	MergeKeys = changefeed.OptionMergeKeys
)

// Options returns the options of a changefeed that its maintainer obeys.
func Options() []changefeed.Option {
	return []changefeed.Option{
		{
			Name: SplitKeys, Check: checkKeys,
			Doc: "keys at which the key space is split into spans, separated by commas: text, or base64:…; at most 1000",
		},
		{
			Name: MergeKeys, Check: checkKeys,
			Doc: "keys at which spans are joined that traffic has split, as changefeed merge asks for; written like split_keys",
		},
	}
}

func checkKeys(value string) error {
	_, err := changefeed.ParseKeys(value)
	return err
}

// keysOf reads a list of keys, in order. A spec that does not parse was not written by the API: it has none.
func keysOf(options changefeed.Options, name string) [][]byte {
	parsed, err := changefeed.ParseKeys(options[name])
	if err != nil {
		return nil
	}
	keys := make([][]byte, len(parsed))
	for i, key := range parsed {
		keys[i] = key
	}
	slices.SortFunc(keys, bytes.Compare)
	return keys
}

// without returns the keys that are not among others.
func without(keys, others [][]byte) [][]byte {
	return slices.DeleteFunc(keys, func(key []byte) bool {
		return slices.ContainsFunc(others, func(other []byte) bool { return bytes.Equal(key, other) })
	})
}

// ownOption reports whether an option is obeyed by the maintainer alone.
func ownOption(name string) bool {
	return slices.ContainsFunc(Options(), func(option changefeed.Option) bool { return option.Name == name })
}
