// Package gatekeeper measures Metamorph beside Gatekeeper: the same ten templates with the same object in one run, through
// Gatekeeper's own driver and client, and through Metamorph's loader. It is a module of its own because Gatekeeper's
// dependencies would become ours.
package gatekeeper_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	templatesv1 "github.com/open-policy-agent/frameworks/constraint/pkg/apis/templates/v1"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/drivers/rego"
	"github.com/open-policy-agent/frameworks/constraint/pkg/client/reviews"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

const (
	policies = 10
	// enforcementPoint is Gatekeeper's name of its webhook.
	enforcementPoint = "validation.gatekeeper.sh"
	// maxAllocations is the share of Gatekeeper's allocations that Metamorph may make. Unlike times, it is the same on every
	// machine.
	maxAllocations = 1.0 / 4
)

// documents are the templates and constraints in testdata.
func documents(tb testing.TB) []map[string]any {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) != policies {
		tb.Fatalf("%d files, %v; want %d", len(files), err, policies)
	}
	var out []map[string]any
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			tb.Fatal(err)
		}
		for _, part := range strings.Split(string(text), "\n---\n") {
			raw, err := yaml.YAMLToJSON([]byte(part))
			if err != nil {
				tb.Fatalf("%s: %v", f, err)
			}
			obj, err := mutate.Decode(raw)
			if err != nil {
				tb.Fatalf("%s: %v", f, err)
			}
			out = append(out, obj)
		}
	}
	return out
}

// kafka is the shortest manifest, expanded and with the API's defaults: what a validating webhook is sent.
func kafka(tb testing.TB) []byte {
	tb.Helper()
	text, err := os.ReadFile("../../examples/kafka.yaml")
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := yaml.YAMLToJSON(text)
	if err != nil {
		tb.Fatal(err)
	}
	out, err := mutate.Expand(mutate.Input{Object: raw, Namespace: mutate.Namespace{Name: namespace}, ClusterUID: "u", Version: "v1.0.0"})
	if err != nil {
		tb.Fatal(err)
	}
	return mutate.Encode(mutate.Defaulted(out.Object))
}

const (
	namespace = "shop"
	user      = "system:serviceaccount:shop:deployer"
)

// engine judges an object, given as JSON: its violations as CONSTRAINT: MESSAGE.
type engine func(raw []byte) ([]string, error)

func gatekeeper(tb testing.TB) engine {
	tb.Helper()
	driver, err := rego.New()
	if err != nil {
		tb.Fatal(err)
	}
	c, err := client.NewClient(client.Targets(target{}), client.Driver(driver), client.EnforcementPoints(enforcementPoint))
	if err != nil {
		tb.Fatal(err)
	}
	ctx := context.Background()
	for _, obj := range documents(tb) {
		if obj["kind"] != "ConstraintTemplate" {
			if _, err := c.AddConstraint(ctx, &unstructured.Unstructured{Object: obj}); err != nil {
				tb.Fatal(err)
			}
			continue
		}
		var versioned templatesv1.ConstraintTemplate
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj, &versioned); err != nil {
			tb.Fatal(err)
		}
		t, err := versioned.ToVersionless()
		if err != nil {
			tb.Fatal(err)
		}
		if _, err := c.AddTemplate(ctx, t); err != nil {
			tb.Fatal(err)
		}
	}
	about := map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"name": namespace}}
	return func(raw []byte) ([]string, error) {
		resp, err := c.Review(ctx, &admissionv1.AdmissionRequest{
			UID: "1", Kind: metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: "StatefulSet"},
			Name: "events", Namespace: namespace, Operation: admissionv1.Create, Object: runtime.RawExtension{Raw: raw},
		}, reviews.EnforcementPoint(enforcementPoint), reviews.Namespace(about))
		if err != nil {
			return nil, err
		}
		var out []string
		for _, r := range resp.Results() {
			out = append(out, r.Constraint.GetName()+": "+r.Msg)
		}
		return out, nil
	}
}

// metamorph goes the way of the webhook's, from the text of the object on.
func metamorph(tb testing.TB) engine {
	tb.Helper()
	bundle, err := new(policy.Loader).LoadTemplates("testdata", documents(tb)...)
	if err != nil {
		tb.Fatal(err)
	}
	set, err := policy.NewSet([]*policy.Bundle{bundle})
	if err != nil {
		tb.Fatal(err)
	}
	if len(set.Policies) != policies {
		tb.Fatalf("%d policies, want %d", len(set.Policies), policies)
	}
	reviewer := &review.Reviewer{Engine: &policy.Engine{Inventory: &policy.Inventory{}}, Version: "v1.0.0"}
	reviewer.Engine.Use(set)
	return func(raw []byte) ([]string, error) {
		obj, err := mutate.Decode(raw)
		if err != nil {
			return nil, err
		}
		findings := reviewer.Review(context.Background(), &review.Request{
			Operation: policy.Create, Object: obj, Typed: true, Namespace: policy.Namespace{Name: namespace}, User: policy.User{Name: user}, Now: time.Now(),
		})
		var out []string
		for i := range findings {
			if findings[i].Error {
				return nil, errors.New(findings[i].Message)
			}
			out = append(out, findings[i].Name+": "+findings[i].Message)
		}
		return out, nil
	}
}

// TestSameViolations holds both engines against each other, and against what is wrong with the objects.
func TestSameViolations(t *testing.T) {
	theirs, ours, good := gatekeeper(t), metamorph(t), kafka(t)
	const (
		pod       = "/spec/template/spec"
		container = pod + "/containers/0"
		initially = pod + "/initContainers/0"
	)
	tests := map[string]struct {
		patch string // a JSON Patch of the expanded manifest
		want  []string
	}{
		"as it is":                    {`[]`, nil},
		"with more replicas":          {`[{op: replace, path: /spec/replicas, value: 9}]`, nil},
		"with a port of the node":     {`[{op: add, path: ` + container + `/ports/0/hostPort, value: 30005}]`, nil},
		"with a capability":           {`[{op: add, path: ` + container + `/securityContext/capabilities/add, value: [NET_BIND_SERVICE]}]`, nil},
		"root, the pod's default":     {`[{op: add, path: ` + container + `/securityContext/runAsUser, value: 1001}, {op: replace, path: ` + pod + `/securityContext/runAsUser, value: 0}]`, []string{"non-root"}},
		"privileged":                  {`[{op: add, path: ` + container + `/securityContext/privileged, value: true}]`, []string{"privileged"}},
		"privileged and exempt":       {`[{op: add, path: ` + initially + `/securityContext/privileged, value: true}, {op: replace, path: ` + initially + `/image, value: "registry.example.com/debug/shell:1"}]`, nil},
		"escalation left out":         {`[{op: remove, path: ` + container + `/securityContext/allowPrivilegeEscalation}]`, []string{"privileged"}},
		"no security context":         {`[{op: remove, path: ` + container + `/securityContext}]`, []string{"capabilities", "privileged", "read-only-root"}},
		"host network and processes":  {`[{op: add, path: ` + pod + `/hostNetwork, value: true}, {op: add, path: ` + pod + `/hostPID, value: true}]`, []string{"host-namespaces", "host-namespaces"}},
		"shared processes":            {`[{op: add, path: ` + pod + `/shareProcessNamespace, value: true}]`, []string{"host-namespaces"}},
		"image from anywhere":         {`[{op: replace, path: ` + container + `/image, value: "images.example.org/somebody/kafka:4"}]`, []string{"registries"}},
		"newest image of all":         {`[{op: replace, path: ` + container + `/image, value: "apache/kafka:latest"}, {op: replace, path: ` + initially + `/image, value: "localhost:5000/kafka"}]`, []string{"registries", "registries", "registries"}},
		"image by digest":             {`[{op: replace, path: ` + container + `/image, value: "apache/kafka@sha256:0123456789012345678901234567890123456789012345678901234567890123"}]`, nil},
		"no labels":                   {`[{op: remove, path: /metadata/labels}]`, []string{"labels"}},
		"label of another kind":       {`[{op: replace, path: /metadata/labels/metamorph.dev~1role, value: Queue}]`, []string{"labels"}},
		"no limits":                   {`[{op: remove, path: ` + container + `/resources/limits}]`, []string{"limits"}},
		"no resources":                {`[{op: remove, path: ` + initially + `/resources}]`, []string{"limits", "limits", "limits"}},
		"too much of everything":      {`[{op: replace, path: ` + container + `/resources/limits, value: {memory: 1Ti, cpu: 9500m}}]`, []string{"limits", "limits"}},
		"all that is allowed":         {`[{op: replace, path: ` + container + `/resources/limits, value: {memory: 16384Mi, cpu: "8"}}]`, nil},
		"capabilities kept and added": {`[{op: replace, path: ` + container + `/securityContext/capabilities, value: {add: [SYS_ADMIN, NET_RAW], drop: [CHOWN]}}]`, []string{"capabilities", "capabilities"}},
		"writable root":               {`[{op: replace, path: ` + initially + `/securityContext/readOnlyRootFilesystem, value: false}]`, []string{"read-only-root"}},
		"as root":                     {`[{op: remove, path: ` + pod + `/securityContext}]`, []string{"non-root", "non-root"}},
		"port of the node":            {`[{op: add, path: ` + container + `/ports/0/hostPort, value: 9092}]`, []string{"host-ports"}},
		"folder of the node":          {`[{op: add, path: ` + pod + `/volumes/-, value: {name: host, hostPath: {path: /}}}]`, []string{"volumes"}},
		"claim for many":              {`[{op: replace, path: /spec/volumeClaimTemplates/0/spec/accessModes, value: [ReadWriteMany]}]`, []string{"volumes"}},
		"nothing but a container": {
			`[{op: replace, path: /spec/template/spec, value: {containers: [{name: shell, image: busybox}]}}]`,
			[]string{"capabilities", "limits", "limits", "limits", "non-root", "privileged", "read-only-root", "registries", "registries"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			raw := patched(t, good, tt.patch)
			want, err := theirs(raw)
			if err != nil {
				t.Fatal(err)
			}
			got, err := ours(raw)
			if err != nil {
				t.Fatal(err)
			}
			slices.Sort(want)
			slices.Sort(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Gatekeeper finds -, Metamorph +:\n%s", diff)
			}
			var names []string
			for _, line := range got {
				name, _, _ := strings.Cut(line, ": ")
				names = append(names, name)
			}
			if diff := cmp.Diff(tt.want, names); diff != "" {
				t.Errorf("want -, got +:\n%s\n%s", diff, strings.Join(got, "\n"))
			}
		})
	}
}

func patched(tb testing.TB, raw []byte, patch string) []byte {
	tb.Helper()
	text, err := yaml.YAMLToJSON([]byte(patch))
	if err != nil {
		tb.Fatal(err)
	}
	p, err := jsonpatch.DecodePatch(text)
	if err != nil {
		tb.Fatal(err)
	}
	out, err := p.Apply(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// TestAllocations holds Metamorph to its share of Gatekeeper's allocations.
func TestAllocations(t *testing.T) {
	raw := kafka(t)
	count := func(e engine) float64 {
		return testing.AllocsPerRun(20, func() {
			if found, err := e(raw); err != nil || len(found) > 0 {
				t.Fatal(found, err)
			}
		})
	}
	theirs, ours := count(gatekeeper(t)), count(metamorph(t))
	t.Logf("Gatekeeper: %.0f allocations, Metamorph: %.0f, a share of %.2f", theirs, ours, ours/theirs)
	if ours > maxAllocations*theirs {
		t.Errorf("Metamorph makes %.0f allocations and Gatekeeper %.0f; want at most a share of %.2f", ours, theirs, maxAllocations)
	}
}

// BenchmarkTenPolicies measures a decision with ten policies on the expanded three-line manifest, from the text of the
// object to the list of violations.
func BenchmarkTenPolicies(b *testing.B) {
	raw := kafka(b)
	for _, bench := range []struct {
		name string
		load func(testing.TB) engine
	}{{"gatekeeper", gatekeeper}, {"metamorph", metamorph}} {
		b.Run(bench.name, func(b *testing.B) {
			e := bench.load(b)
			b.ReportAllocs()
			for b.Loop() {
				if found, err := e(raw); err != nil || len(found) > 0 {
					b.Fatal(found, err)
				}
			}
		})
	}
}
