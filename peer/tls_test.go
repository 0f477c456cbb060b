package peer

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/changefeed"
)

// signer is the authority of a cluster.
type signer struct {
	t    *testing.T
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pool *x509.CertPool
}

func newSigner(t *testing.T) *signer {
	t.Helper()
	s := &signer{t: t, pool: x509.NewCertPool()}
	s.cert, s.key = s.sign("authority", true)
	s.pool.AddCert(s.cert)
	return s
}

func (s *signer) sign(name string, authority bool) (*x509.Certificate, *ecdsa.PrivateKey) {
	s.t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(s.t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
		NotAfter: time.Now().Add(time.Hour), IsCA: authority, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, DNSNames: []string{name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	parent, signing := s.cert, s.key
	if authority {
		parent, signing = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, &key.PublicKey, signing)
	require.NoError(s.t, err)
	certificate, err := x509.ParseCertificate(der)
	require.NoError(s.t, err)
	return certificate, key
}

// of gives a node a certificate of the name, and has it admit who carries the name of a node id, which is the id itself.
func (s *signer) of(name string, refused *atomic.Int64) func(*Config) {
	certificate, key := s.sign(name, false)
	return func(c *Config) {
		patient(c)
		c.TLS = &tls.Config{
			MinVersion: tls.VersionTLS12, RootCAs: s.pool, ClientCAs: s.pool, ClientAuth: tls.RequireAndVerifyClientCert,
			Certificates: []tls.Certificate{{Certificate: [][]byte{certificate.Raw}, PrivateKey: key, Leaf: certificate}},
		}
		c.Admit = func(id changefeed.NodeID, shown *x509.Certificate) error {
			err := shown.VerifyHostname(string(id))
			if err != nil {
				refused.Add(1)
			}
			return err
		}
	}
}

// A certificate of the cluster's authority is not enough: it must carry the name of the node that shows it, whichever of
// the two connects.
func TestWhoHasTheKeyOfOneNodeCannotSpeakForAnother(t *testing.T) {
	var refusedBySmall, refusedByLarge, none atomic.Int64
	s := newSigner(t)
	middle := startNode(t, "m", s.of("m", &none))
	honest := startNode(t, "a", s.of("a", &refusedBySmall))
	introduce(middle, honest)
	eventually(t, func() bool { return len(middle.Reachable()) == 1 && len(honest.Reachable()) == 1 }, "the honest one is admitted")

	var own atomic.Int64
	judge := startNode(t, "n", s.of("n", &refusedByLarge))
	impostor := startNode(t, "b", s.of("a", &own)) // connects to n as b, with the key of a
	introduce(judge, impostor)
	eventually(t, func() bool { return refusedByLarge.Load() > 1 }, "who connects is refused, each time")
	require.Empty(t, judge.Reachable())

	dialer := startNode(t, "c", s.of("c", &refusedBySmall))
	trap := startNode(t, "z", s.of("a", &own)) // is connected to as z, with the key of a
	introduce(dialer, trap)
	eventually(t, func() bool { return refusedBySmall.Load() > 1 }, "who is connected to is refused, each time")
	require.Empty(t, dialer.Reachable())
	require.Zero(t, none.Load())
}
