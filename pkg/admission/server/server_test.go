package server_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/cert"
	logf "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/metamorph-k8s/metamorph/pkg/admission/server"
)

// patience is how long something may take that takes milliseconds, on a machine that is busy with other things.
const patience = time.Minute

func TestMain(m *testing.M) {
	logf.SetLogger(logr.Discard())
	os.Exit(m.Run())
}

// running is a server in this process.
type running struct {
	webhook, plain string
	client         *http.Client
	stop           context.CancelFunc
	// ended has the error of Run.
	ended chan error
}

// start runs a server, with a self-signed certificate unless the options say otherwise, and does not wait for it to be
// ready.
func start(t *testing.T, config *rest.Config, o server.Options) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{stop: cancel, ended: make(chan error, 1)}
	ca := filepath.Join(t.TempDir(), "ca.crt")
	o.Config, o.Address, o.PlainAddress, o.Version = config, "127.0.0.1:0", "127.0.0.1:0", "v1.0.0"
	o.Log = testr.New(t)
	if testing.Short() || !testing.Verbose() {
		o.Log = logr.Discard()
	}
	if o.CertFile == "" {
		o.SelfSigned, o.SelfSignedHosts, o.CAOut = true, []string{"localhost", "127.0.0.1"}, ca
	}
	if o.DrainTimeout == 0 {
		o.DrainTimeout = patience
	}
	listening := make(chan struct{})
	o.Listening = func(webhook, plain net.Addr) {
		r.webhook, r.plain = "https://"+webhook.String(), "http://"+plain.String()
		close(listening)
	}
	go func() { r.ended <- server.Run(ctx, o) }()
	t.Cleanup(func() { cancel() })
	select {
	case <-listening:
	case err := <-r.ended:
		t.Fatalf("it ended: %v", err)
	}
	if o.SelfSigned {
		r.trust(t, ca)
	}
	return r
}

// trust makes a client that believes the CA in a file.
func (r *running) trust(t *testing.T, file string) {
	t.Helper()
	pem, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		t.Fatal("no certificate in the CA bundle")
	}
	r.client = &http.Client{Timeout: patience, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}, ForceAttemptHTTP2: true}}
	t.Cleanup(r.client.CloseIdleConnections)
}

// eventually asks until the answer is yes.
func eventually(t *testing.T, what string, ask func() bool) {
	t.Helper()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !ask() {
		select {
		case <-tick.C:
		case <-end:
			t.Fatalf("not within %s: %s", patience, what)
		}
	}
}

func get(url string) (int, string) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	res, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(body)
}

func (r *running) waitReady(t *testing.T) {
	t.Helper()
	eventually(t, "ready", func() bool { code, _ := get(r.plain + "/readyz"); return code == http.StatusOK })
}

// end stops the server and returns its error.
func (r *running) end(t *testing.T) error {
	t.Helper()
	r.stop()
	return r.wait(t)
}

func (r *running) wait(t *testing.T) error {
	t.Helper()
	select {
	case err := <-r.ended:
		return err
	case <-time.After(patience):
		t.Fatal("it does not end")
		return nil
	}
}

// admit asks for the expansion of the shortest manifest.
func (r *running) admit(namespace string, annotations map[string]string) (*admissionv1.AdmissionResponse, error) {
	all := map[string]string{"metamorph.dev/role": "kafka"}
	for k, v := range annotations {
		all[k] = v
	}
	obj, err := json.Marshal(map[string]any{
		"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": "events", "namespace": namespace, "annotations": all},
	})
	if err != nil {
		return nil, err
	}
	review, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"},
		Request: &admissionv1.AdmissionRequest{
			UID: "u", Operation: admissionv1.Create, Namespace: namespace, Name: "events",
			Kind:     metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: "StatefulSet"},
			Resource: metav1.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"},
			Object:   runtime.RawExtension{Raw: obj},
		},
	})
	if err != nil {
		return nil, err
	}
	res, err := r.client.Post(r.webhook+"/mutate?timeout=10s", "application/json", bytes.NewReader(review))
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	var out admissionv1.AdmissionReview
	if err := json.NewDecoder(res.Body).Decode(&out); err != nil {
		return nil, err
	}
	return out.Response, nil
}

func (r *running) mustAdmit(t *testing.T, namespace string, annotations map[string]string, want string) {
	t.Helper()
	res, err := r.admit(namespace, annotations)
	if err != nil {
		t.Fatal(err)
	}
	if !res.Allowed || !strings.Contains(string(res.Patch), want) {
		t.Errorf("want %s, got %v, %s", want, res.Result, res.Patch)
	}
}

func TestServes(t *testing.T) {
	t.Parallel()
	api := &fakeAPI{
		namespaces: map[string]object{
			"kube-system": namespace("kube-system", "cluster-uid", nil),
			"plain":       namespace("plain", "p", nil),
			"shop":        namespace("shop", "s", object{"metamorph.dev/heap": "3Gi", "other": "x"}),
		},
		late:         map[string]object{"new": namespace("new", "n", object{"metamorph.dev/heap": "2Gi"})},
		profiles:     []object{profile("b", "big", object{"heap": "7Gi"}), profile("a", "big", object{"heap": "6Gi"})},
		lateProfiles: []object{profile("c", "late", object{"heap": "5Gi"})},
	}
	r := start(t, api.start(t), server.Options{})
	r.waitReady(t)
	r.mustAdmit(t, "plain", nil, "-Xmx1024m")
	r.mustAdmit(t, "shop", nil, "-Xmx3072m")
	// The cache does not have these yet.
	r.mustAdmit(t, "new", nil, "-Xmx2048m")
	r.mustAdmit(t, "plain", map[string]string{"metamorph.dev/profile": "late"}, "-Xmx5120m")
	// Of two ConfigMaps for one profile, the first by name.
	r.mustAdmit(t, "plain", map[string]string{"metamorph.dev/profile": "big"}, "-Xmx6144m")
	for _, test := range []struct {
		namespace, profile string
		want               int32
	}{{"absent", "", 500}, {"plain", "absent", 422}, {"plain", "no label!", 422}} {
		annotations := map[string]string{}
		if test.profile != "" {
			annotations["metamorph.dev/profile"] = test.profile
		}
		res, err := r.admit(test.namespace, annotations)
		if err != nil {
			t.Fatal(err)
		}
		if res.Allowed || res.Result.Code != test.want {
			t.Errorf("%v: got %v, want %d", test, res.Result, test.want)
		}
	}
	if code, text := get(r.plain + "/metrics"); code != 200 || !strings.Contains(text, `metamorph_expansions_total{role="kafka"}`) {
		t.Errorf("metrics: %d %s", code, text)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		res, err := r.client.Get(r.webhook + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s with TLS: %s", path, res.Status)
		}
	}
	if err := r.end(t); err != nil {
		t.Errorf("it ended with %v", err)
	}
	for path := range api.paths {
		if !slices.Contains(rightful, path) {
			t.Errorf("it asked for %s, which needs rights or time for nothing", path)
		}
	}
}

// rightful is all that a webhook asks of an API server; there is no discovery among it.
var rightful = []string{
	"GET /api/v1/namespaces", "GET /api/v1/namespaces/kube-system", "GET /api/v1/namespaces/late", "GET /api/v1/namespaces/absent", "GET /api/v1/namespaces/slow", "GET /api/v1/namespaces/new",
	// Profiles and policies.
	"GET /api/v1/namespaces/metamorph-system/configmaps",
	// What policies see.
	"GET /api/v1/limitranges", "GET /api/v1/resourcequotas", "GET /apis/apps/v1/statefulsets", "GET /apis/autoscaling/v2/horizontalpodautoscalers",
	"GET /apis/policy/v1/poddisruptionbudgets", "GET /apis/storage.k8s.io/v1/storageclasses",
	// The leader's election.
	"GET /apis/coordination.k8s.io/v1/namespaces/metamorph-system/leases/metamorph", "POST /apis/coordination.k8s.io/v1/namespaces/metamorph-system/leases",
	"PUT /apis/coordination.k8s.io/v1/namespaces/metamorph-system/leases/metamorph",
}

func TestNotReadyWithoutCaches(t *testing.T) {
	t.Parallel()
	// Nobody answers there.
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r := start(t, &rest.Config{Host: "http://" + l.Addr().String()}, server.Options{})
	eventually(t, "alive", func() bool { code, _ := get(r.plain + "/healthz"); return code == http.StatusOK })
	if code, text := get(r.plain + "/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "caches") {
		t.Errorf("got %d %s", code, text)
	}
	if err := r.end(t); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestDrains holds that a request under way is answered although the end has begun.
func TestDrains(t *testing.T) {
	t.Parallel()
	api := &fakeAPI{late: map[string]object{"slow": namespace("slow", "s", nil)}, hold: make(chan struct{}), held: make(chan struct{}, 1)}
	r := start(t, api.start(t), server.Options{})
	r.waitReady(t)
	answer := make(chan error, 1)
	var res *admissionv1.AdmissionResponse
	go func() {
		var err error
		res, err = r.admit("slow", nil)
		answer <- err
	}()
	<-api.held
	r.stop()
	eventually(t, "not ready any more", func() bool { code, _ := get(r.plain + "/readyz"); return code != http.StatusOK })
	close(api.hold)
	if err := <-answer; err != nil || !res.Allowed || len(res.Patch) == 0 {
		t.Errorf("the request under way was lost: %v %v", err, res)
	}
	if err := r.wait(t); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// TestDrainIsBounded holds that a request that never ends does not keep the process.
func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	api := &fakeAPI{hold: make(chan struct{}), held: make(chan struct{}, 1)}
	config := api.start(t)
	t.Cleanup(func() { close(api.hold) })
	r := start(t, config, server.Options{DrainTimeout: time.Millisecond})
	r.waitReady(t)
	go func() { _, _ = r.admit("slow", nil) }()
	<-api.held
	if err := r.end(t); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

// writeCertificate writes a new certificate and its key, and returns the certificate.
func writeCertificate(t *testing.T, certFile, keyFile string) []byte {
	t.Helper()
	certificate, key, err := cert.GenerateSelfSignedCertKey("localhost", []net.IP{net.IPv4(127, 0, 0, 1)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	// The way a Secret's files change: the new ones take the names of the old.
	for file, data := range map[string][]byte{keyFile: key, certFile: certificate} {
		if err := os.WriteFile(file+".new", data, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(file+".new", file); err != nil {
			t.Fatal(err)
		}
	}
	return certificate
}

func TestCertificateFiles(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	certFile, keyFile := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	api := &fakeAPI{}
	r := start(t, api.start(t), server.Options{CertFile: certFile, KeyFile: keyFile})
	eventually(t, "only the certificate is missing", func() bool {
		code, text := get(r.plain + "/readyz")
		return code == http.StatusServiceUnavailable && strings.Contains(text, "certificate")
	})
	serves := func(certificate []byte) bool {
		pool := x509.NewCertPool()
		pool.AppendCertsFromPEM(certificate)
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: pool}}}
		res, err := client.Get(r.webhook + "/readyz")
		if err == nil {
			res.Body.Close()
		}
		return err == nil
	}
	first := writeCertificate(t, certFile, keyFile)
	eventually(t, "the first certificate", func() bool { return serves(first) })
	second := writeCertificate(t, certFile, keyFile)
	eventually(t, "the second certificate", func() bool { return serves(second) })
	if err := r.end(t); err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func TestBadCertificateFiles(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "tls.pem")
	if err := os.WriteFile(file, []byte("no certificate"), 0o600); err != nil {
		t.Fatal(err)
	}
	api := &fakeAPI{}
	r := start(t, api.start(t), server.Options{CertFile: file, KeyFile: file})
	if err := r.wait(t); err == nil || !strings.Contains(err.Error(), "reading the certificate") {
		t.Errorf("it ended with %v", err)
	}
}

func TestRegisters(t *testing.T) {
	t.Parallel()
	api := &fakeAPI{}
	config := api.start(t)
	for range 2 { // creates, then updates
		r := start(t, config, server.Options{Register: "https://localhost"})
		last := func() map[string]any {
			api.mu.Lock()
			defer api.mu.Unlock()
			if len(api.registered) == 0 {
				return nil
			}
			return api.registered[len(api.registered)-1]
		}
		url := func() any {
			hooks, _ := last()["webhooks"].([]any)
			if len(hooks) == 0 {
				return nil
			}
			return hooks[0].(map[string]any)["clientConfig"].(map[string]any)["url"]
		}
		_, port, _ := net.SplitHostPort(strings.TrimPrefix(r.webhook, "https://"))
		want := "https://localhost:" + port + "/mutate"
		eventually(t, "registered under "+want, func() bool { return url() == want })
		bundle := last()["webhooks"].([]any)[0].(map[string]any)["clientConfig"].(map[string]any)["caBundle"].(string)
		pem, err := base64.StdEncoding.DecodeString(bundle)
		if pool := x509.NewCertPool(); err != nil || !pool.AppendCertsFromPEM(pem) {
			t.Errorf("CA bundle %s: %v", bundle, err)
		}
		if err := r.end(t); err != nil {
			t.Errorf("it ended with %v", err)
		}
	}
}

func TestRunErrors(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() }) // the parallel cases run after this function
	config := (&fakeAPI{}).start(t)
	for name, test := range map[string]struct {
		options server.Options
		want    string
	}{
		"a port that is taken":           {server.Options{SelfSigned: true, Address: l.Addr().String()}, "address already in use"},
		"a health port that is taken":    {server.Options{SelfSigned: true, Address: "127.0.0.1:0", PlainAddress: l.Addr().String()}, "address already in use"},
		"a CA file that nobody can read": {server.Options{SelfSigned: true, CAOut: filepath.Join(t.TempDir(), "absent", "ca")}, "no such file"},
		"a registration without a CA":    {server.Options{Register: "https://x"}, "self-signed"},
		"a registration elsewhere":       {server.Options{SelfSigned: true, Address: "127.0.0.1:0", Register: "https://x/y"}, "is not https://HOST"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := test.options
			o.Config, o.Log = config, logr.Discard()
			if err := server.Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %s", err, test.want)
			}
		})
	}
}
