package maintainer

import (
	"fmt"
	"strings"

	"fencerow/changefeed"
)

// splitKeysMax bounds the spans that users ask for: each costs a dispatcher somewhere.
const splitKeysMax = 1000

// Options returns the options of a changefeed that its maintainer obeys.
func Options() []changefeed.Option {
	return []changefeed.Option{{
		Name: "split_keys", Check: checkSplitKeys,
		Doc: "keys at which the key space is split into spans, separated by commas: text, or base64:…; at most 1000",
	}}
}

func checkSplitKeys(value string) error {
	words := strings.Split(value, ",")
	if len(words) > splitKeysMax {
		return fmt.Errorf("has %d keys, more than %d", len(words), splitKeysMax)
	}
	seen := make(map[string]bool, len(words))
	for _, word := range words {
		key, err := changefeed.ParseKey(strings.TrimSpace(word))
		switch {
		case err != nil:
			return err
		case len(key) == 0:
			return fmt.Errorf("%.100q has an empty key", value)
		case seen[string(key)]:
			return fmt.Errorf("has the key %.100q twice", key)
		}
		seen[string(key)] = true
	}
	return nil
}
