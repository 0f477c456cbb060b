package dbtest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Certified is the user who is let in with [Certs.Key] alone.
const Certified = "certified"

// Certs are PEM files: of an authority, and of the user whom it certifies.
type Certs struct{ CA, Cert, Key string }

// certsLast is how long certificates are good for, from an hour ago on.
const certsLast = 24 * time.Hour

// NewCerts makes an authority of its own that no server knows, and certificates of it, in a folder.
func NewCerts(dir string) (Certs, error) {
	out := Certs{CA: filepath.Join(dir, "ca.pem"), Cert: filepath.Join(dir, "client.pem"), Key: filepath.Join(dir, "client.key")}
	authority := &x509.Certificate{
		Subject: pkix.Name{CommonName: "authority of tests"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	key, err := issue(authority, nil, nil)
	if err != nil {
		return Certs{}, err
	}
	uses := []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
	server := &x509.Certificate{Subject: pkix.Name{CommonName: "server"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, ExtKeyUsage: uses}
	client := &x509.Certificate{Subject: pkix.Name{CommonName: Certified}, ExtKeyUsage: uses}
	serverKey, failed := issue(server, authority, key)
	clientKey, err := issue(client, authority, key)
	return out, errors.Join(failed, err,
		writePEM(out.CA, "CERTIFICATE", authority.Raw),
		writeKey(serverFile(dir, "key"), serverKey), writePEM(serverFile(dir, "pem"), "CERTIFICATE", server.Raw),
		writeKey(out.Key, clientKey), writePEM(out.Cert, "CERTIFICATE", client.Raw))
}

// serverFile is where a server's own certificate and key are.
func serverFile(dir, kind string) string { return filepath.Join(dir, "server."+kind) }

// issue signs a certificate, its own if there is no authority, and fills in its Raw.
func issue(cert, authority *x509.Certificate, signing *ecdsa.PrivateKey) (*ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	if authority == nil {
		authority, signing = cert, key
	}
	cert.SerialNumber = big.NewInt(time.Now().UnixNano())
	cert.NotBefore = time.Now().Add(-time.Hour)
	cert.NotAfter = cert.NotBefore.Add(certsLast)
	if cert.Raw, err = x509.CreateCertificate(rand.Reader, cert, authority, &key.PublicKey, signing); err != nil {
		return nil, fmt.Errorf("dbtest: %w", err)
	}
	return key, nil
}

func writeKey(path string, key *ecdsa.PrivateKey) error {
	if key == nil {
		return nil // it was not made, and the error says so
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return fmt.Errorf("dbtest: %w", err)
	}
	return writePEM(path, "PRIVATE KEY", der)
}

func writePEM(path, kind string, der []byte) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("dbtest: %w", err)
	}
	return nil
}

// certify makes the certificates of a server in its folder, readable by who runs it.
func certify(dir string, as *syscall.Credential) (Certs, error) {
	out, err := NewCerts(dir)
	if err != nil || as == nil {
		return out, err
	}
	for _, file := range []string{out.CA, serverFile(dir, "key"), serverFile(dir, "pem")} {
		err = errors.Join(err, os.Chown(file, int(as.Uid), int(as.Gid)))
	}
	return out, err
}
