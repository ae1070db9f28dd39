// Package program runs the real program for tests, against a real API server, and its user's kubectl.
package program

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"k8s.io/client-go/rest"

	"github.com/metamorph-k8s/metamorph/test/apiserver"
)

// patience is how long something may take that takes a moment, on a machine that is busy with other things.
const patience = time.Minute

// Cluster is a control plane of the test's own, with the namespace metamorph-system, and kubectl.
type Cluster struct {
	*testing.T
	*apiserver.Server
}

// NewCluster starts a control plane, which ends with the test.
func NewCluster(t *testing.T) *Cluster {
	t.Helper()
	return newCluster(t, apiserver.Options{Progress: os.Stderr})
}

// NewLargeCluster starts a control plane with room for more than 254 Services.
func NewLargeCluster(t *testing.T) *Cluster {
	t.Helper()
	return newCluster(t, apiserver.Options{Progress: os.Stderr, APIServerArgs: map[string]string{"service-cluster-ip-range": "10.0.0.0/16"}})
}

// NewClusterWithControllers starts a control plane whose controllers run, that of StatefulSets and the garbage collector among
// them. It has no nodes: pods are made and stay pending.
func NewClusterWithControllers(t *testing.T) *Cluster {
	t.Helper()
	return newCluster(t, apiserver.Options{Progress: os.Stderr, ControllerManager: true})
}

func newCluster(t *testing.T, o apiserver.Options) *Cluster {
	t.Helper()
	control, err := apiserver.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := control.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := &Cluster{t, control}
	c.Must("", "create", "namespace", "metamorph-system")
	return c
}

// Try runs kubectl.
func (c *Cluster) Try(stdin string, args ...string) (stdout, stderr string, err error) {
	return c.Kubectl(c.Context(), stdin, args...)
}

// Must runs kubectl, which must succeed.
func (c *Cluster) Must(stdin string, args ...string) (stdout, stderr string) {
	c.Helper()
	out, report, err := c.Try(stdin, args...)
	if err != nil {
		c.Fatalf("kubectl %v: %v\n%s", args, err, report)
	}
	return out, report
}

// Refused returns what kubectl tells of a request that must not pass.
func (c *Cluster) Refused(stdin string, args ...string) string {
	c.Helper()
	_, report, err := c.Try(stdin, args...)
	if err == nil {
		c.Fatalf("kubectl %v was not refused\n%s", args, report)
	}
	return report
}

// Eventually waits until the answer is yes.
func (c *Cluster) Eventually(what string, ask func() bool) {
	c.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !ask() {
		select {
		case <-tick.C:
		case <-end:
			c.Fatalf("not within %s: %s", patience, what)
		}
	}
}

// As is the configuration of a client that is another user, with the rights of that one.
func (c *Cluster) As(user string) *rest.Config {
	config := rest.CopyConfig(c.Config)
	config.Impersonate = rest.ImpersonationConfig{UserName: user, Groups: []string{"system:authenticated"}}
	return config
}

// Program is a running metamorph serve.
type Program struct {
	*Cluster

	path   string
	cmd    *exec.Cmd
	health string
	log    bytes.Buffer
}

// Serve builds and starts the program, which registers itself, and waits until it is ready. It is killed at the end of the
// test at the latest; its log is shown if the test fails.
func (c *Cluster) Serve(flags ...string) *Program {
	c.Helper()
	path := filepath.Join(c.TempDir(), "metamorph")
	if out, err := exec.CommandContext(c.Context(), "go", "build", "-buildvcs=false", "-o", path, "github.com/metamorph-k8s/metamorph/cmd/webhook").CombinedOutput(); err != nil {
		c.Fatalf("%v\n%s", err, out)
	}
	args := append([]string{
		"serve", "--kubeconfig", c.Kubeconfig, "--bind-address", "127.0.0.1", "--port", "0", "--health-address", "127.0.0.1:0",
		"--self-signed", "--self-signed-host", "127.0.0.1", "--register", "https://127.0.0.1", "--drain-delay", "0s",
	}, flags...)
	p := &Program{Cluster: c, path: path, cmd: exec.CommandContext(context.WithoutCancel(c.Context()), path, args...)}
	p.cmd.Stderr = &p.log
	stdout, err := p.cmd.StdoutPipe()
	if err != nil {
		c.Fatal(err)
	}
	if err := p.cmd.Start(); err != nil {
		c.Fatal(err)
	}
	c.Cleanup(func() {
		_ = p.cmd.Process.Kill()
		if c.Failed() {
			c.Logf("log:\n%s", p.log.String())
		}
	})
	for lines := bufio.NewScanner(stdout); p.health == "" && lines.Scan(); {
		if url, ok := strings.CutPrefix(lines.Text(), "health "); ok {
			p.health = strings.TrimSuffix(url, "/readyz")
		}
	}
	c.Eventually("ready", func() bool { code, _ := p.Get("/readyz"); return code == http.StatusOK })
	return p
}

// Run runs another command of the program. The error of one that fails holds what it said.
func (p *Program) Run(args ...string) (stdout string, err error) {
	var out, report bytes.Buffer
	cmd := exec.CommandContext(p.Context(), p.path, args...)
	cmd.Stdout, cmd.Stderr = &out, &report
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("metamorph %s: %w: %s", strings.Join(args, " "), err, report.String())
	}
	return out.String(), nil
}

// Get asks the program over plain HTTP; the status is 0 if it does not answer.
func (p *Program) Get(path string) (status int, body string) {
	req, err := http.NewRequestWithContext(p.Context(), http.MethodGet, p.health+path, http.NoBody)
	if err != nil {
		p.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	defer res.Body.Close()
	raw, _ := io.ReadAll(res.Body)
	return res.StatusCode, string(raw)
}

// Stop ends the program as Kubernetes does.
func (p *Program) Stop() {
	p.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		p.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		p.Errorf("SIGTERM: %v", err)
	}
}
