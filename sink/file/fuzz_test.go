package file

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/change"
	"fencerow/changefeed"
	"fencerow/fence"
	"fencerow/sink"
)

// signedAs puts the right checksum on any bytes, so that a fuzzer comes past it.
func signedAs(t *testing.T, body, payload []byte) []byte {
	t.Helper()
	line, err := sign(rawObject(body), payload)
	if err != nil {
		return append(bytes.Clone(body), '\n')
	}
	return append(line, '\n')
}

// rawObject is an object as it stands.
type rawObject []byte

func (r rawObject) MarshalJSON() ([]byte, error) {
	if len(r) < 3 || r[0] != '{' || r[len(r)-1] != '}' {
		return nil, errors.New("no object")
	}
	return r, nil
}

// FuzzManifest reads any manifests and any seal: what is wrong is said as a fault that time does not heal, and the map
// of what is right is one.
func FuzzManifest(f *testing.F) {
	const head = `{"format":1,"number":1,"at":"","head":{"cluster":"c1","changefeed":"default/orders","uid":"uid-1","floor":1}}`
	const claim = `{"format":1,"number":2,"at":"","claim":{"uid":"uid-1","epoch":1,"seq":1,"span":{"start":"","end":""},"from":{"position":"1"}}}`
	const seal = `{"format":1,"incarnation":2,"at":"","segment":0,"bytes":0,"pieces":[{"start":"","end":"","position":"4"}]}`
	f.Add([]byte(head), []byte(claim), []byte(seal))
	f.Add([]byte(`{"format":2,"number":1,"at":"","head":null}`), []byte(`{"number":2,"claim":{"span":{"start":"b","end":"a"}}}`), []byte(`{}`))
	f.Add([]byte(head), []byte(claim), []byte(`{"format":1,"incarnation":2,"segment":9,"bytes":-1,"pieces":[{"start":"c","end":"b","position":"1"}],"wrote":[{"start":"z","end":"a"}]}`))
	f.Fuzz(func(t *testing.T, head, claim, seal []byte) {
		p := newPlace(t)
		for name, body := range map[string][]byte{claimName(p.directory, 1): head, claimName(p.directory, 2): claim, sealName(p.directory, 2): seal} {
			require.NoError(t, os.MkdirAll(filepath.Dir(name), directoryMode))
			require.NoError(t, os.WriteFile(name, signedAs(t, body, nil), fileMode))
		}
		require.NoError(t, os.MkdirAll(filepath.Join(p.directory, dataDirectory), directoryMode))
		s := p.reopen()
		writer, err := s.Claim(t.Context(), sink.Claim{Span: changefeed.Whole(), Token: fence.Mint(2, 1), From: change.At(1)})
		if err == nil {
			require.NoError(t, s.state.m.Validate())
			require.NoError(t, writer.Close())
			return
		}
		var fault *changefeed.Fault
		require.True(t, errors.As(err, &fault) || errors.Is(err, fence.ErrStale), "%v", err)
	})
}

// FuzzSegment reads any data file: it ends at its end or at what is torn, and never goes back.
func FuzzSegment(f *testing.F) {
	f.Add([]byte(`{"segment":1,"format":1,"changefeed":"default/orders","uid":"u","incarnation":2,"epoch":1,"seq":1}`),
		[]byte(`{"batch":1,"changes":1,"bytes":2,"span":{"start":"","end":""},"to":"7"}`), []byte("{}"), false)
	f.Add([]byte(`{"commit":1}`), []byte(`{"batch":1,"bytes":-1}`), []byte{}, true)
	f.Add([]byte(`{"commit":1e9}`), []byte(`{"batch":1,"bytes":999999999999}`), []byte("x"), false)
	f.Fuzz(func(t *testing.T, header, batch, payload []byte, packed bool) {
		directory := t.TempDir()
		require.NoError(t, os.MkdirAll(filepath.Join(directory, dataDirectory), directoryMode))
		id := segmentID{incarnation: 2, number: 1, compress: compressNone}
		if packed {
			id.compress = compressZstd
		}
		var data []byte
		for _, line := range [][]byte{signedAs(t, header, nil), signedAs(t, batch, payload)} {
			data = appendLine(data, bytes.TrimSuffix(line, []byte("\n")), id.compress)
		}
		data = append(data, payload...)
		require.NoError(t, os.WriteFile(id.name(directory), data, fileMode))
		reader, err := openSegment(osDisk{}, directory, id)
		require.NoError(t, err)
		defer func() { require.NoError(t, reader.close()) }()
		for before := int64(0); ; before = reader.offset {
			unit, err := reader.next()
			if err != nil {
				require.True(t, errors.Is(err, io.EOF) || errors.Is(err, errTorn), "%v", err)
				break
			}
			require.Greater(t, reader.offset, before)
			if unit.batch != nil {
				_, err = id.compress.unpack(unit.payload)
				require.True(t, err == nil || packed)
			}
		}
		_, err = reader.nextCounted(directory)
		require.Error(t, err)
	})
}
