package record

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// onlyFieldsObvious is onlyFields with a map.
func onlyFieldsObvious(object []byte, names map[string]bool) bool {
	var fields map[string]json.RawMessage
	if json.Unmarshal(object, &fields) != nil {
		return false
	}
	for name := range fields {
		if !names[name] {
			return false
		}
	}
	return true
}

func FuzzOnlyFields(f *testing.F) {
	names := map[string]bool{"uid": true, "epoch": true, "": true}
	for _, object := range []string{
		`{}`, ` { "uid" : "a" , "epoch" : 5 } `, `{"uid":{"epoch":1,"other":[{"x":"}"},","]},"epoch":"\"other\":"}`, `{"uid":1,"other":2}`,
		`{"Uid":1}`, `{"u\u0069d":1}`, `{"uid":"\\","epoch":"\\\""}`, `{"uid":["a","b"],"x":1}`, `{"":1}`, `{"uid":1,"uid":2}`, `null`,
		`{"uid":"{\"x\":1}","epoch":[]}`, `{"uid":[[],{}],"epoch":{"x":{}}}`,
	} {
		f.Add([]byte(object))
	}
	f.Fuzz(func(t *testing.T, object []byte) {
		var into Epoch
		if json.Unmarshal(object, &into) != nil {
			t.Skip("is not asked about what does not parse")
		}
		if onlyFields(object, names) {
			require.True(t, onlyFieldsObvious(object, names), "%q", object)
			return
		}
		escaped := false
		for _, c := range object {
			escaped = escaped || c == '\\'
		}
		require.True(t, escaped || !onlyFieldsObvious(object, names), "%q", object)
	})
}
