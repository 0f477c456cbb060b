package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"go.uber.org/zap"

	"fencerow/changefeed"
)

// certificates are the node's certificate and its authority, as the files are now: they can be renewed in place, without
// a restart. A file that can't be used, as when it is half written, leaves what there was before.
type certificates struct {
	files TLSFiles
	name  string // of the node, which its certificate must carry
	log   *zap.Logger

	mu     sync.Mutex // guards what follows
	loaded loaded
	seen   [3]stamp
}

// loaded is what the files held together.
type loaded struct {
	pair      *tls.Certificate
	authority *x509.CertPool
}

// stamp tells whether a file has changed.
type stamp struct {
	at   time.Time
	size int64
}

// openCertificates reads the files, which must be right at the start.
func openCertificates(files TLSFiles, name string, log *zap.Logger) (*certificates, error) {
	c := &certificates{files: files, name: name, log: log}
	seen, err := c.stamps()
	if err == nil {
		c.loaded, err = c.load()
	}
	if err != nil {
		return nil, &changefeed.Fault{
			Code: changefeed.CodeRequestInvalid, Field: "--tls-cert, --tls-key, --tls-ca", Detail: "can't be used",
			Cure: "give PEM files that this process can read, with a certificate that has the node's --name among its DNS names", Err: err,
		}
	}
	c.seen = seen
	return c, nil
}

func (c *certificates) stamps() (seen [3]stamp, err error) {
	for i, path := range []string{c.files.Cert, c.files.Key, c.files.CA} {
		info, err := os.Stat(path)
		if err != nil {
			return seen, err
		}
		seen[i] = stamp{at: info.ModTime(), size: info.Size()}
	}
	return seen, nil
}

func (c *certificates) load() (loaded, error) {
	read, err := c.files.files().Both()
	if err != nil {
		return loaded{}, err
	}
	pair, err := read.GetCertificate(nil)
	if err != nil {
		return loaded{}, err
	}
	if err := carries(pair.Leaf, c.name); err != nil {
		return loaded{}, err
	}
	return loaded{pair: pair, authority: read.RootCAs}, nil
}

// current returns what the files hold, read again if one of them has changed.
func (c *certificates) current() loaded {
	c.mu.Lock()
	defer c.mu.Unlock()
	seen, err := c.stamps()
	if err == nil && seen == c.seen {
		return c.loaded
	}
	var fresh loaded
	if err == nil {
		fresh, err = c.load()
	}
	if err != nil {
		c.log.Warn("certificate files can't be used; going on with those from before", zap.Error(err))
		return c.loaded
	}
	c.loaded, c.seen = fresh, seen
	c.log.Info("certificates were read again", zap.Time("until", notAfter(fresh.pair)))
	return fresh
}

// carries refuses a certificate that isn't that of the node of the name.
func carries(certificate *x509.Certificate, name string) error {
	if err := certificate.VerifyHostname(name); err != nil {
		return fmt.Errorf("the certificate of %.100q does not carry the node's name %q among its DNS names %.300q",
			certificate.Subject.CommonName, name, certificate.DNSNames)
	}
	return nil
}

// admitPeer takes a certificate for that of a node if it carries the name that the node's record has. A node whose record
// was not seen yet is refused, and tries again.
func (l *life) admitPeer(id changefeed.NodeID, certificate *x509.Certificate) error {
	if list := l.known.Load(); list != nil {
		for _, node := range list.Nodes {
			if node.ID == id {
				return carries(certificate, node.Name)
			}
		}
	}
	return errors.New("its record was not seen yet")
}

func notAfter(pair *tls.Certificate) time.Time {
	if pair.Leaf == nil {
		return time.Time{}
	}
	return pair.Leaf.NotAfter
}

// server is the configuration of a listener, as the files are at each connection.
func (c *certificates) server(auth tls.ClientAuthType) *tls.Config {
	at := func() *tls.Config {
		now := c.current()
		return &tls.Config{
			MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{*now.pair}, ClientCAs: now.authority, ClientAuth: auth,
		}
	}
	config := at()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) {
		fresh := at()
		fresh.NextProtos = config.NextProtos
		return fresh, nil
	}
	return config
}

// client is the configuration of connections to other nodes: the certificate is that of each connection, the authority
// that of the call.
func (c *certificates) client() *tls.Config {
	return &tls.Config{
		MinVersion: tls.VersionTLS12, RootCAs: c.current().authority,
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return c.current().pair, nil },
	}
}

// dial connects to another node under the certificate and the authority of now.
func (c *certificates) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	return (&tls.Dialer{Config: c.client()}).DialContext(ctx, network, addr)
}

// peers is the configuration between nodes, of both directions: each shows a certificate of the cluster's authority. A
// new authority takes effect for incoming connections at once, and for outgoing ones with the next life of the node.
func (c *certificates) peers() *tls.Config {
	config := c.server(tls.RequireAndVerifyClientCert)
	outgoing := c.client()
	config.RootCAs, config.GetClientCertificate = outgoing.RootCAs, outgoing.GetClientCertificate
	return config
}
