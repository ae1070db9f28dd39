package admission_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	admissionv1 "k8s.io/api/admission/v1"
	authenticationv1 "k8s.io/api/authentication/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
	"github.com/metamorph-k8s/metamorph/policies"
)

// StatefulSet is what is stored of the fake's.
func (c *fakeCluster) StatefulSet(_ context.Context, _, name string) (map[string]any, error) {
	set, ok := c.sets[name]
	if !ok {
		return nil, errors.New("not found")
	}
	return set, nil
}

// seen remembers which certificates were asked for.
type seen []string

func (s *seen) Certificate(_ context.Context, namespace, secret string) {
	*s = append(*s, namespace+"/"+secret)
}

var loader = policies.Loader()

// builtin is compiled once for all tests.
var builtin = sync.OnceValues(func() (*policy.Bundle, error) { return loader.Load(policies.Source()) })

func newValidator(tb testing.TB, more ...*policy.Source) *admission.Validator {
	tb.Helper()
	library, err := builtin()
	if err != nil {
		tb.Fatal(err)
	}
	bundles := []*policy.Bundle{library}
	for _, src := range more {
		b, err := loader.Load(src)
		if err != nil {
			tb.Fatal(err)
		}
		bundles = append(bundles, b)
	}
	set, err := policy.NewSet(bundles)
	if err != nil {
		tb.Fatal(err)
	}
	engine := &policy.Engine{Inventory: &policy.Inventory{}}
	engine.Use(set)
	c := newCluster()
	return &admission.Validator{
		Namespaces: c, Profiles: c, StatefulSets: c, Reviewer: &review.Reviewer{Engine: engine, Version: "v1.0.0"}, Own: "metamorph-system",
		Now: func() time.Time { return time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC) },
	}
}

// expandedWith is the three-line manifest with annotations, expanded.
func expandedWith(tb testing.TB, annotations map[string]string) map[string]any {
	tb.Helper()
	object := edit(tb, annotated(tb, threeLines(tb), annotations), func(obj map[string]any) { obj["spec"].(map[string]any)["replicas"] = 3 })
	out, err := mutate.Expand(mutate.Input{
		Object: object, Namespace: mutate.Namespace{Name: "default"}, ClusterUID: clusterUID, Version: "v1.0.0",
	})
	if err != nil {
		tb.Fatal(err)
	}
	return out.Object
}

func rawOf(obj map[string]any) runtime.RawExtension {
	return runtime.RawExtension{Raw: mutate.Encode(obj)}
}

var tooMuchHeap = map[string]string{"metamorph.dev/heap": "1900Mi", "metamorph.dev/memory": "2Gi"}

func TestValidator(t *testing.T) {
	t.Parallel()
	good, bad := expandedWith(t, nil), expandedWith(t, tooMuchHeap)
	unexpanded := map[string]any{
		"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": "events", "annotations": map[string]any{"metamorph.dev/role": "kafka"}},
	}
	letGo := map[string]any{
		"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": "events", "annotations": map[string]any{"metamorph.dev/cluster-id": "x"}},
	}
	deleting := expandedWith(t, tooMuchHeap)
	deleting["metadata"].(map[string]any)["deletionTimestamp"] = "2026-01-01T00:00:00Z"
	scale := func(n int64) runtime.RawExtension {
		raw, err := json.Marshal(map[string]any{"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": map[string]any{"replicas": n}})
		if err != nil {
			t.Fatal(err)
		}
		return runtime.RawExtension{Raw: raw}
	}
	const sub = "scale"
	for name, test := range map[string]struct {
		change  func(*admissionv1.AdmissionRequest)
		allowed bool
		result  string
		// code of the answer, and what its message holds.
		code int32
		want []string
	}{
		"a good object": {func(r *admissionv1.AdmissionRequest) { r.Object = rawOf(good) }, true, "judged", 200, nil},
		"a bad one": {func(r *admissionv1.AdmissionRequest) { r.Object = rawOf(bad) }, false, "denied", 422, []string{
			`The StatefulSet "events" is invalid:`, "* metadata.annotations[metamorph.dev/heap]: the heap 1900Mi takes more than 80 %", "this passes: metamorph.dev/heap: 1Gi (MM301)",
		}},
		"an update to a bad one": {func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.Object, r.OldObject = admissionv1.Update, rawOf(bad), rawOf(good)
		}, false, "denied", 422, []string{"MM301"}},
		"an update of a bad one": {func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.Object, r.OldObject = admissionv1.Update, rawOf(bad), rawOf(bad)
		}, true, "judged", 200, []string{"it was so before (MM301)"}},
		"an object being deleted": {func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.Object, r.OldObject = admissionv1.Update, rawOf(deleting), rawOf(deleting)
		}, true, "ignored", 200, nil},
		"a deletion": {func(r *admissionv1.AdmissionRequest) { r.Operation, r.OldObject = admissionv1.Delete, rawOf(bad) }, true, "judged", 200, nil},
		"a clean-up": {func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.OldObject = admissionv1.Delete, rawOf(bad)
			r.UserInfo = authenticationv1.UserInfo{Username: "system:serviceaccount:kube-system:namespace-controller"}
		}, true, "ignored", 200, nil},
		"an object that was not expanded": {func(r *admissionv1.AdmissionRequest) { r.Object = rawOf(unexpanded) }, false, "invalid", 422, []string{"MM206", "00-metamorph"}},
		"an object that was let go of":    {func(r *admissionv1.AdmissionRequest) { r.Object = rawOf(letGo) }, true, "ignored", 200, nil},
		"Metamorph's own namespace":       {func(r *admissionv1.AdmissionRequest) { r.Object, r.Namespace = rawOf(bad), "metamorph-system" }, true, "ignored", 200, nil},
		"kube-system":                     {func(r *admissionv1.AdmissionRequest) { r.Object, r.Namespace = rawOf(bad), "kube-system" }, true, "ignored", 200, nil},
		"a scale": {func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.SubResource, r.Object = admissionv1.Update, sub, scale(4)
		}, true, "judged", 200, nil},
		"a scale to too few": {func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.SubResource, r.Object = admissionv1.Update, sub, scale(1)
		}, false, "denied", 422, []string{"spec.replicas", "MM326"}},
		"a scale of what is not there": {func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.SubResource, r.Object, r.Name = admissionv1.Update, sub, scale(1), "gone"
		}, false, "error", 500, []string{"reading the StatefulSet"}},
		"another subresource": {func(r *admissionv1.AdmissionRequest) { r.SubResource = "status" }, true, "ignored", 200, nil},
		"another resource":    {func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = "deployments" }, true, "ignored", 200, nil},
		"no object":           {func(r *admissionv1.AdmissionRequest) { r.Object.Raw = nil }, false, "error", 400, []string{"holds no object"}},
		"no old object": {func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.Object = admissionv1.Update, rawOf(good)
		}, false, "error", 400, []string{"holds no old object"}},
		"not an object": {func(r *admissionv1.AdmissionRequest) { r.Object.Raw = []byte(`[1]`) }, false, "error", 400, []string{"is not JSON that can be read"}},
		"a plain one in a namespace that cannot be read": {func(r *admissionv1.AdmissionRequest) {
			r.Object.Raw, r.Namespace = []byte(`{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"x"}}`), "absent"
		}, true, "error", 200, []string{"could not judge it, and lets it pass"}},
		"a deletion in a namespace that cannot be read": {func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.OldObject, r.Namespace = admissionv1.Delete, rawOf(good), "absent"
		}, true, "error", 200, []string{"could not judge it, and lets it pass"}},
		"a clean-up by the controller manager": {func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.OldObject = admissionv1.Delete, rawOf(bad)
			r.UserInfo = authenticationv1.UserInfo{Username: "system:kube-controller-manager"}
		}, true, "ignored", 200, nil},
		"another namespace": {func(r *admissionv1.AdmissionRequest) { r.Object, r.Namespace = rawOf(good), "absent" }, false, "error", 500, []string{"reading the namespace"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			v := newValidator(t)
			c := newCluster()
			c.sets = map[string]map[string]any{"events": mutate.Defaulted(good)}
			v.Namespaces, v.Profiles, v.StatefulSets = c, c, c
			req := request(nil)
			test.change(req)
			srv := serve(t, v)
			res := post(t, srv.Client(), srv.URL, reviewOf(t, req))
			code, text := int32(http.StatusOK), strings.Join(res.Warnings, "\n")
			if res.Result != nil {
				text += res.Result.Message
				if res.Result.Code != 0 {
					code = res.Result.Code
				}
			}
			if res.Allowed != test.allowed || res.AuditAnnotations["result"] != test.result || code != test.code {
				t.Errorf("allowed %t (%s, %d), want %t (%s, %d)\n%s", res.Allowed, res.AuditAnnotations["result"], code, test.allowed, test.result, test.code, text)
			}
			for _, want := range test.want {
				if !strings.Contains(text, want) {
					t.Errorf("%q is not in\n%s", want, text)
				}
			}
		})
	}
}

// TestValidatorCauses holds what clients get beside the text.
func TestValidatorCauses(t *testing.T) {
	t.Parallel()
	v := newValidator(t)
	registry := prometheus.NewRegistry()
	v.Metrics = admission.NewMetrics(registry)
	req := request(nil)
	req.Object = rawOf(expandedWith(t, tooMuchHeap))
	srv := serve(t, v)
	res := post(t, srv.Client(), srv.URL, reviewOf(t, req))
	if res.Allowed || res.Result.Details == nil || len(res.Result.Details.Causes) != 1 {
		t.Fatalf("got %+v", res.Result)
	}
	cause := res.Result.Details.Causes[0]
	if cause.Field != "metadata.annotations[metamorph.dev/heap]" || !strings.HasSuffix(cause.Message, "(MM301)") || res.Result.Details.Name != "events" || res.Result.Details.Kind != "StatefulSet" {
		t.Errorf("got %+v %+v", cause, res.Result.Details)
	}
	if got := res.AuditAnnotations["policies"]; got != "deny=MM301" {
		t.Errorf("audit annotation %q", got)
	}
	want := "# HELP metamorph_policy_findings_total What policies found at admission, by code of the policy (MM300: it could not be evaluated) and action (deny, warn, audit).\n" +
		"# TYPE metamorph_policy_findings_total counter\nmetamorph_policy_findings_total{action=\"deny\",code=\"MM301\"} 1\n"
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "metamorph_policy_findings_total"); err != nil {
		t.Error(err)
	}
}

// TestValidatorWarnings holds that the most important warnings fit into what Kubernetes shows.
func TestValidatorWarnings(t *testing.T) {
	t.Parallel()
	v := newValidator(t, &policy.Source{Name: "test", Files: map[string]string{"p.rego": `# METADATA
# title: many words
# custom:
#   code: ACME-1
package acme.words

warn contains sprintf("%03d %s", [i, concat("", [x | some _ in numbers.range(1, 400); x := "ä"])]) if some i in numbers.range(1, 100)
`}})
	req := request(nil)
	req.Object = rawOf(expandedWith(t, nil))
	srv := serve(t, v)
	res := post(t, srv.Client(), srv.URL, reviewOf(t, req))
	total := 0
	for _, w := range res.Warnings {
		n := len([]rune(w))
		total += n
		if n > 256 {
			t.Errorf("a warning has %d characters", n)
		}
	}
	if total > 4096 || len(res.Warnings) < 15 {
		t.Errorf("%d warnings of %d characters", len(res.Warnings), total)
	}
	if first, last := res.Warnings[0], res.Warnings[len(res.Warnings)-1]; !strings.HasPrefix(first, "001 ") || !strings.HasSuffix(first, "… (ACME-1)") || !strings.Contains(last, "more warnings; metamorph check lists them all") {
		t.Errorf("first %q, last %q", first, last)
	}
}

func TestValidatorLooksAtCertificates(t *testing.T) {
	t.Parallel()
	v := newValidator(t)
	var asked seen
	v.Certificates = &asked
	req := request(nil)
	req.Object = rawOf(expandedWith(t, map[string]string{"metamorph.dev/tls-secret": "events-tls"}))
	srv := serve(t, v)
	post(t, srv.Client(), srv.URL, reviewOf(t, req))
	if diff := cmp.Diff(seen{"default/events-tls"}, asked); diff != "" {
		t.Errorf("certificates (-want +got)\n%s", diff)
	}
}

func decoded(t *testing.T, raw []byte) map[string]any {
	t.Helper()
	obj, err := mutate.Decode(raw)
	if err != nil {
		t.Skip() // not UTF-8
	}
	return obj
}

// FuzzValidator holds that whatever is sent, the answer is one.
func FuzzValidator(f *testing.F) {
	f.Add([]byte(`{"metadata":{"annotations":{"metamorph.dev/role":"kafka","metamorph.dev/source":"{}","metamorph.dev/settings":"{}"}},"spec":{"template":{"spec":{"containers":[{"name":1}]}}}}`), []byte(nil), "CREATE", "")
	f.Add([]byte(`{"spec":{"replicas":"x"}}`), []byte(`{"metadata":{"annotations":[]}}`), "UPDATE", "")
	f.Add([]byte(`{"spec":{"replicas":-1}}`), []byte(`{}`), "UPDATE", "scale")
	f.Add([]byte(nil), []byte(`{"metadata":{"annotations":{"metamorph.dev/role":"kafka"}}}`), "DELETE", "")
	v := newValidator(f)
	c := newCluster()
	c.sets = map[string]map[string]any{"events": expandedWith(f, nil)}
	v.StatefulSets = c
	srv := serve(f, v)
	f.Fuzz(func(t *testing.T, object, old []byte, operation, sub string) {
		for _, raw := range []*[]byte{&object, &old} {
			var m map[string]any
			if len(*raw) > 0 && (json.Unmarshal(*raw, &m) != nil || m == nil) {
				t.Skip() // no API server sends it
			}
			if m == nil {
				*raw = nil
				continue
			}
			*raw = mutate.Encode(decoded(t, *raw))
		}
		req := request(object)
		req.OldObject.Raw, req.Operation, req.SubResource = old, admissionv1.Operation(operation), sub
		res := post(t, srv.Client(), srv.URL, reviewOf(t, req))
		if res.UID != requestUID || !res.Allowed && (res.Result == nil || res.Result.Message == "") {
			t.Errorf("got %+v", res)
		}
		if res.Result != nil && strings.Contains(res.Result.Message, "panicked") {
			t.Errorf("%s", res.Result.Message)
		}
	})
}
