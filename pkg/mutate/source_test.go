package mutate

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
)

const (
	wroteMinimal   = `{"metadata":{"annotations":{"metamorph.dev/role":"kafka"}}}`
	wroteOverrides = `{"metadata":{"annotations":{"metamorph.dev/heap":"1Gi","metamorph.dev/role":"kafka"},"labels":{"team":"streams"}},` +
		`"spec":{"replicas":3,"template":{"spec":{"containers":[{"env":[{"name":"TZ","value":"UTC"},{"name":"NODE","valueFrom":{"fieldRef":{"fieldPath":"spec.nodeName"}}}],` +
		`"name":"kafka","resources":{"limits":{"memory":"2Gi"}}}],"terminationGracePeriodSeconds":120,"volumes":[{"name":"scratch"}]}}}}`
)

const (
	helmLabel         = `"labels":{"app.kubernetes.io/managed-by":"Helm"}`
	wroteHelm         = `{"metadata":{"annotations":{"metamorph.dev/role":"kafka"},` + helmLabel + `}}`
	wroteHelmOverride = `{"metadata":{"annotations":{"metamorph.dev/heap":"1Gi","metamorph.dev/role":"kafka"},` + helmLabel + `},` +
		`"spec":{"replicas":3,"template":{"spec":{"containers":[{"env":[{"name":"TZ","value":"UTC"}],"name":"kafka","resources":{"limits":{"memory":"2Gi"}}}],` +
		`"terminationGracePeriodSeconds":120}}}}`
)

// TestSource recovers what the user wrote from the recorded requests of every client.
func TestSource(t *testing.T) {
	t.Parallel()
	want := map[string]string{
		"mutating-admission-policy":     wroteOverrides,
		"other-webhook-before":          wroteOverrides,
		"other-webhook-after-reinvoked": wroteOverrides,
		"kubectl-create-generate-name":  "",
		// Helm writes a label of its own.
		"helm3-install": wroteHelm, "helm3-install-overrides": wroteHelmOverride,
		"helm4-install": wroteHelm, "helm4-install-overrides": wroteHelmOverride, "helm4-install-client-side": wroteHelmOverride,
	}
	files, err := filepath.Glob("testdata/requests/*.json")
	if err != nil || len(files) < 20 {
		t.Fatalf("recorded requests: %d, %v", len(files), err)
	}
	for _, f := range files {
		name := strings.TrimSuffix(filepath.Base(f), ".json")
		if strings.HasPrefix(name, "update-") {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wrote, special := want[name]
			switch {
			case special && wrote == "":
				return
			case !special && strings.HasSuffix(name, "-overrides"):
				wrote = wroteOverrides
			case !special:
				wrote = wroteMinimal
			}
			raw, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var req admissionv1.AdmissionRequest
			if err := json.Unmarshal(raw, &req); err != nil {
				t.Fatal(err)
			}
			obj, err := leaf.Decode(req.Object.Raw)
			if err != nil {
				t.Fatal(err)
			}
			x := &expansion{obj: obj}
			got := text(leaf.Build(x.source(leaves(obj))))
			if diff := cmp.Diff(wrote, got); diff != "" {
				t.Errorf("source (-want +got):\n%s", diff)
			}
		})
	}
}
