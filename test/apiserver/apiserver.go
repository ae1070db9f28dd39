// Package apiserver starts a real Kubernetes control plane for tests and demonstrations: etcd and kube-apiserver, and
// if asked kube-controller-manager, without containers and without a node. It takes 5 seconds to start.
//
// The binaries come from the directory that KUBEBUILDER_ASSETS names (setup-envtest makes one), else they are built
// once from the Go module in test/controlplane and kept in the user's cache directory.
package apiserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
)

const (
	// Generous, because the packages of a test run start their servers at the same time.
	startTimeout = 2 * time.Minute
	stopTimeout  = time.Minute
	pollInterval = 50 * time.Millisecond
)

// Options say what to start.
type Options struct {
	// Progress is told of what takes long, which is building the binaries, once. Nil: nobody is told.
	Progress io.Writer
	// ControllerManager starts kube-controller-manager too: garbage collection, the StatefulSet controller and all
	// other controllers that run by default. Pods are created, but there is no scheduler and no node to run them.
	ControllerManager bool
	// APIServerArgs are flags of kube-apiserver, without dashes, in addition to its defaults here or instead of them.
	APIServerArgs map[string]string
}

// Server is a running control plane.
type Server struct {
	// Config is that of a cluster administrator, without a rate limit that a test could notice.
	Config *rest.Config
	// Kubeconfig is the path of a file that says the same to kubectl, until Stop.
	Kubeconfig string

	kubectl  string
	dir      string
	env      *envtest.Environment
	managers *process
	stop     sync.Once
	stopErr  error
}

// Start starts a control plane and waits until it answers. Nothing is left behind if it fails; if it does not, Stop
// must be called.
func Start(ctx context.Context, o Options) (_ *Server, err error) {
	names := []string{etcd, kubeAPIServer, kubectl}
	if o.ControllerManager {
		names = append(names, kubeControllerManager)
	}
	bin, err := Binaries(ctx, o.Progress, names...)
	if err != nil {
		return nil, err
	}

	dir, err := os.MkdirTemp("", "metamorph-apiserver-")
	if err != nil {
		return nil, err
	}
	s := &Server{dir: dir, kubectl: bin[kubectl], Kubeconfig: filepath.Join(dir, "kubeconfig")}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Stop())
		}
	}()

	existing := false // or else an environment variable could point the tests at somebody's cluster
	env := &envtest.Environment{
		UseExistingCluster:       &existing,
		ControlPlaneStartTimeout: remaining(ctx, startTimeout),
		ControlPlaneStopTimeout:  stopTimeout,
	}
	env.ControlPlane.KubectlPath = bin[kubectl]
	// Directories of our own, because envtest forgets its own when a start fails.
	data, certs := filepath.Join(dir, "etcd"), filepath.Join(dir, "certs")
	if err := errors.Join(os.Mkdir(data, 0o700), os.Mkdir(certs, 0o700)); err != nil {
		return nil, err
	}
	env.ControlPlane.Etcd = &envtest.Etcd{Path: bin[etcd], DataDir: data}
	api := env.ControlPlane.GetAPIServer()
	api.Path, api.CertDir = bin[kubeAPIServer], certs
	for name, value := range o.APIServerArgs {
		api.Configure().Set(name, value)
	}
	cfg, err := env.Start()
	// Even a failed start may have started something.
	s.env = env
	if err != nil {
		return nil, fmt.Errorf("starting the API server: %w", err)
	}
	s.Config = rest.CopyConfig(cfg)
	s.Config.QPS = -1

	if err := os.WriteFile(s.Kubeconfig, env.KubeConfig, 0o600); err != nil {
		return nil, err
	}
	if o.ControllerManager {
		if err := s.startControllerManager(ctx, bin[kubeControllerManager]); err != nil {
			return nil, err
		}
	}
	return s, ctx.Err()
}

// startControllerManager waits for the first thing that a controller does to an empty cluster: making the service
// account of the default namespace. So there is no need for a port to ask on.
func (s *Server) startControllerManager(ctx context.Context, path string) error {
	client, err := kubernetes.NewForConfig(s.Config)
	if err != nil {
		return err
	}
	p, err := startProcess(filepath.Join(s.dir, kubeControllerManager+".log"), path,
		"--kubeconfig="+s.Kubeconfig,
		"--leader-elect=false",
		"--secure-port=0",
	)
	if err != nil {
		return err
	}
	s.managers = p

	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	err = wait.PollUntilContextCancel(ctx, pollInterval, true, func(ctx context.Context) (bool, error) {
		select {
		case <-p.done:
			return false, fmt.Errorf("it exited: %w", p.err)
		default:
		}
		_, err := client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("starting %s: %w\n%s", kubeControllerManager, err, p.tail())
	}
	return nil
}

// Kubectl runs kubectl as cluster administrator with stdin as its input. The error of a failed command holds what
// kubectl said.
func (s *Server) Kubectl(ctx context.Context, stdin string, args ...string) (stdout, stderr string, err error) {
	cmd := s.KubectlCommand(ctx, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, report bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &report
	if err := cmd.Run(); err != nil {
		return out.String(), report.String(), fmt.Errorf("kubectl %s: %w: %s",
			strings.Join(args, " "), err, strings.TrimSpace(report.String()))
	}
	return out.String(), report.String(), nil
}

// KubectlCommand returns the command that Kubectl runs, for callers that want its streams.
func (s *Server) KubectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, s.kubectl, args...)
	// Neither the user's preferences (kuberc) nor the discovery cache of another cluster on the same port may matter.
	cmd.Env = append(os.Environ(), "KUBECONFIG="+s.Kubeconfig, "HOME="+s.dir, "KUBECACHEDIR="+filepath.Join(s.dir, "cache"))
	cmd.Dir = s.dir
	return cmd
}

// Stop ends the processes that Start started and removes their files. Calling it again does nothing.
func (s *Server) Stop() error {
	s.stop.Do(func() {
		var errs []error
		if s.managers != nil {
			errs = append(errs, s.managers.stop(stopTimeout))
		}
		if s.env != nil {
			errs = append(errs, s.env.Stop())
		}
		errs = append(errs, os.RemoveAll(s.dir))
		s.stopErr = errors.Join(errs...)
	})
	return s.stopErr
}

// remaining is the time until the deadline of ctx, at most limit.
func remaining(ctx context.Context, limit time.Duration) time.Duration {
	if deadline, ok := ctx.Deadline(); ok {
		return min(limit, time.Until(deadline))
	}
	return limit
}
