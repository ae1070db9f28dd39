package pki

import (
	"crypto/tls"
	"crypto/x509"
	"testing"
)

func TestCertificatesAreOfTheAuthority(t *testing.T) {
	ca, err := NewAuthority("test")
	if err != nil {
		t.Fatal(err)
	}
	cert, key, err := ca.Issue(Subject{Name: "n", Groups: []string{"g"}, Hosts: []string{"example.com", "127.0.0.1"}})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM)
	for _, host := range []string{"example.com", "127.0.0.1"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: host}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: "other.example.com"}); err == nil {
		t.Error("another host is accepted")
	}
	client, _, err := ca.Issue(Subject{Name: "client"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tls.X509KeyPair(client, key); err == nil {
		t.Error("a certificate goes with another's key")
	}
}
