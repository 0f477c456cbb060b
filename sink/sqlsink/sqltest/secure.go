package sqltest

import (
	"net"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
	"fencerow/endpoint"
	"fencerow/internal/dbtest"
	"fencerow/sink"
)

// testCertified: both ends show a certificate, and without ours we are not let in.
func testCertified(t *testing.T, h Harness) {
	target := h.New(t)
	way := Way{User: h.Certified(t, target)}
	requireFault(t, target.Open(t, me(), way).Raise(t.Context(), 2, sink.KnownNothing), changefeed.CodeSinkUnreachable)
	way.Options = changefeed.Options{endpoint.OptionTLSCA: h.Certs.CA}
	requireFault(t, target.Open(t, me(), way).Raise(t.Context(), 2, sink.KnownNothing), changefeed.CodeSinkUnreachable)
	way.Options = changefeed.Options{
		endpoint.OptionTLSCA: h.Certs.CA, endpoint.OptionTLSCert: h.Certs.Cert, endpoint.OptionTLSKey: h.Certs.Key,
	}
	s := target.Open(t, me(), way)
	require.NoError(t, s.Raise(t.Context(), 2, sink.KnownNothing))
	w := claim(t, s, whole(2, 1))
	require.NoError(t, w.Write(t.Context(), upTo(2)))
	require.NoError(t, w.Close())
	require.Equal(t, []string{"key-002"}, target.Keys(t))
}

// testUntrusted: a server that another authority vouches for, or that has another name, gets nothing of ours.
func testUntrusted(t *testing.T, h Harness) {
	target := h.New(t)
	other, err := dbtest.NewCerts(t.TempDir())
	require.NoError(t, err)
	s := target.Open(t, me(), Way{Options: changefeed.Options{endpoint.OptionTLSCA: other.CA}})
	requireFault(t, s.Raise(t.Context(), 2, sink.KnownNothing), changefeed.CodeSinkUnreachable, "certificate", "authority", "tls_ca")
	_, port, err := net.SplitHostPort(target.Host())
	require.NoError(t, err)
	s = target.Open(t, me(), Way{Host: net.JoinHostPort("localhost", port), Options: changefeed.Options{endpoint.OptionTLSCA: h.Certs.CA}})
	requireFault(t, s.Raise(t.Context(), 2, sink.KnownNothing), changefeed.CodeSinkUnreachable, "certificate", "localhost", "tls_ca")
}
