package admission_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/go-logr/logr/funcr"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"
	kjson "sigs.k8s.io/json"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// patched applies the patch of a response with the library that the API server uses.
func patched(t *testing.T, object []byte, res *admissionv1.AdmissionResponse) []byte {
	t.Helper()
	if !res.Allowed {
		t.Fatalf("refused: %v", res.Result)
	}
	if res.PatchType == nil || *res.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("patch type %v", res.PatchType)
	}
	p, err := jsonpatch.DecodePatch(res.Patch)
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Apply(object)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestExpands(t *testing.T) {
	t.Parallel()
	object := threeLines(t)
	res := admit(t, newMutator(), request(object))
	got := patched(t, object, res)

	var set appsv1.StatefulSet
	strict, err := kjson.UnmarshalStrict(got, &set)
	if err != nil || len(strict) > 0 {
		t.Fatalf("the API server would drop fields: %v %v", err, strict)
	}
	if len(set.Spec.Template.Spec.Containers) == 0 || set.Spec.Selector == nil {
		t.Error("not expanded")
	}
	want, err := mutate.Expand(mutate.Input{Object: object, Namespace: mutate.Namespace{Name: "default"}, ClusterUID: clusterUID, Version: "v1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	wantTree, gotTree := tree(t, marshal(t, want.Object)), tree(t, got)
	if diff := cmp.Diff(wantTree, gotTree); diff != "" {
		t.Errorf("not what the expansion says (-want +got)\n%s", diff)
	}
	if res.UID != requestUID {
		t.Errorf("the answer is for request %q", res.UID)
	}
	if res.AuditAnnotations["result"] != "expanded" || res.AuditAnnotations["role"] != "kafka" || res.AuditAnnotations["operations"] == "0" {
		t.Errorf("audit annotations %v", res.AuditAnnotations)
	}
}

func tree(t *testing.T, raw []byte) any {
	t.Helper()
	var v any
	if err := json.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

func marshal(t *testing.T, v any) []byte {
	t.Helper()
	raw, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func TestUpdateWithoutAChange(t *testing.T) {
	t.Parallel()
	m, object := newMutator(), threeLines(t)
	stored := patched(t, object, admit(t, m, request(object)))
	req := request(stored)
	req.Operation, req.OldObject.Raw = admissionv1.Update, stored
	res := admit(t, m, req)
	if !res.Allowed || res.Patch != nil || res.PatchType != nil || len(res.Warnings) > 0 {
		t.Errorf("got %+v", res)
	}
	if got := res.AuditAnnotations["result"]; got != "unchanged" {
		t.Errorf("result %q", got)
	}
}

// TestDefaults looks where the heap comes from.
func TestDefaults(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		annotations map[string]string
		cluster     func(c *fakeCluster)
		want        string
	}{
		"the rule":      {want: "1024m"},
		"the namespace": {cluster: func(c *fakeCluster) { heapOn(c, "3Gi") }, want: "3072m"},
		"the object before the namespace": {
			annotations: map[string]string{"metamorph.dev/heap": "2Gi"}, cluster: func(c *fakeCluster) { heapOn(c, "3Gi") }, want: "2048m",
		},
		"a profile": {
			annotations: map[string]string{"metamorph.dev/profile": "big"},
			cluster:     func(c *fakeCluster) { c.profiles = map[string]map[string]string{"big": {"heap": "4Gi"}} }, want: "4096m",
		},
		"a profile that the cache does not have yet": {
			annotations: map[string]string{"metamorph.dev/profile": "new"},
			cluster:     func(c *fakeCluster) { c.only = map[string]map[string]string{"new": {"heap": "5Gi"}} }, want: "5120m",
		},
		"a profile that the namespace names": {
			cluster: func(c *fakeCluster) {
				c.namespaces["default"] = admission.Namespace{Annotations: map[string]string{"metamorph.dev/profile": "new"}}
				c.only = map[string]map[string]string{"new": {"heap": "6Gi"}}
			}, want: "6144m",
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			if test.cluster != nil {
				test.cluster(c)
			}
			object := annotated(t, threeLines(t), test.annotations)
			got := patched(t, object, admit(t, &admission.Mutator{Namespaces: c, Profiles: c}, request(object)))
			if !bytes.Contains(got, []byte("-Xmx"+test.want)) {
				t.Errorf("-Xmx%s is not in\n%s", test.want, got)
			}
		})
	}
}

func heapOn(c *fakeCluster, heap string) {
	c.namespaces["default"] = admission.Namespace{Annotations: map[string]string{"metamorph.dev/heap": heap}}
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	object := annotated(t, threeLines(t), map[string]string{"metamorph.dev/heap": "much", "metamorph.dev/stroage": "1Gi"})
	res := admit(t, newMutator(), request(object))
	if res.Allowed || res.Patch != nil {
		t.Fatalf("allowed: %+v", res)
	}
	got := res.Result
	if got.Code != http.StatusUnprocessableEntity || got.Reason != metav1.StatusReasonInvalid || got.Status != metav1.StatusFailure {
		t.Errorf("status %+v", got)
	}
	// Without one of these, kubectl prints the message in one line instead of the causes in one line each.
	if d := got.Details; d == nil || d.Name != "events" || d.Kind != "StatefulSet" || d.Group != "apps" {
		t.Fatalf("details %+v", d)
	}
	var fields []string
	for _, c := range got.Details.Causes {
		fields = append(fields, c.Field)
		if c.Type != metav1.CauseTypeFieldValueInvalid || c.Message == "" || strings.HasPrefix(c.Message, c.Field) {
			t.Errorf("cause %+v", c)
		}
	}
	if diff := cmp.Diff([]string{"metadata.annotations[metamorph.dev/stroage]", "metadata.annotations[metamorph.dev/heap]"}, fields); diff != "" {
		t.Errorf("fields (-want +got)\n%s", diff)
	}
	if res.AuditAnnotations["result"] != "invalid" {
		t.Errorf("audit annotations %v", res.AuditAnnotations)
	}
}

func TestIgnores(t *testing.T) {
	t.Parallel()
	plain := []byte(`{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"events"}}`)
	for name, change := range map[string]func(*admissionv1.AdmissionRequest){
		"a deletion":            func(r *admissionv1.AdmissionRequest) { r.Operation, r.Object.Raw = admissionv1.Delete, nil },
		"a connection":          func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Connect },
		"a scale":               func(r *admissionv1.AdmissionRequest) { r.SubResource, r.Operation = "scale", admissionv1.Update },
		"a status":              func(r *admissionv1.AdmissionRequest) { r.SubResource, r.Operation = "status", admissionv1.Update },
		"another kind":          func(r *admissionv1.AdmissionRequest) { r.Resource.Resource = "deployments" },
		"another version":       func(r *admissionv1.AdmissionRequest) { r.Resource.Version = "v1beta1" },
		"another group":         func(r *admissionv1.AdmissionRequest) { r.Resource.Group = "example.com" },
		"an unannotated object": func(r *admissionv1.AdmissionRequest) { r.Object.Raw = plain },
		"no longer managed at all": func(r *admissionv1.AdmissionRequest) {
			r.Operation, r.Object.Raw, r.OldObject.Raw = admissionv1.Update, plain, plain
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			req := request(threeLines(t))
			change(req)
			res := admit(t, newMutator(), req)
			if !res.Allowed || res.Patch != nil || res.AuditAnnotations["result"] != "ignored" {
				t.Errorf("got %+v", res)
			}
		})
	}
}

// TestFailsClosed holds that whatever goes wrong, no object is let through unexpanded.
func TestFailsClosed(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		body    func(tb testing.TB) []byte
		mutator func(m *admission.Mutator, c *fakeCluster)
		query   string
		want    int32
		reason  metav1.StatusReason
	}{
		"no review":                        {body: text(`hello`), want: 400},
		"an empty review":                  {body: text(`{}`), want: 400},
		"no request":                       {body: text(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`), want: 400},
		"request null":                     {body: text(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":null}`), want: 400},
		"another kind":                     {body: text(`{"apiVersion":"v1","kind":"Pod"}`), want: 400},
		"half a review":                    {body: half, want: 400},
		"an oversized body":                {body: func(testing.TB) []byte { return bytes.Repeat([]byte(" "), 8<<20) }, want: 413},
		"wrong types":                      {body: text(`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":7}}`), want: 400},
		"no object":                        {body: changed(func(r *admissionv1.AdmissionRequest) { r.Object.Raw = nil }), want: 400, reason: metav1.StatusReasonBadRequest},
		"an object null":                   {body: changed(func(r *admissionv1.AdmissionRequest) { r.Object.Raw = []byte("null") }), want: 400},
		"an object that is a list":         {body: changed(func(r *admissionv1.AdmissionRequest) { r.Object.Raw = []byte("[]") }), want: 400},
		"an update without the old object": {body: changed(func(r *admissionv1.AdmissionRequest) { r.Operation = admissionv1.Update }), want: 400},
		"a missing namespace":              {body: changed(func(r *admissionv1.AdmissionRequest) { r.Namespace = "absent" }), want: 500, reason: metav1.StatusReasonInternalError},
		"a cluster that does not answer":   {mutator: func(_ *admission.Mutator, c *fakeCluster) { c.err = errors.New("down") }, want: 500},
		"a cluster without a UID":          {mutator: func(_ *admission.Mutator, c *fakeCluster) { c.namespaces["kube-system"] = admission.Namespace{} }, want: 500},
		"a cluster that answers too late":  {mutator: func(_ *admission.Mutator, c *fakeCluster) { c.wait = true }, query: "?timeout=1ms", want: 504, reason: metav1.StatusReasonTimeout},
		"an expansion that panics": {mutator: func(m *admission.Mutator, _ *fakeCluster) {
			m.Expand = func(mutate.Input) (*mutate.Output, error) { panic(secret) }
		}, want: 500},
		"an expansion that panics by error": {mutator: func(m *admission.Mutator, _ *fakeCluster) { m.Expand = outOfRange }, want: 500},
		"an expansion that fails": {mutator: func(m *admission.Mutator, _ *fakeCluster) {
			m.Expand = func(mutate.Input) (*mutate.Output, error) { return nil, errors.New("no") }
		}, want: 400},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newCluster()
			m := &admission.Mutator{Namespaces: c, Profiles: c}
			if test.mutator != nil {
				test.mutator(m, c)
			}
			body := changed(func(*admissionv1.AdmissionRequest) {})
			if test.body != nil {
				body = test.body
			}
			srv := serve(t, m)
			res := post(t, srv.Client(), srv.URL+test.query, body(t))
			if res.Allowed || res.Patch != nil {
				t.Fatalf("allowed: %+v", res)
			}
			if res.Result == nil || res.Result.Code != test.want {
				t.Errorf("status %+v, want %d", res.Result, test.want)
			}
			if test.reason != "" && res.Result.Reason != test.reason {
				t.Errorf("reason %q, want %q", res.Result.Reason, test.reason)
			}
			if strings.Contains(res.Result.Message, secret) {
				t.Errorf("the message tells a secret: %s", res.Result.Message)
			}
		})
	}
}

const secret = "hunter2"

func text(s string) func(testing.TB) []byte { return func(testing.TB) []byte { return []byte(s) } }

func half(tb testing.TB) []byte {
	tb.Helper()
	raw := reviewOf(tb, request(threeLines(tb)))
	return raw[:len(raw)/2]
}

// outOfRange panics as a bug would.
func outOfRange(in mutate.Input) (*mutate.Output, error) {
	return nil, errors.New(in.Version[len(in.Version):][1:])
}

func changed(change func(*admissionv1.AdmissionRequest)) func(testing.TB) []byte {
	return func(tb testing.TB) []byte {
		tb.Helper()
		req := request(threeLines(tb))
		raw := req.Object.Raw
		change(req)
		if req.Object.Raw == nil || bytes.Equal(req.Object.Raw, raw) {
			return reviewOf(tb, req)
		}
		// RawExtension would not write what is no object.
		placeholder := req.Object.Raw
		req.Object.Raw = []byte(`"PLACEHOLDER"`)
		return bytes.Replace(reviewOf(tb, req), []byte(`"PLACEHOLDER"`), placeholder, 1)
	}
}

func TestContentType(t *testing.T) {
	t.Parallel()
	srv := serve(t, newMutator())
	res, err := srv.Client().Post(srv.URL, "text/plain", bytes.NewReader(reviewOf(t, request(threeLines(t)))))
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	var review admissionv1.AdmissionReview
	if err := json.NewDecoder(res.Body).Decode(&review); err != nil || review.Response.Allowed {
		t.Errorf("got %+v, %v", review.Response, err)
	}
}

func TestContextEnds(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	m := newMutator()
	m.Expand = func(mutate.Input) (*mutate.Output, error) { t.Error("expanded for nobody"); return nil, nil }
	res := m.Handle(ctx, ctrladmission.Request{AdmissionRequest: *request(threeLines(t))})
	if res.Allowed || res.Result.Code != http.StatusGatewayTimeout {
		t.Errorf("got %+v", res)
	}
}

// TestClusterIsAskedOnce holds that the cluster's UID is remembered once it is known, and asked for again until it is.
func TestClusterIsAskedOnce(t *testing.T) {
	t.Parallel()
	c := newCluster()
	m := &admission.Mutator{Namespaces: c, Profiles: c}
	req := ctrladmission.Request{AdmissionRequest: *request(threeLines(t))}
	c.namespaces["kube-system"] = admission.Namespace{}
	if res := m.Handle(t.Context(), req); res.Allowed {
		t.Error("allowed without the cluster's UID")
	}
	c.namespaces["kube-system"] = admission.Namespace{UID: clusterUID}
	if res := m.Handle(t.Context(), req); !res.Allowed {
		t.Errorf("refused: %v", res.Result)
	}
	delete(c.namespaces, "kube-system")
	if res := m.Handle(t.Context(), req); !res.Allowed {
		t.Errorf("refused: %v", res.Result)
	}
}

func TestConcurrentRequests(t *testing.T) {
	t.Parallel()
	m := newMutator()
	m.Metrics = admission.NewMetrics(prometheus.NewRegistry())
	srv, object := serve(t, m), threeLines(t)
	body := reviewOf(t, request(object))
	first := post(t, srv.Client(), srv.URL, body).Patch
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 5 {
				if res := post(t, srv.Client(), srv.URL, body); !bytes.Equal(res.Patch, first) {
					t.Error("the same request got another patch")
				}
			}
		})
	}
	wg.Wait()
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	m := newMutator()
	m.Metrics = admission.NewMetrics(registry)
	ok, bad := request(threeLines(t)), request(annotated(t, threeLines(t), map[string]string{"metamorph.dev/heap": "much"}))
	odd := request(threeLines(t))
	odd.Operation = admissionv1.Operation("odd " + secret)
	for _, req := range []*admissionv1.AdmissionRequest{ok, ok, bad, odd} {
		m.Handle(t.Context(), ctrladmission.Request{AdmissionRequest: *req})
	}
	want := `
# HELP metamorph_expansions_total StatefulSets that were expanded, or changed by an update, by role.
# TYPE metamorph_expansions_total counter
metamorph_expansions_total{role="kafka"} 2
metamorph_expansions_total{role="zookeeper"} 0
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "metamorph_expansions_total"); err != nil {
		t.Error(err)
	}
	all, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]uint64{}
	for _, family := range all {
		for _, metric := range family.GetMetric() {
			if h := metric.GetHistogram(); h != nil {
				key := ""
				for _, l := range metric.GetLabel() {
					key += l.GetName() + "=" + l.GetValue() + " "
				}
				got[key] = h.GetSampleCount()
			}
		}
	}
	wantCounts := map[string]uint64{"operation=create result=expanded webhook=mutate ": 2, "operation=create result=invalid webhook=mutate ": 1, "operation=other result=ignored webhook=mutate ": 1}
	if diff := cmp.Diff(wantCounts, got); diff != "" {
		t.Errorf("durations (-want +got)\n%s", diff)
	}
}

func TestLog(t *testing.T) {
	t.Parallel()
	var log strings.Builder
	logger := funcr.New(func(_, args string) { log.WriteString(args + "\n") }, funcr.Options{Verbosity: 10})
	ctx := logf.IntoContext(t.Context(), logger)
	handle := func(m *admission.Mutator, object []byte) {
		m.Handle(ctx, ctrladmission.Request{AdmissionRequest: *request(object)})
	}
	handle(newMutator(), annotated(t, threeLines(t), map[string]string{"other": secret}))
	handle(newMutator(), annotated(t, threeLines(t), map[string]string{"metamorph.dev/heap": secret, "metamorph.dev/password": secret}))
	broken := newMutator()
	broken.Expand = func(mutate.Input) (*mutate.Output, error) { panic(errors.New(secret)) }
	handle(broken, threeLines(t))
	for _, want := range []string{
		requestUID, `"namespace"="default"`, `"name"="events"`, `"result"="expanded"`, `"role"="kafka"`,
		`"result"="invalid"`, string(setting.BadValue), string(setting.Password), `"result"="error"`, "mutator_test.go",
	} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("%s is not in the log:\n%s", want, log.String())
		}
	}
	if strings.Contains(log.String(), secret) {
		t.Errorf("the log tells a secret:\n%s", log.String())
	}
}
