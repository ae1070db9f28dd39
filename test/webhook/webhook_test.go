// Package webhook_test runs the real program against a real API server and is its user, with kubectl.
package webhook_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/metamorph-k8s/metamorph/test/program"
)

// cluster is a control plane and kubectl.
type cluster struct{ *program.Cluster }

// serve starts the program, and waits until the API server calls it.
func (c cluster) serve() *program.Program {
	c.Helper()
	p := c.Serve()
	// The API server needs a moment to call a webhook that it has just been told of.
	c.Eventually("called", func() bool {
		out, _, err := c.Try(set("probe", "default", "metamorph.dev/role: kafka"), "create", "--dry-run=server", "-o", "yaml", "-f", "-")
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
	c := cluster{program.NewCluster(t)}
	c.manifestsAreValid()
	p := c.serve()
	c.defaultsOfTheSameManifest()
	c.refusalIsReadable()

	p.Stop()
	c.failsClosed()
}

// manifestsAreValid holds that the API server takes manifests/webhook.yaml, the CEL expression in it included.
func (c cluster) manifestsAreValid() {
	c.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "manifests", "webhook.yaml"))
	if err != nil {
		c.Fatal(err)
	}
	if out, report, err := c.Try(string(text), "apply", "--dry-run=server", "--validate=strict", "-f", "-"); err != nil {
		c.Errorf("manifests/webhook.yaml: %v\n%s%s", err, out, report)
	}
}

// defaultsOfTheSameManifest applies a Namespace and a profile together with the object that needs them: no cache can
// have them yet.
func (c cluster) defaultsOfTheSameManifest() {
	c.Helper()
	c.Must("apiVersion: v1\nkind: Namespace\nmetadata: {name: shop, annotations: {metamorph.dev/profile: big}}\n---\n"+
		"apiVersion: v1\nkind: ConfigMap\nmetadata: {name: big, namespace: metamorph-system, labels: {metamorph.dev/profile: big}}\ndata: {heap: 3Gi}\n---\n"+
		set("events", "shop", "metamorph.dev/role: kafka"), "apply", "-f", "-")
	if got, _ := c.Must("", "-n", "shop", "get", "statefulset", "events", "-o", "yaml"); !strings.Contains(got, "-Xmx3072m") {
		c.Errorf("the profile was not used:\n%s", got)
	}
}

func (c cluster) refusalIsReadable() {
	c.Helper()
	_, report, err := c.Try(set("bad", "shop", "metamorph.dev/role: kafka, metamorph.dev/heap: much, metamorph.dev/stroage: 1Gi"), "apply", "-f", "-")
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
	c.Must("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: plain, namespace: shop}\n"+
		"spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}\n", "apply", "-f", "-")
	if _, report, err := c.Try(set("late", "shop", "metamorph.dev/role: kafka"), "apply", "-f", "-"); err == nil || !strings.Contains(report, "mutate.metamorph.dev") {
		c.Errorf("an object was taken unexpanded: %v %s", err, report)
	}
	c.Must("", "-n", "shop", "delete", "statefulset", "events", "--wait=false")
}
