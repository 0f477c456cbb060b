package certs_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"fencerow/certs"
)

// write makes a certificate of that name and its key in a folder.
func write(t *testing.T, folder, name string) certs.Files {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	made := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, made, made, &key.PublicKey, key)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	require.NoError(t, err)
	files := certs.Files{Cert: filepath.Join(folder, "cert.pem"), Key: filepath.Join(folder, "key.pem"), CA: filepath.Join(folder, "cert.pem")}
	require.NoError(t, os.WriteFile(files.Cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(files.Key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	return files
}

func TestCertificatesAreRenewedInPlace(t *testing.T) {
	folder := t.TempDir()
	files := write(t, folder, "first")
	config, err := files.Both()
	require.NoError(t, err)
	require.NotNil(t, config.RootCAs)
	require.Equal(t, config.RootCAs, config.ClientCAs)
	name := func() string {
		pair, err := config.GetCertificate(nil)
		require.NoError(t, err)
		parsed, err := x509.ParseCertificate(pair.Certificate[0])
		require.NoError(t, err)
		return parsed.Subject.CommonName
	}
	require.Equal(t, "first", name())
	write(t, folder, "second")
	require.Equal(t, "second", name())
	pair, err := config.GetClientCertificate(nil)
	require.NoError(t, err)
	require.NotEmpty(t, pair.Certificate)
}

func TestFaultsOfFilesAreFoundEarlyAndNamed(t *testing.T) {
	folder := t.TempDir()
	good := write(t, folder, "good")
	empty := filepath.Join(folder, "empty.pem")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	for name, test := range map[string]struct {
		files certs.Files
		file  certs.File
	}{
		"no authority in it":    {certs.Files{CA: empty}, certs.FileCA},
		"authority not there":   {certs.Files{CA: filepath.Join(folder, "no")}, certs.FileCA},
		"a folder":              {certs.Files{CA: folder}, certs.FileCA},
		"certificate without":   {certs.Files{Cert: good.Cert}, certs.FileCert},
		"key without":           {certs.Files{Key: good.Key}, certs.FileCert},
		"key that does not fit": {certs.Files{Cert: good.Cert, Key: empty}, certs.FileCert},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := test.files.Client()
			var fault *certs.Error
			require.ErrorAs(t, err, &fault)
			require.Equal(t, test.file, fault.File)
			require.NotEmpty(t, fault.Error())
		})
	}
	config, err := certs.Files{}.Client()
	require.NoError(t, err)
	require.Nil(t, config.RootCAs)
	require.True(t, certs.Files{}.IsZero())
}
