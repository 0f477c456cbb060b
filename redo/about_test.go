package redo

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// FuzzAbout reads what any file says of a log. What is read stays what it is when it is written, and its key space is one or a
// fault.
func FuzzAbout(f *testing.F) {
	f.Add([]byte(`{"format":1,"changefeed":"default/orders","uid":"uid-1","source":"etcd://h:1/a/","sink":"file:///d"}`))
	f.Add([]byte(`{"format":1,"source":"etcd://user@h/"}`))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		about, err := decodeAbout(data)
		if err != nil {
			return
		}
		written, err := json.Marshal(about)
		require.NoError(t, err)
		again, err := decodeAbout(written)
		require.NoError(t, err)
		require.Equal(t, about, again)
		if span, err := about.whole(); err == nil {
			require.True(t, span.Valid())
		}
	})
}
