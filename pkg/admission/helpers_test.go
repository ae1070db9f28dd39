package admission_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	ctrladmission "sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
)

const (
	clusterUID = "7d1ba4f3-6a51-4a6b-9a3e-5f0b2a2a0001"
	requestUID = "0fb2ab01-1b32-4e5a-8a3a-111111111111"
)

// fakeCluster answers from maps, and counts.
type fakeCluster struct {
	namespaces map[string]admission.Namespace
	profiles   map[string]map[string]string
	// sets are the stored StatefulSets by name.
	sets map[string]map[string]any
	// only is the profile that is found if it is wanted only, as it is not in the cache.
	only map[string]map[string]string
	err  error
	// wait makes every answer wait for the end of the context.
	wait bool
}

func newCluster() *fakeCluster {
	return &fakeCluster{namespaces: map[string]admission.Namespace{"kube-system": {UID: clusterUID}, "default": {UID: "d"}}}
}

func (c *fakeCluster) Namespace(ctx context.Context, name string) (admission.Namespace, error) {
	if c.wait {
		<-ctx.Done()
		return admission.Namespace{}, ctx.Err()
	}
	if c.err != nil {
		return admission.Namespace{}, c.err
	}
	ns, ok := c.namespaces[name]
	if !ok {
		return admission.Namespace{}, errors.New("not found")
	}
	return ns, nil
}

func (c *fakeCluster) Profiles(_ context.Context, wanted string) (map[string]map[string]string, error) {
	out := map[string]map[string]string{}
	for name, p := range c.profiles {
		out[name] = p
	}
	if p, ok := c.only[wanted]; ok {
		out[wanted] = p
	}
	return out, nil
}

func newMutator() *admission.Mutator {
	c := newCluster()
	return &admission.Mutator{Namespaces: c, Profiles: c, Version: "v1.0.0"}
}

func serve(tb testing.TB, h ctrladmission.Handler) *httptest.Server {
	tb.Helper()
	handler, err := admission.Serve(h, logr.Discard())
	if err != nil {
		tb.Fatal(err)
	}
	srv := httptest.NewServer(handler)
	tb.Cleanup(srv.Close)
	return srv
}

// threeLines is the shortest manifest, as kubectl apply brings it to the webhook.
func threeLines(tb testing.TB) []byte {
	tb.Helper()
	raw, err := os.ReadFile("../mutate/testdata/requests/kubectl-apply.json")
	if err != nil {
		tb.Fatal(err)
	}
	var req admissionv1.AdmissionRequest
	if err := json.Unmarshal(raw, &req); err != nil {
		tb.Fatal(err)
	}
	return req.Object.Raw
}

// request is a creation of an object in the namespace default.
func request(object []byte) *admissionv1.AdmissionRequest {
	return &admissionv1.AdmissionRequest{
		UID:       types.UID(requestUID),
		Kind:      metav1.GroupVersionKind{Group: "apps", Version: "v1", Kind: "StatefulSet"},
		Resource:  metav1.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"},
		Name:      "events",
		Namespace: "default",
		Operation: admissionv1.Create,
		Object:    runtime.RawExtension{Raw: object},
	}
}

func reviewOf(tb testing.TB, req *admissionv1.AdmissionRequest) []byte {
	tb.Helper()
	raw, err := json.Marshal(admissionv1.AdmissionReview{
		TypeMeta: metav1.TypeMeta{APIVersion: "admission.k8s.io/v1", Kind: "AdmissionReview"}, Request: req,
	})
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func post(tb testing.TB, client *http.Client, url string, body []byte) *admissionv1.AdmissionResponse {
	tb.Helper()
	raw := exchange(tb, client, url, body)
	var review admissionv1.AdmissionReview
	if err := json.Unmarshal(raw, &review); err != nil || review.Response == nil {
		tb.Fatalf("not a review: %v\n%s", err, raw)
	}
	return review.Response
}

// exchange sends a body and returns the answer's.
func exchange(tb testing.TB, client *http.Client, url string, body []byte) []byte {
	tb.Helper()
	res, err := client.Post(url, "application/json", bytes.NewReader(body))
	if err != nil {
		tb.Fatal(err)
	}
	defer res.Body.Close()
	raw, err := io.ReadAll(res.Body)
	if err != nil {
		tb.Fatal(err)
	}
	return raw
}

func admit(tb testing.TB, m *admission.Mutator, req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
	tb.Helper()
	srv := serve(tb, m)
	return post(tb, srv.Client(), srv.URL+"?timeout=5s", reviewOf(tb, req))
}

// edit changes an object.
func edit(tb testing.TB, raw []byte, change func(obj map[string]any)) []byte {
	tb.Helper()
	var obj map[string]any
	if err := json.Unmarshal(raw, &obj); err != nil {
		tb.Fatal(err)
	}
	change(obj)
	out, err := json.Marshal(obj)
	if err != nil {
		tb.Fatal(err)
	}
	return out
}

// annotated sets annotations.
func annotated(tb testing.TB, raw []byte, annotations map[string]string) []byte {
	tb.Helper()
	return edit(tb, raw, func(obj map[string]any) {
		all := obj["metadata"].(map[string]any)["annotations"].(map[string]any)
		for k, v := range annotations {
			all[k] = v
		}
	})
}
