//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"

	"github.com/metamorph-k8s/metamorph/test/cluster/pki"
)

const (
	// system is the namespace that the manifests have.
	system = "metamorph-system"
	// ownLabel is on all that the suite makes, so that a later run knows what one left that was killed.
	ownLabel = "metamorph-e2e"
	manifest = "../../../manifests/webhook.yaml"
	// patience is how long anything may take on a machine that is busy, or has to pull images, or waits for a pod's whole
	// grace period.
	patience = 7 * time.Minute
)

// install installs Metamorph as its manifests do, with a certificate.
func (c *cluster) install(ctx context.Context) error {
	began := time.Now()
	old, err := c.client.CoreV1().Namespaces().Get(ctx, system, metav1.GetOptions{})
	switch {
	case err == nil && old.Labels[ownLabel] == "":
		return fmt.Errorf("the cluster of %s has a namespace %s already; the suite does not touch a Metamorph that somebody uses", kubeconfigVariable, system)
	case err == nil:
		say("removing what an earlier run left")
		if err := c.uninstall(ctx); err != nil {
			return err
		}
	case !apierrors.IsNotFound(err):
		return err
	}

	ca, err := pki.NewAuthority("metamorph e2e")
	if err != nil {
		return err
	}
	cert, key, err := ca.Issue(pki.Subject{Name: "metamorph-webhook", Hosts: []string{"metamorph-webhook." + system + ".svc"}})
	if err != nil {
		return err
	}
	objects, err := manifests()
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, o := range objects {
		labels := o.GetLabels()
		labels[ownLabel] = "true"
		o.SetLabels(labels)
		switch o.GetKind() {
		case "Deployment":
			if image := os.Getenv(imageVariable); image != "" {
				containers, _, _ := unstructured.NestedSlice(o.Object, "spec", "template", "spec", "containers")
				containers[0].(map[string]any)["image"] = image
				if err := unstructured.SetNestedSlice(o.Object, containers, "spec", "template", "spec", "containers"); err != nil {
					return err
				}
			}
		case "MutatingWebhookConfiguration", "ValidatingWebhookConfiguration":
			webhooks, _, _ := unstructured.NestedSlice(o.Object, "webhooks")
			for _, w := range webhooks {
				if err := unstructured.SetNestedField(w.(map[string]any), base64.StdEncoding.EncodeToString(ca.PEM), "clientConfig", "caBundle"); err != nil {
					return err
				}
			}
			if err := unstructured.SetNestedSlice(o.Object, webhooks, "webhooks"); err != nil {
				return err
			}
		}
		raw, err := o.MarshalJSON()
		if err != nil {
			return err
		}
		text.WriteString("---\n" + string(raw) + "\n")
		if o.GetKind() == "Namespace" {
			secret := fmt.Sprintf(`{"apiVersion":"v1","kind":"Secret","type":"kubernetes.io/tls","metadata":{"name":"metamorph-webhook-tls","namespace":%q},"data":{"tls.crt":%q,"tls.key":%q}}`,
				system, base64.StdEncoding.EncodeToString(cert), base64.StdEncoding.EncodeToString(key))
			text.WriteString("---\n" + secret + "\n")
		}
	}
	say("installing Metamorph")
	if _, _, err := c.run(ctx, text.String(), "apply", "--filename=-"); err != nil {
		return err
	}
	if _, _, err := c.run(ctx, "", "--namespace="+system, "rollout", "status", "deployment/metamorph", "--timeout="+patience.String()); err != nil {
		logs, _, _ := c.run(ctx, "", "--namespace="+system, "logs", "--selector=app.kubernetes.io/name=metamorph", "--tail=20")
		events, _, _ := c.run(ctx, "", "--namespace="+system, "get", "events")
		return fmt.Errorf("%w\n%s\n%s", err, logs, events)
	}
	// The pods are ready a moment before the API server finds its way to them.
	const probe = `{apiVersion: apps/v1, kind: StatefulSet, metadata: {name: probe, namespace: default, annotations: {metamorph.dev/role: kafka}}, spec: {replicas: 3}}`
	if err := eventually(ctx, func() (bool, error) {
		_, _, err := c.run(ctx, probe, "apply", "--dry-run=server", "--filename=-")
		return err == nil, err
	}); err != nil {
		return fmt.Errorf("the webhook does not answer: %w", err)
	}
	say("Metamorph answers after %s", time.Since(began).Round(100*time.Millisecond))
	return nil
}

// uninstall removes Metamorph and all namespaces of the suite. The registrations go first, or nothing could be removed.
func (c *cluster) uninstall(ctx context.Context) error {
	say("uninstalling Metamorph")
	_, _, err := c.run(ctx, "", "delete", "mutatingwebhookconfigurations,validatingwebhookconfigurations", "--selector="+ownLabel, "--wait")
	_, _, more := c.run(ctx, "", "delete", "namespaces,clusterroles,clusterrolebindings", "--selector="+ownLabel, "--wait", "--timeout="+patience.String())
	return errors.Join(err, more)
}

func manifests() ([]*unstructured.Unstructured, error) {
	raw, err := os.ReadFile(manifest)
	if err != nil {
		return nil, err
	}
	var all []*unstructured.Unstructured
	for _, doc := range bytes.Split(raw, []byte("\n---\n")) {
		o := &unstructured.Unstructured{}
		if err := yaml.Unmarshal(doc, &o.Object); err != nil {
			return nil, fmt.Errorf("%s: %w", manifest, err)
		}
		if len(o.Object) > 0 {
			all = append(all, o)
		}
	}
	return all, nil
}

// namespaceLabels are those of the suite's namespaces: every pod has to satisfy the strictest level of Pod Security.
var namespaceLabels = map[string]string{ownLabel: "true", "pod-security.kubernetes.io/enforce": "restricted"}

func (c *cluster) newNamespace(ctx context.Context, annotations map[string]string) (string, error) {
	ns, err := c.client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		GenerateName: "metamorph-e2e-", Labels: namespaceLabels, Annotations: annotations,
	}}, metav1.CreateOptions{})
	if err != nil {
		return "", err
	}
	return ns.Name, nil
}
