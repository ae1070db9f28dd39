package expansion_test

import (
	"context"
	"strings"
	"testing"

	admissionv1 "k8s.io/api/admission/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
	"github.com/metamorph-k8s/metamorph/test/admission/recorder"
)

// TestAnotherWebhook lets a second mutating webhook, called before or after ours, put in a label, a sidecar and a
// variable. They are there in the end, they are not taken for the user's, and nothing changes when the file is applied again.
func TestAnotherWebhook(t *testing.T) {
	t.Parallel()
	// Webhooks are called in the order of the names of their configurations; ours is 00-metamorph.
	for when, name := range map[string]string{"before": "0-injector", "after": "z-injector"} {
		t.Run(when, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, nil, nil)
			inject(t, name, ns)
			kubectl(t, ns, sidecar, "apply", "-f", "-")
			obj := decode(t, kubectl(t, ns, "", "get", "sts", "events", "-o", "json"))
			all := leaf.Of(obj, nil)
			pod := leaf.Join("spec", "template", "spec")
			for _, p := range []leaf.Path{
				leaf.Join("metadata", "labels", "injected"),
				pod.Child("containers").Child("#proxy").Child("image"),
				pod.Child("containers").Child("#kafka").Child("image"),
				pod.Child("containers").Child("#shipper").Child("image"),
			} {
				if !all.Has(p) {
					t.Errorf("%s is missing", p)
				}
			}
			md, _ := obj["metadata"].(map[string]any)
			a, _ := md["annotations"].(map[string]any)
			source, _ := a["metamorph.dev/source"].(string)
			if strings.Contains(source, "proxy") || strings.Contains(source, "injected") || !strings.Contains(source, "shipper") {
				t.Errorf("source: %s", source)
			}
			kubectl(t, ns, sidecar, "apply", "--server-side", "--force-conflicts", "-f", "-")
			again := decode(t, kubectl(t, ns, "", "get", "sts", "events", "-o", "json"))
			if g := generation(again); g != 1 {
				t.Errorf("generation %d", g)
			}
			compare(t, obj, again)
		})
	}
}

// inject registers a webhook for one namespace.
func inject(t *testing.T, name, ns string) {
	t.Helper()
	w, err := recorder.Start(t.Context(), api(t).Config, recorder.Options{
		Name: name,
		Respond: func(req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			if req.Namespace != ns || req.SubResource != "" || req.Operation == admissionv1.Delete {
				return recorder.Patch()
			}
			obj, err := leaf.Decode(req.Object.Raw)
			if err != nil {
				return &admissionv1.AdmissionResponse{Allowed: false}
			}
			all := leaf.Of(obj, nil)
			var ops []recorder.Operation
			if !all.Has(leaf.Join("metadata", "labels", "injected")) {
				value, path := any("yes"), "/metadata/labels/injected"
				if md, _ := obj["metadata"].(map[string]any); md["labels"] == nil {
					value, path = map[string]any{"injected": "yes"}, "/metadata/labels"
				}
				ops = append(ops, recorder.Operation{Op: "add", Path: path, Value: value})
			}
			if !all.Has(leaf.Join("spec", "template", "spec", "containers", "#proxy", "image")) {
				ops = append(ops, recorder.Operation{Op: "add", Path: "/spec/template/spec/containers/-", Value: map[string]any{"name": "proxy", "image": "proxy:1"}})
			}
			return recorder.Patch(ops...)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
}
