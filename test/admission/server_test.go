package admission_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/test/admission/recorder"
	"github.com/metamorph-k8s/metamorph/test/apiserver"
)

var update = flag.Bool("update", false, "write the recorded requests to pkg/mutate/testdata/requests")

// Building the control plane, which happens once, takes most of it.
const startTimeout = 20 * time.Minute

// The tests of this package share a server; each has a namespace of its own.
var (
	start     sync.Once
	startErr  error
	server    *apiserver.Server
	recording *recorder.Recorder
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	code := m.Run()
	if server != nil {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// cluster returns the shared server, on which the shared recorder is registered.
func cluster(t *testing.T) *apiserver.Server {
	t.Helper()
	start.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		server, startErr = apiserver.Start(ctx, apiserver.Options{Progress: os.Stderr, ControllerManager: true})
		if startErr == nil {
			recording, startErr = recorder.Start(ctx, server.Config, recorder.Options{Name: "metamorph"})
		}
	})
	if startErr != nil {
		t.Fatal(startErr)
	}
	return server
}

// namespace makes a namespace.
func namespace(t *testing.T, name string, labels map[string]string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels}}
	if _, err := client(t).CoreV1().Namespaces().Create(t.Context(), ns, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
}

func client(t *testing.T) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(cluster(t).Config)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// kubectl runs a command in a namespace.
func kubectl(t *testing.T, namespace, stdin string, args ...string) string {
	t.Helper()
	out, _, err := cluster(t).Kubectl(t.Context(), stdin, append([]string{"--namespace", namespace}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// lastRequest returns what the webhook was asked last about a namespace.
func lastRequest(t *testing.T, namespace string) recorder.Request {
	t.Helper()
	all := recording.Requests(namespace, "")
	if len(all) == 0 {
		t.Fatalf("the webhook was not called for namespace %s", namespace)
	}
	return all[len(all)-1]
}

// compareFixture holds a request against the file of that name, which the unit tests of pkg/mutate read, or writes it.
func compareFixture(t *testing.T, name string, q recorder.Request) {
	t.Helper()
	if !*update && os.Getenv("KUBEBUILDER_ASSETS") != "" {
		return // the fixtures are those of one Kubernetes version, and this may be another
	}
	path := filepath.Join("..", "..", "pkg", "mutate", "testdata", "requests", name+".json")
	diff, err := q.CompareFixture(path, *update)
	if err != nil {
		t.Fatalf("%v; if the test is new, run it with -update", err)
	}
	if diff != "" {
		t.Errorf("the request is no longer what %s says; run the test with -update (-file +now):\n%s", filepath.Base(path), diff)
	}
}

func parseYAML(t *testing.T, text string) map[string]any {
	t.Helper()
	var m map[string]any
	if err := yaml.Unmarshal([]byte(text), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

func parseJSON(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	var m map[string]any
	if err := json.Unmarshal(raw, &m); err != nil {
		t.Fatal(err)
	}
	return m
}
