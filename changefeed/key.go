package changefeed

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Key is a key of a changefeed's key space in JSON: a string where the bytes are valid UTF-8, else {"base64": "…"}.
type Key []byte

type base64Key struct {
	Base64 *string `json:"base64"`
}

// MarshalJSON writes the key as text or as {"base64": "…"}.
func (k Key) MarshalJSON() ([]byte, error) {
	if utf8.Valid(k) {
		return json.Marshal(string(k))
	}
	text := base64.StdEncoding.EncodeToString(k)
	return json.Marshal(base64Key{Base64: &text})
}

// UnmarshalJSON reads what MarshalJSON writes.
func (k *Key) UnmarshalJSON(data []byte) error {
	var text string
	if err := json.Unmarshal(data, &text); err == nil {
		*k = Key(text)
		return nil
	}
	var encoded base64Key
	if err := json.Unmarshal(data, &encoded); err != nil || encoded.Base64 == nil {
		return fmt.Errorf("key %.100s is neither a string nor {\"base64\": …}", data)
	}
	raw, err := base64.StdEncoding.DecodeString(*encoded.Base64)
	if err != nil {
		return fmt.Errorf("key %.100s: %w", data, err)
	}
	*k = raw
	return nil
}

// ParseKey reads a key from a command line: text, or `base64:…`.
func ParseKey(text string) (Key, error) {
	encoded, found := strings.CutPrefix(text, "base64:")
	if !found {
		return Key(text), nil
	}
	raw, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		return nil, &Fault{
			Code: CodeRequestInvalid, Field: "key", Value: fmt.Sprintf("%.100q", text),
			Detail: "is not valid base64", Cure: "encode the key's bytes in standard base64 after base64:", Err: err,
		}
	}
	return raw, nil
}

// Names of the options that are lists of keys: where spans are wanted to meet, and where not.
const (
	OptionSplitKeys = "split_keys"
	OptionMergeKeys = "merge_keys"
)

// OptionRedo names the directory of a redo log.
const OptionRedo = "redo"

// KeysMax bounds a list of keys in an option: each is a border of a span, which costs a dispatcher somewhere.
const KeysMax = 1000

// ParseKeys reads the value of an option that is a list of keys: as ParseKey reads them, separated by commas, each
// once. The empty text has none.
func ParseKeys(text string) ([]Key, error) {
	if text == "" {
		return nil, nil
	}
	words := strings.Split(text, ",")
	if len(words) > KeysMax {
		return nil, fmt.Errorf("has %d keys, more than %d", len(words), KeysMax)
	}
	keys := make([]Key, 0, len(words))
	seen := make(map[string]bool, len(words))
	for _, word := range words {
		key, err := ParseKey(strings.TrimSpace(word))
		switch {
		case err != nil:
			return nil, err
		case len(key) == 0:
			return nil, fmt.Errorf("%.100q has an empty key", text)
		case seen[string(key)]:
			return nil, fmt.Errorf("has the key %.100q twice", string(key))
		}
		seen[string(key)] = true
		keys = append(keys, key)
	}
	return keys, nil
}

// FormatKeys writes what ParseKeys reads: text where that says the key, else base64.
func FormatKeys(keys []Key) string {
	words := make([]string, len(keys))
	for i, key := range keys {
		words[i] = key.Word()
	}
	return strings.Join(words, ",")
}

// Word returns the key as ParseKey reads it: text where that says the key, else base64.
func (k Key) Word() string {
	text := string(k)
	odd := func(r rune) bool { return r == ',' || !unicode.IsPrint(r) }
	plain := utf8.Valid(k) && strings.IndexFunc(text, odd) < 0 && strings.TrimSpace(text) == text
	if plain && !strings.HasPrefix(text, "base64:") {
		return text
	}
	return "base64:" + base64.StdEncoding.EncodeToString(k)
}
