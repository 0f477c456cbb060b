package endpoint

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"path/filepath"

	"fencerow/changefeed"
)

// Names of the options for TLS, shared by every source and sink that connects to a server.
const (
	OptionTLSCA   = "tls_ca"
	OptionTLSCert = "tls_cert"
	OptionTLSKey  = "tls_key"
)

// pemBytesMax bounds a file of certificates; bundles of all public authorities have about 250 KiB.
const pemBytesMax = 4 << 20

// TLSOptions returns the options for TLS, for the tables of kinds that connect to a server.
func TLSOptions() []changefeed.Option {
	return []changefeed.Option{
		{
			Name: OptionTLSCA, Check: absolute,
			Doc: "absolute path of a PEM file with the authorities that the server's certificate is checked against; switches TLS on",
		},
		{
			Name: OptionTLSCert, Check: absolute,
			Doc: "absolute path of a PEM file with the client's certificate, together with tls_key; switches TLS on",
		},
		{Name: OptionTLSKey, Check: absolute, Doc: "absolute path of a PEM file with the key of tls_cert"},
	}
}

func absolute(value string) error {
	if !filepath.IsAbs(value) {
		return errors.New("is not an absolute path")
	}
	return nil
}

// TLS reads the files that the options name, on this node. It returns nil where the options ask for no TLS.
func TLS(options changefeed.Options) (*tls.Config, error) {
	ca, cert, key := options[OptionTLSCA], options[OptionTLSCert], options[OptionTLSKey]
	if ca == "" && cert == "" && key == "" {
		return nil, nil
	}
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if ca != "" {
		pem, err := readBounded(ca, pemBytesMax)
		if err != nil {
			return nil, tlsFault(OptionTLSCA, ca, err)
		}
		config.RootCAs = x509.NewCertPool()
		if !config.RootCAs.AppendCertsFromPEM(pem) {
			return nil, tlsFault(OptionTLSCA, ca, errors.New("no certificate in it"))
		}
	}
	if (cert == "") != (key == "") {
		return nil, tlsFault(OptionTLSCert, cert, errors.New("tls_cert and tls_key go together"))
	}
	if cert != "" {
		// Read at every handshake, so that a certificate is renewed in place, and once here to find faults early.
		load := func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
			pair, err := tls.LoadX509KeyPair(cert, key)
			if err != nil {
				return nil, tlsFault(OptionTLSCert, cert, err)
			}
			return &pair, nil
		}
		if _, err := load(nil); err != nil {
			return nil, err
		}
		config.GetClientCertificate = load
	}
	return config, nil
}

func tlsFault(option, path string, err error) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "options." + option, Value: fmt.Sprintf("%.300q", path),
		Detail: "can't be used on this node", Cure: "put a PEM file there on every node, readable by it", Err: err,
	}
}
