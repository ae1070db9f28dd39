package cluster

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/metamorph-k8s/metamorph/pkg/review"
)

// secretKey stands for a private key.
var secretKey = base64.StdEncoding.EncodeToString(bytes.Repeat([]byte("private "), 512))

// secret is a Secret with a certificate for a host.
func secret(tb testing.TB, host string) object {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), DNSNames: []string{host}, NotBefore: time.Unix(1000, 0), NotAfter: time.Unix(2000, 0)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	return object{
		"apiVersion": "v1", "kind": "Secret", "metadata": object{"name": "of no interest"},
		"data": object{"tls.crt": base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), "tls.key": secretKey},
	}
}

func certificateSeen(namespace, name, host string) object {
	return object{"metadata": object{"namespace": namespace, "name": name}, "notBefore": 1000.0, "notAfter": 2000.0, "dnsNames": []any{host}}
}

func (f *fakeAPI) setSecret(name string, s object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.secrets[name] = s
}

func TestCertificate(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true, Options{Certificates: true})
	look := func() { f.Certificate(t.Context(), "a", "tls") }
	sees := func(what string, want object) {
		t.Helper()
		if !f.sees(review.CertificateKind, want) {
			t.Errorf("%s: %v", what, f.seen())
		}
	}
	const path = "/api/v1/namespaces/a/secrets/tls"

	look()
	if f.knows(review.CertificateKind) {
		t.Error("a Secret that is not there makes the kind known")
	}
	f.api.setSecret("a/tls", secret(t, "one.example"))
	look()
	if n := f.api.asked(path); n != 1 || f.knows(review.CertificateKind) {
		t.Errorf("asked %d times within a minute, want once", n)
	}
	f.clock.Step(certificateAge)
	look()
	sees("a certificate", object{"a": object{"tls": certificateSeen("a", "tls", "one.example")}})

	f.api.setSecret("a/tls", secret(t, "two.example"))
	f.clock.Step(certificateAge)
	look()
	sees("a renewed certificate", object{"a": object{"tls": certificateSeen("a", "tls", "two.example")}})

	f.api.set(path, http.StatusForbidden)
	f.clock.Step(certificateAge)
	look()
	sees("a Secret that cannot be read now", object{"a": object{"tls": certificateSeen("a", "tls", "two.example")}})
	if n := f.log.with("Could not read a Secret", `"secret"="tls"`); n != 1 {
		t.Errorf("told %d times", n)
	}
	f.api.set(path, 0)

	broken := secret(t, "x")
	broken["data"].(object)["tls.crt"] = base64.StdEncoding.EncodeToString([]byte("hunter2"))
	f.api.setSecret("a/tls", broken)
	f.clock.Step(certificateAge)
	look()
	sees("no certificate", object{})
	if n := f.log.with("A certificate cannot be read", `"secret"="tls"`); n != 1 {
		t.Errorf("told %d times", n)
	}

	f.api.setSecret("a/tls", secret(t, "three.example"))
	f.clock.Step(certificateAge)
	look()
	f.api.setSecret("a/tls", nil)
	f.clock.Step(certificateAge)
	look()
	sees("a Secret that is gone", object{})
	if n := f.log.with("hunter2") + f.log.with(secretKey[:20]); n != 0 {
		t.Errorf("the log holds what is secret:\n%s", strings.Join(f.log.all, "\n"))
	}
}

func TestCertificateIsAskedForOnce(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true, Options{Certificates: true})
	f.api.setSecret("a/tls", secret(t, "one.example"))
	f.api.hold = make(chan struct{})
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			f.Certificate(t.Context(), "a", "tls")
			if !f.knows(review.CertificateKind) {
				t.Error("judged without it")
			}
		})
	}
	f.eventually("a request", func() bool { return f.api.asked("secrets/tls") > 0 })

	// Somebody without patience is not kept.
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.Certificate(ctx, "a", "tls")
	close(f.api.hold)
	wg.Wait()
	if n := f.api.asked("secrets/tls"); n != 1 {
		t.Errorf("asked %d times, want once", n)
	}
}

func TestCertificateOfSomebodyWhoIsGone(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true, Options{Certificates: true})
	f.api.setSecret("a/tls", secret(t, "one.example"))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	f.Certificate(ctx, "a", "tls")
	f.Certificate(t.Context(), "a", "tls")
	if !f.knows(review.CertificateKind) {
		t.Error("the next one has to wait for a minute")
	}
}

func TestCertificatesAreBounded(t *testing.T) {
	t.Parallel()
	f := newFixture(t, true, Options{Certificates: true})
	s := secret(t, "one.example")
	const more = 10
	for i := range maxCertificates + more {
		name := fmt.Sprintf("tls-%d", i)
		f.api.setSecret("a/"+name, s)
		f.clock.Step(time.Millisecond)
		f.Certificate(t.Context(), "a", name)
	}
	if n := f.inventory.Len(); n != maxCertificates || len(f.certificates.looks) != n {
		t.Errorf("%d certificates and %d looks are kept, want %d", n, len(f.certificates.looks), maxCertificates)
	}
	kept := f.seen()[review.CertificateKind].(object)["a"].(object)
	if kept[fmt.Sprintf("tls-%d", more-1)] != nil || kept[fmt.Sprintf("tls-%d", more)] == nil {
		t.Error("others than the oldest made room")
	}
}

// TestCertificateIsNotFor: what asks nobody.
func TestCertificateIsNotFor(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		allowed           bool
		namespace, secret string
	}{
		"those who did not allow it": {false, "a", "tls"},
		"no namespace":               {true, "", "tls"},
		"no name":                    {true, "a", ""},
		"a name that is a path":      {true, "a", "../../../../apis/apps/v1/statefulsets"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFixture(t, true, Options{Certificates: c.allowed})
			f.Certificate(t.Context(), c.namespace, c.secret)
			if n := f.api.asked("/"); n != 0 || f.knows(review.CertificateKind) {
				t.Errorf("asked %d times, seen %v", n, f.seen())
			}
		})
	}
}
