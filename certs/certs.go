// Package certs reads PEM files of certificates into TLS configurations: of clients, and of nodes that are both client
// and server to one another. It is a leaf, and the one place where such files are read.
package certs

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"os"
)

// pemBytesMax bounds a file of certificates; bundles of all public authorities have about 250 KiB.
const pemBytesMax = 4 << 20

// Files names PEM files. The zero value names none.
type Files struct {
	CA        string // "" for the system's authorities
	Cert, Key string // both or none
}

// IsZero reports whether no file is named.
func (f Files) IsZero() bool { return f == Files{} }

// File is one of the files.
type File string

// The files.
const (
	FileCA   File = "authority"
	FileCert File = "certificate"
)

// Error says which file can't be used, and why.
type Error struct {
	File File
	Path string
	Err  error
}

// Error names the file.
func (e *Error) Error() string { return fmt.Sprintf("certs: %s %s: %v", e.File, e.Path, e.Err) }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// Client returns the configuration of a client. Certificate and key are read again at every handshake, so that they can
// be renewed in place; they are read once here to find faults early. The error is an [*Error].
func (f Files) Client() (*tls.Config, error) {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if f.CA != "" {
		pem, err := readBounded(f.CA)
		if err != nil {
			return nil, &Error{FileCA, f.CA, err}
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, &Error{FileCA, f.CA, errors.New("there is no certificate in it")}
		}
	}
	if (f.Cert == "") != (f.Key == "") {
		return nil, &Error{FileCert, f.Cert, errors.New("a certificate needs a key, and a key a certificate")}
	}
	if f.Cert == "" {
		return config, nil
	}
	if _, err := f.pair(); err != nil {
		return nil, err
	}
	config.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return f.pair() }
	return config, nil
}

// Both returns the configuration of a node that is server and client: its clients are checked against the same
// authorities where ClientAuth asks for that.
func (f Files) Both() (*tls.Config, error) {
	config, err := f.Client()
	if err != nil {
		return nil, err
	}
	config.GetCertificate = func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return f.pair() }
	config.ClientCAs = config.RootCAs
	return config, nil
}

func (f Files) pair() (*tls.Certificate, error) {
	pair, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return nil, &Error{FileCert, f.Cert, err}
	}
	return &pair, nil
}

// readBounded reads a regular file. It never waits on a pipe or a device.
func readBounded(path string) (data []byte, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("is not a regular file")
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	data, err = io.ReadAll(io.LimitReader(file, pemBytesMax+1))
	if err == nil && len(data) > pemBytesMax {
		err = fmt.Errorf("is larger than %d bytes", pemBytesMax)
	}
	return data, err
}
