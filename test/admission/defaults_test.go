package admission_test

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/randfill"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
)

// These tests hold the table of API defaults, which makes offline input what a webhook would be shown, against the
// real server.

//go:embed testdata/everything.yaml
var everything string

const frame = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: NAME}
spec:
  selector: {matchLabels: {app: x}}
  template:
    metadata: {labels: {app: x}}
    spec:
      containers: [{name: c, image: 'kafka:4'}]
`

// defaulted are valid StatefulSets.
var defaulted = map[string]string{
	"least":      frame,
	"everything": everything,
	"on-delete":  frame + "  updateStrategy: {type: OnDelete}\n",
	// The server fills in the parameters of a rolling update only if it fills in the type.
	"rolling-update-without-parameters": frame + "  updateStrategy: {type: RollingUpdate}\n",
	"partition":                         frame + "  updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 1}}\n",
	"zeros":                             frame + "  replicas: 0\n  revisionHistoryLimit: 0\n  minReadySeconds: 0\n  podManagementPolicy: ''\n  persistentVolumeClaimRetentionPolicy: {whenScaled: Delete}\n",
	"host-network":                      strings.Replace(frame, "containers:", "hostNetwork: true\n      containers:", 1),
	"service-account":                   strings.Replace(frame, "containers:", "serviceAccount: old\n      containers:", 1),
	"pod-resources":                     strings.Replace(frame, "containers:", "resources: {limits: {memory: 1024Mi, cpu: 0.0005}}\n      containers:", 1),
}

func statefulSets(t *testing.T, namespace string) dynamic.ResourceInterface {
	t.Helper()
	cfg := rest.CopyConfig(cluster(t).Config)
	cfg.WarningHandler = rest.NoWarnings{} // of volume sources that are no longer in use
	c, err := dynamic.NewForConfig(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c.Resource(schema.GroupVersionResource{Group: "apps", Version: "v1", Resource: "statefulsets"}).Namespace(namespace)
}

// TestDefaultsAreThoseOfTheServer: it makes no difference to what is stored whether Apply came first, so Apply adds
// nothing wrong; and after Prune the stored object is the applied one, so Apply forgets nothing.
func TestDefaultsAreThoseOfTheServer(t *testing.T) {
	t.Parallel()
	const ns = "defaults"
	cluster(t)
	namespace(t, ns, nil)
	for name, manifest := range defaulted {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			store := func(suffix string, object map[string]any) map[string]any {
				t.Helper()
				u := &unstructured.Unstructured{Object: object}
				u = u.DeepCopy()
				u.SetName(name + suffix)
				got, err := statefulSets(t, ns).Create(t.Context(), u, metav1.CreateOptions{FieldValidation: metav1.FieldValidationStrict})
				if err != nil {
					t.Fatal(err)
				}
				return got.Object["spec"].(map[string]any)
			}
			applied := parseNumbers(t, manifest)
			apidefaults.Apply(applied)

			plain := store("", parseNumbers(t, manifest))
			if diff := cmp.Diff(plain, store("-applied", applied)); diff != "" {
				t.Errorf("stored specs (-plain +applied):\n%s", diff)
			}
			compareApplied(t, map[string]any{"spec": plain}, map[string]any{"spec": applied["spec"]})
		})
	}
}

// parseNumbers decodes YAML with int64 for integers, which the dynamic client insists on.
func parseNumbers(t *testing.T, text string) map[string]any {
	t.Helper()
	raw, err := json.Marshal(parseYAML(t, text))
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	return u.Object
}

// compareApplied compares what the server made of an object with what Apply made of it. The server also shows empty
// values where its Go types cannot leave them out; nothing else may be different.
func compareApplied(t *testing.T, server, applied map[string]any) {
	t.Helper()
	compareFilled(t, server, applied)
	apidefaults.Prune(server)
	apidefaults.Prune(applied)
	if diff := cmp.Diff(server, applied); diff != "" {
		t.Errorf("after Prune (-server +Apply):\n%s", diff)
	}
}

func compareFilled(t *testing.T, server, applied map[string]any) {
	t.Helper()
	if diff := cmp.Diff(withoutEmpty(server), withoutEmpty(applied)); diff != "" {
		t.Errorf("(-server +Apply):\n%s", diff)
	}
}

// withoutEmpty drops what a Go type with omitempty drops, and what it cannot drop. Containers of these stay.
func withoutEmpty(v any) any {
	switch v := v.(type) {
	case map[string]any:
		kept := map[string]any{}
		for k, field := range v {
			switch f := withoutEmpty(field).(type) {
			case nil:
			case map[string]any:
				if len(f) > 0 {
					kept[k] = f
				}
			case []any:
				if len(f) > 0 {
					kept[k] = f
				}
			default:
				if f != "" && f != false && f != int64(0) && f != float64(0) {
					kept[k] = f
				}
			}
		}
		return kept
	case []any:
		kept := make([]any, len(v))
		for i := range v {
			kept[i] = withoutEmpty(v[i])
		}
		return kept
	case int64: // the dynamic client's
		return float64(v)
	}
	return v
}

// TestApplyMakesWhatAWebhookSees of the manifests that are not valid before we complete them.
func TestApplyMakesWhatAWebhookSees(t *testing.T) {
	t.Parallel()
	const ns = "defaults-seen"
	cluster(t)
	namespace(t, ns, nil)
	for name, manifest := range map[string]string{"minimal": minimal, "overrides": overrides} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			compareSeen(t, ns, name, parseNumbers(t, manifest), compareApplied)
		})
	}
}

// compareSeen sends an object and compares what the webhook was shown with what Apply makes of it. Whether validation
// accepts the object afterwards does not matter.
func compareSeen(t *testing.T, ns, name string, object map[string]any,
	compare func(t *testing.T, server, applied map[string]any),
) {
	t.Helper()
	u := (&unstructured.Unstructured{Object: object}).DeepCopy()
	u.SetName(name)
	u.SetAnnotations(map[string]string{"metamorph.dev/role": "kafka"})
	applied := u.DeepCopy().Object
	apidefaults.Apply(applied)
	create := func() error {
		_, err := statefulSets(t, ns).Create(t.Context(), u, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err
	}
	err := create()
	seen := recording.Requests(ns, name)
	if len(seen) == 0 && apierrors.IsInternalError(err) {
		// The API server keeps connections to webhooks, and does not send a request again if one breaks.
		err = create()
		seen = recording.Requests(ns, name)
	}
	if len(seen) == 0 {
		raw, _ := json.Marshal(u.Object)
		t.Fatalf("the webhook was not called: %v\n%s", err, raw)
	}
	server := &unstructured.Unstructured{}
	if err := server.UnmarshalJSON(seen[0].Object.Raw); err != nil {
		t.Fatal(err)
	}
	again := server.DeepCopy().Object
	apidefaults.Apply(again)
	if diff := cmp.Diff(server.Object["spec"], again["spec"]); diff != "" {
		t.Errorf("Apply changes what the server has defaulted (-server +Apply):\n%s", diff)
	}
	compare(t, map[string]any{"spec": server.Object["spec"]}, map[string]any{"spec": applied["spec"]})
	if t.Failed() {
		raw, _ := json.Marshal(u.Object["spec"])
		t.Logf("the object sent: %s", raw)
	}
}

// TestRandomStatefulSets sends what nobody would write: all fields of the API in any combination. They need not be
// valid, because webhooks are called before validation.
func TestRandomStatefulSets(t *testing.T) {
	t.Parallel()
	const ns = "defaults-random"
	cluster(t)
	namespace(t, ns, nil)
	n := 200
	if testing.Short() {
		n = 30
	}
	for seed := range n {
		compareSeen(t, ns, fmt.Sprintf("random-%d", seed), random(t, int64(seed)), compareFilled)
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
	}
}

func random(t *testing.T, seed int64) map[string]any {
	t.Helper()
	pick := func(c randfill.Continue, from ...string) string { return from[c.Intn(len(from))] }
	words := []string{"", "a", "kafka", "latest"}
	filler := randfill.New().RandSource(rand.NewSource(seed)).NilChance(.5).NumElements(1, 2).MaxDepth(30).Funcs(
		func(s *string, c randfill.Continue) { *s = pick(c, words...) },
		func(q *resource.Quantity, c randfill.Continue) {
			*q = resource.MustParse(pick(c, "0", "1", "1024Mi", "1500m", "0.0001", "2e3", "100u", "1Gi"))
		},
		func(i *intstr.IntOrString, c randfill.Continue) {
			*i = intstr.FromInt32(c.Int31n(3))
			if c.Bool() {
				*i = intstr.FromString("10%")
			}
		},
		func(i *int32, c randfill.Continue) { *i = c.Int31n(3) },
		func(i *int64, c randfill.Continue) { *i = c.Int63n(3) },
		func(m *metav1.ObjectMeta, c randfill.Continue) {
			m.Name = pick(c, words...)
			if c.Bool() {
				m.Labels = map[string]string{"a": pick(c, words...)}
			}
		},
		func(*metav1.Time, randfill.Continue) {},
		func(p *corev1.Container, c randfill.Continue) {
			c.FillNoCustom(p)
			p.Image = pick(c, "", "a", "a:latest", "a:1", "reg:5000/a", "A", "a@sha256:"+strings.Repeat("0", 64))
		},
		func(p *corev1.ImageVolumeSource, c randfill.Continue) {
			c.FillNoCustom(p)
			p.Reference = pick(c, "", "a", "a:latest", "a:1", "reg:5000/a:latest")
		},
		func(s *appsv1.StatefulSetUpdateStrategy, c randfill.Continue) {
			c.FillNoCustom(s)
			s.Type = appsv1.StatefulSetUpdateStrategyType(pick(c, "", "RollingUpdate", "OnDelete"))
		},
		func(*appsv1.StatefulSetStatus, randfill.Continue) {},
	)
	var set appsv1.StatefulSet
	filler.Fill(&set)
	set.TypeMeta = metav1.TypeMeta{Kind: "StatefulSet", APIVersion: "apps/v1"}
	set.ObjectMeta = metav1.ObjectMeta{}
	raw, err := json.Marshal(&set)
	if err != nil {
		t.Fatal(err)
	}
	u := &unstructured.Unstructured{}
	if err := u.UnmarshalJSON(raw); err != nil {
		t.Fatal(err)
	}
	thin(u.Object["spec"], rand.New(rand.NewSource(seed)))
	return u.Object
}

// thin leaves out fields: the filler does so only with some.
func thin(v any, rng *rand.Rand) {
	switch v := v.(type) {
	case map[string]any:
		for _, name := range slices.Sorted(maps.Keys(v)) {
			if rng.Intn(4) == 0 {
				delete(v, name)
			} else {
				thin(v[name], rng)
			}
		}
	case []any:
		for _, elem := range v {
			thin(elem, rng)
		}
	}
}
