package node

import (
	"crypto/x509"
	"testing"

	"github.com/stretchr/testify/require"

	"fencerow/maintainer"
	"fencerow/record"
)

func TestACertificateIsThatOfTheNodeWhoseNameItCarries(t *testing.T) {
	l := &life{}
	certificate := &x509.Certificate{DNSNames: []string{"n1", "*.nodes.example"}}
	require.ErrorContains(t, l.admitPeer("id-1", certificate), "not seen yet")
	l.known.Store(&maintainer.Nodes{Nodes: []record.Node{{ID: "id-1", Name: "n1"}, {ID: "id-2", Name: "n2"}, {ID: "id-3", Name: "n3.nodes.example"}}})
	require.NoError(t, l.admitPeer("id-1", certificate))
	require.NoError(t, l.admitPeer("id-3", certificate))
	require.ErrorContains(t, l.admitPeer("id-2", certificate), `"n2"`)
	require.ErrorContains(t, l.admitPeer("id-4", certificate), "not seen yet")
}
