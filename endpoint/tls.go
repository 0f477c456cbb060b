package endpoint

import (
	"crypto/tls"
	"errors"
	"fmt"
	"path/filepath"

	"fencerow/certs"
	"fencerow/changefeed"
)

// Names of the options for TLS, shared by every source and sink that connects to a server.
const (
	OptionTLSCA   = "tls_ca"
	OptionTLSCert = "tls_cert"
	OptionTLSKey  = "tls_key"
)

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
	files := certs.Files{CA: options[OptionTLSCA], Cert: options[OptionTLSCert], Key: options[OptionTLSKey]}
	if files.IsZero() {
		return nil, nil
	}
	config, err := files.Client()
	if fault, ok := errors.AsType[*certs.Error](err); ok {
		option := map[certs.File]string{certs.FileCA: OptionTLSCA, certs.FileCert: OptionTLSCert}[fault.File]
		return nil, tlsFault(option, fault.Path, fault.Err)
	}
	return config, err
}

func tlsFault(option, path string, err error) error {
	return &changefeed.Fault{
		Code: changefeed.CodeRequestInvalid, Field: "options." + option, Value: fmt.Sprintf("%.300q", path),
		Detail: "can't be used on this node", Cure: "put a PEM file there on every node, readable by it", Err: err,
	}
}
