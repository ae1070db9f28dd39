//go:build e2e

// Package e2e tries Metamorph in a real cluster, with real brokers: the one that METAMORPH_E2E_KUBECONFIG names. It installs
// Metamorph as its manifests do, works in namespaces of its own, and takes everything away again.
//
// METAMORPH_E2E_IMAGE is the image to install; without it, the manifests' own is pulled.
package e2e

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"sync"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/metamorph-k8s/metamorph/test/apiserver"
)

const (
	kubeconfigVariable = "METAMORPH_E2E_KUBECONFIG"
	imageVariable      = "METAMORPH_E2E_IMAGE"
)

// cluster is the one that the suite runs in.
type cluster struct {
	kubeconfig string
	kubectl    string
	home       string // of kubectl
	client     kubernetes.Interface
	dynamic    dynamic.Interface
}

// shared is set before the tests run.
var shared *cluster

func TestMain(m *testing.M) {
	flag.Parse()
	code, err := run(context.Background(), m)
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	os.Exit(code)
}

func run(ctx context.Context, m *testing.M) (code int, err error) {
	if shared, err = connect(ctx); err != nil {
		return 0, err
	}
	var once sync.Once
	away := func() (err error) {
		once.Do(func() {
			ctx, cancel := context.WithTimeout(ctx, patience)
			defer cancel()
			err = errors.Join(shared.uninstall(ctx), os.RemoveAll(shared.home))
		})
		return err
	}
	// Tests that are interrupted do not clean up.
	interrupt := make(chan os.Signal, 1)
	signal.Notify(interrupt, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupt
		if err := away(); err != nil {
			fmt.Fprintln(os.Stderr, "e2e:", err)
		}
		os.Exit(1)
	}()
	defer func() { err = errors.Join(err, away()) }()
	if err := shared.install(ctx); err != nil {
		return 0, err
	}
	return m.Run(), nil
}

func connect(ctx context.Context) (*cluster, error) {
	path := os.Getenv(kubeconfigVariable)
	if path == "" {
		return nil, errors.New(kubeconfigVariable + " has to name the kubeconfig of a cluster for tests; make e2e brings one up by itself")
	}
	config, err := clientcmd.BuildConfigFromFlags("", path)
	if err != nil {
		return nil, err
	}
	config.QPS = -1
	// Listing everything meets what is deprecated, too.
	config.WarningHandler = rest.NoWarnings{}
	binaries, err := apiserver.Binaries(ctx, os.Stderr, "kubectl")
	if err != nil {
		return nil, err
	}
	c := &cluster{kubeconfig: path, kubectl: binaries["kubectl"]}
	if c.home, err = os.MkdirTemp("", "metamorph-e2e-kubectl-"); err != nil {
		return nil, err
	}
	if c.client, err = kubernetes.NewForConfig(config); err != nil {
		return nil, err
	}
	if c.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return nil, err
	}
	return c, nil
}

// say tells of progress outside of a test.
func say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, time.Now().Format("15:04:05 ")+format+"\n", args...)
}
