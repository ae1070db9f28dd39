package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	kjson "sigs.k8s.io/json"

	"github.com/metamorph-k8s/metamorph/pkg/manifest"
)

func TestFileIsFresh(t *testing.T) {
	t.Parallel()
	have, err := os.ReadFile(filepath.Join("..", "..", file))
	if err != nil {
		t.Fatal(err)
	}
	want, err := render(image)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(have), string(want)); diff != "" {
		t.Errorf("%s is stale, run `go run ./hack/manifests` (-file +fresh)\n%s", file, diff)
	}
}

// TestIsStrict holds that pruning leaves objects that the API server takes, field by field.
func TestIsStrict(t *testing.T) {
	t.Parallel()
	text, err := render(image)
	if err != nil {
		t.Fatal(err)
	}
	docs, err := manifest.Parse(file, text)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]func() any{
		"Namespace": func() any { return new(corev1.Namespace) }, "ServiceAccount": func() any { return new(corev1.ServiceAccount) },
		"ClusterRole": func() any { return new(rbacv1.ClusterRole) }, "ClusterRoleBinding": func() any { return new(rbacv1.ClusterRoleBinding) },
		"Role": func() any { return new(rbacv1.Role) }, "RoleBinding": func() any { return new(rbacv1.RoleBinding) },
		"Service": func() any { return new(corev1.Service) }, "Deployment": func() any { return new(appsv1.Deployment) },
		"MutatingWebhookConfiguration":   func() any { return new(admissionregistrationv1.MutatingWebhookConfiguration) },
		"ValidatingWebhookConfiguration": func() any { return new(admissionregistrationv1.ValidatingWebhookConfiguration) },
	}
	last := ""
	for _, d := range docs {
		if d.JSON == nil {
			continue
		}
		kind := kindOf(t, d.JSON)
		object, ok := kinds[kind]
		if !ok {
			t.Errorf("%s: a kind this test does not know: %s", d.Where(), kind)
			continue
		}
		if strict, err := kjson.UnmarshalStrict(d.JSON, object()); err != nil || len(strict) > 0 {
			t.Errorf("%s: %v %v", kind, err, strict)
		}
		delete(kinds, kind)
		last = kind
	}
	if len(kinds) > 0 || last != "ValidatingWebhookConfiguration" {
		t.Errorf("missing are %v, the last is %s", kinds, last)
	}
	if strings.Contains(string(text), ": null\n") {
		t.Error("there is a null in it")
	}
}

func kindOf(t *testing.T, raw []byte) string {
	t.Helper()
	var head struct {
		Kind string `json:"kind"`
	}
	if err := kjson.UnmarshalCaseSensitivePreserveInts(raw, &head); err != nil {
		t.Fatal(err)
	}
	return head.Kind
}
