// Package expansion_test sends manifests to a real API server with a real kubectl, through Metamorph.
package expansion_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/admission/server"
	"github.com/metamorph-k8s/metamorph/test/apiserver"
)

const (
	// own is Metamorph's namespace.
	own     = "metamorph-system"
	version = "v0.0.0-test"
	// Building the control plane, which happens once, takes most of it.
	startTimeout = 20 * time.Minute
)

// The tests share one control plane and one webhook; each has a namespace of its own.
var shared struct {
	start sync.Once
	err   error
	api   *apiserver.Server
	stop  func() error
}

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	code := m.Run()
	for _, stop := range []func() error{shared.stop, func() error {
		if shared.api == nil {
			return nil
		}
		return shared.api.Stop()
	}} {
		if stop == nil {
			continue
		}
		if err := stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// api returns the shared control plane, with Metamorph registered.
func api(t *testing.T) *apiserver.Server {
	t.Helper()
	shared.start.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		if shared.api, shared.err = apiserver.Start(ctx, apiserver.Options{Progress: os.Stderr, ControllerManager: true}); shared.err == nil {
			shared.err = serve(ctx)
		}
	})
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.api
}

// serve starts the webhook in this process, and waits until it is ready and registered.
func serve(ctx context.Context) error {
	c, err := kubernetes.NewForConfig(shared.api.Config)
	if err != nil {
		return err
	}
	if _, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: own}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	// What the examples name, and a default.
	for name, isDefault := range map[string]string{"standard": "true", "fast-ssd": "false", "big-hdd": "false"} {
		class := &storagev1.StorageClass{
			ObjectMeta:  metav1.ObjectMeta{Name: name, Annotations: map[string]string{"storageclass.kubernetes.io/is-default-class": isDefault}},
			Provisioner: "example.com/disk", AllowVolumeExpansion: ptr.To(true), ReclaimPolicy: ptr.To(corev1.PersistentVolumeReclaimRetain),
		}
		if _, err := c.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
			return err
		}
	}
	addresses := make(chan net.Addr, 1)
	run, end := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- server.Run(run, server.Options{
			Config: shared.api.Config, Namespace: own, Version: version, Log: logr.Discard(),
			Address: "127.0.0.1:0", PlainAddress: "127.0.0.1:0",
			SelfSigned: true, SelfSignedHosts: []string{"127.0.0.1"}, Register: "https://127.0.0.1",
			Listening:    func(_, plain net.Addr) { addresses <- plain },
			DrainTimeout: 5 * time.Second,
		})
	}()
	shared.stop = func() error {
		end()
		return <-done
	}
	var plain net.Addr
	select {
	case plain = <-addresses:
	case err := <-done:
		shared.stop = nil
		return fmt.Errorf("the webhook ended: %w", err)
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+plain.String()+"/readyz", http.NoBody)
		if err != nil {
			return false, err
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			return false, nil //nolint:nilerr // not ready yet
		}
		return resp.StatusCode == http.StatusOK, resp.Body.Close()
	}); err != nil {
		return err
	}
	if _, err := c.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "probe"}}, metav1.CreateOptions{}); err != nil {
		return err
	}
	// The API server learns of a registration a moment later: until then a set without selector is invalid.
	const patience = 30 * time.Second
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var last error
	if err := wait.PollUntilContextCancel(ctx, 50*time.Millisecond, true, func(ctx context.Context) (bool, error) {
		_, stderr, err := shared.api.Kubectl(ctx, threeLines, "create", "--dry-run=server", "-n", "probe", "-f", "-")
		if err != nil && ctx.Err() == nil {
			last = fmt.Errorf("%w: %s", err, stderr)
		}
		return err == nil, nil
	}); err != nil {
		return fmt.Errorf("the webhook does not answer: %w", last)
	}
	return nil
}

// namespace makes a namespace and returns its name.
func namespace(t *testing.T, labels, annotations map[string]string) string {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "test-", Labels: labels, Annotations: annotations}}
	ns, err := client(t).CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return ns.Name
}

func client(t *testing.T) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(api(t).Config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func clusterUID(t *testing.T) string {
	t.Helper()
	ns, err := client(t).CoreV1().Namespaces().Get(t.Context(), metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return string(ns.UID)
}

// kubectl runs a command in a namespace, and fails the test if the command does.
func kubectl(t *testing.T, ns, stdin string, args ...string) string {
	t.Helper()
	out, _ := kubectlBoth(t, ns, stdin, args...)
	return out
}

func kubectlBoth(t *testing.T, ns, stdin string, args ...string) (stdout, stderr string) {
	t.Helper()
	stdout, stderr, err := api(t).Kubectl(t.Context(), stdin, append([]string{"--namespace", ns}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return stdout, stderr
}

func fromYAML(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}
