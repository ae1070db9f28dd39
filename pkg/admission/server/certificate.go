package server

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/certwatcher"
)

// retryInterval is how often certificate files that do not exist yet are looked for: a Secret is mounted when somebody
// makes it.
const retryInterval = time.Second

// certificate is the server's; nil until there is one.
type certificate struct {
	current atomic.Pointer[tls.Certificate]
}

// errNoCertificate ends a handshake that comes too early.
var errNoCertificate = errors.New("there is no certificate yet")

func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if now := c.current.Load(); now != nil {
		return now, nil
	}
	return nil, errNoCertificate
}

func (c *certificate) ready() bool { return c.current.Load() != nil }

// watch keeps the certificate as the files are, until the context ends. Files that do not exist yet are waited for;
// what is wrong with them otherwise is an error at the start, and later a line in the log, with the certificate that
// was there before still in use.
func (c *certificate) watch(ctx context.Context, certFile, keyFile string, log logr.Logger) error {
	watcher, err := certwatcher.New(certFile, keyFile)
	for waited := false; errors.Is(err, fs.ErrNotExist); waited = true {
		if !waited {
			log.Info("Waiting for the certificate", "certificate", certFile, "key", keyFile)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(retryInterval):
		}
		watcher, err = certwatcher.New(certFile, keyFile)
	}
	if err != nil {
		return fmt.Errorf("reading the certificate: %w", err)
	}
	watcher.RegisterCallback(func(now tls.Certificate) { c.current.Store(&now) })
	return watcher.Start(ctx)
}

// selfSignedLife is how long a self-signed certificate is valid. It is made anew with every start.
const selfSignedLife = 90 * 24 * time.Hour

// selfSigned makes a CA, which is not kept, and a certificate of it for host names and IP addresses. It returns the CA's
// certificate as PEM.
func (c *certificate) selfSigned(hosts []string) (ca []byte, err error) {
	now := time.Now()
	template := func(name string) *x509.Certificate {
		return &x509.Certificate{
			SerialNumber: big.NewInt(now.UnixNano()), Subject: pkix.Name{CommonName: name},
			NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedLife), // clocks differ
			BasicConstraintsValid: true,
		}
	}
	authority, leaf := template("Metamorph, self-signed"), template("metamorph")
	authority.IsCA, authority.KeyUsage = true, x509.KeyUsageCertSign
	leaf.KeyUsage, leaf.ExtKeyUsage = x509.KeyUsageDigitalSignature, []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	for _, h := range hosts {
		if ip := net.ParseIP(h); ip != nil {
			leaf.IPAddresses = append(leaf.IPAddresses, ip)
		} else {
			leaf.DNSNames = append(leaf.DNSNames, h)
		}
	}
	authorityKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	authorityDER, err := x509.CreateCertificate(rand.Reader, authority, authority, authorityKey.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	leafDER, err := x509.CreateCertificate(rand.Reader, leaf, authority, key.Public(), authorityKey)
	if err != nil {
		return nil, err
	}
	c.current.Store(&tls.Certificate{Certificate: [][]byte{leafDER}, PrivateKey: key})
	var out bytes.Buffer
	err = pem.Encode(&out, &pem.Block{Type: "CERTIFICATE", Bytes: authorityDER})
	return out.Bytes(), err
}
