// Package webhook_test runs the real program against a real API server and is its user, with kubectl.
package webhook_test

import (
	"bufio"
	"bytes"
	"context"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/metamorph-k8s/metamorph/test/apiserver"
)

// patience is how long something may take that takes a moment, on a machine that is busy with other things.
const patience = time.Minute

// cluster is a control plane and kubectl.
type cluster struct {
	*testing.T
	*apiserver.Server
}

// try runs kubectl.
func (c cluster) try(stdin string, args ...string) (stdout, stderr string, err error) {
	return c.Kubectl(c.Context(), stdin, args...)
}

func (c cluster) must(stdin string, args ...string) string {
	c.Helper()
	out, report, err := c.try(stdin, args...)
	if err != nil {
		c.Fatalf("kubectl %v: %v\n%s", args, err, report)
	}
	return out
}

func (c cluster) eventually(what string, ask func() bool) {
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

// program is a running metamorph serve.
type program struct {
	cmd    *exec.Cmd
	health string
	log    bytes.Buffer
}

// serve builds and starts the program, and lets it register itself.
func (c cluster) serve() *program {
	c.Helper()
	path := filepath.Join(c.TempDir(), "metamorph")
	if out, err := exec.CommandContext(c.Context(), "go", "build", "-buildvcs=false", "-o", path, "github.com/metamorph-k8s/metamorph/cmd/webhook").CombinedOutput(); err != nil {
		c.Fatalf("%v\n%s", err, out)
	}
	p := &program{cmd: exec.CommandContext(context.WithoutCancel(c.Context()), path, "serve", "--kubeconfig", c.Kubeconfig, "--bind-address", "127.0.0.1", "--port", "0",
		"--health-address", "127.0.0.1:0", "--self-signed", "--self-signed-host", "127.0.0.1", "--register", "https://127.0.0.1", "--drain-delay", "0s")}
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
			p.health = url
		}
	}
	c.eventually("ready", func() bool {
		res, err := http.Get(p.health)
		if err != nil {
			return false
		}
		defer res.Body.Close()
		return res.StatusCode == http.StatusOK
	})
	// The API server needs a moment to call a webhook that it has just been told of.
	c.eventually("called", func() bool {
		out, _, err := c.try(set("probe", "default", "metamorph.dev/role: kafka"), "create", "--dry-run=server", "-o", "yaml", "-f", "-")
		return err == nil && strings.Contains(out, "serviceName: probe-headless")
	})
	return p
}

// set is a manifest of a few lines.
func set(name, namespace, annotations string) string {
	return "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: " + name + ", namespace: " + namespace + ", annotations: {" + annotations + "}}\n"
}

func TestWebhook(t *testing.T) {
	t.Parallel()
	control, err := apiserver.Start(t.Context(), apiserver.Options{Progress: os.Stderr})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := control.Stop(); err != nil {
			t.Error(err)
		}
	})
	c := cluster{t, control}
	c.must("", "create", "namespace", "metamorph-system")
	c.manifestsAreValid()
	p := c.serve()
	c.defaultsOfTheSameManifest()
	c.refusalIsReadable()

	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := p.cmd.Wait(); err != nil {
		t.Errorf("SIGTERM: %v", err)
	}
	c.failsClosed()
}

// manifestsAreValid holds that the API server takes manifests/webhook.yaml, the CEL expression in it included.
func (c cluster) manifestsAreValid() {
	c.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "manifests", "webhook.yaml"))
	if err != nil {
		c.Fatal(err)
	}
	if out, report, err := c.try(string(text), "apply", "--dry-run=server", "--validate=strict", "-f", "-"); err != nil {
		c.Errorf("manifests/webhook.yaml: %v\n%s%s", err, out, report)
	}
}

// defaultsOfTheSameManifest applies a Namespace and a profile together with the object that needs them: no cache can
// have them yet.
func (c cluster) defaultsOfTheSameManifest() {
	c.Helper()
	c.must("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {metamorph.dev/profile: big}}\n---\n"+
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big, namespace: metamorph-system, labels: {metamorph.dev/profile: big}}\ndata: {heap: 3Gi}\n---\n"+
		set("events", "shop", "metamorph.dev/role: kafka"), "apply", "-f", "-")
	if got := c.must("", "-n", "shop", "get", "statefulset", "events", "-o", "yaml"); !strings.Contains(got, "-Xmx3072m") {
		c.Errorf("the profile was not used:\n%s", got)
	}
}

func (c cluster) refusalIsReadable() {
	c.Helper()
	_, report, err := c.try(set("bad", "shop", "metamorph.dev/role: kafka, metamorph.dev/heap: much, metamorph.dev/stroage: 1Gi"), "apply", "-f", "-")
	if err == nil {
		c.Error("a bad object was taken")
	}
	for _, want := range []string{
		"The StatefulSet \"bad\" is invalid:", "* metadata.annotations[metamorph.dev/heap]: \"much\"", "* metadata.annotations[metamorph.dev/stroage]: \"1Gi\"",
	} {
		if !strings.Contains(report, want) {
			c.Errorf("%s is not in what kubectl prints:\n%s", want, report)
		}
	}
}

// failsClosed holds that with the webhook dead, what is Metamorph's is refused, all else passes, and deleting works.
func (c cluster) failsClosed() {
	c.Helper()
	c.must("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: plain, namespace: shop}\n"+
		"spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}\n", "apply", "-f", "-")
	if _, report, err := c.try(set("late", "shop", "metamorph.dev/role: kafka"), "apply", "-f", "-"); err == nil || !strings.Contains(report, "mutate.metamorph.dev") {
		c.Errorf("an object was taken unexpanded: %v %s", err, report)
	}
	c.must("", "-n", "shop", "delete", "statefulset", "events", "--wait=false")
}
