package mutate_test

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
)

// stored expands a manifest, as the API server would store it.
func stored(t *testing.T, manifest string) map[string]any {
	t.Helper()
	out, err := mutate.Expand(inputOf(t, manifest))
	if err != nil {
		t.Fatal(err)
	}
	return out.Object
}

func copyOf(obj map[string]any) map[string]any { m, _ := leaf.Copy(obj).(map[string]any); return m }

func at(path ...string) leaf.Path { return leaf.Join(path...) }

func annotationPath(key string) leaf.Path {
	return at("metadata", "annotations", "metamorph.dev/"+key)
}

var (
	pod        = []string{"spec", "template", "spec"}
	broker     = at(append(pod, "containers", "#kafka")...)
	properties = at("spec", "template", "metadata", "annotations", "metamorph.dev/server.properties")
)

// sent is an update: what was changed in the stored object, or another manifest altogether.
func sent(t *testing.T, live map[string]any, change func(map[string]any)) mutate.Input {
	t.Helper()
	obj := copyOf(live)
	change(obj)
	in := expanderInput(marshal(t, obj))
	in.OldObject = marshal(t, live)
	return in
}

// TestUpdate changes a stored three-node set in one way each, and names every leaf that is different afterwards. The
// annotations that Metamorph writes for itself are left out.
func TestUpdate(t *testing.T) {
	t.Parallel()
	const base = "partitions: \"6\"\nheap: 1Gi"
	replace := func(manifest string) func(t *testing.T, obj map[string]any) {
		return func(t *testing.T, obj map[string]any) {
			t.Helper()
			m, err := leaf.Decode(inputOf(t, manifest).Object)
			if err != nil {
				t.Fatal(err)
			}
			clear(obj)
			for k, v := range m {
				obj[k] = v
			}
		}
	}
	put := func(p leaf.Path, v any) func(*testing.T, map[string]any) {
		return func(_ *testing.T, obj map[string]any) { leaf.Put(obj, p, v) }
	}
	remove := func(p leaf.Path) func(*testing.T, map[string]any) {
		return func(_ *testing.T, obj map[string]any) { leaf.Remove(obj, p) }
	}
	tests := map[string]struct {
		change func(*testing.T, map[string]any)
		// want are the leaves that differ from the stored object, with their new value; "" is gone.
		want map[string]string
	}{
		"nothing":                           {func(*testing.T, map[string]any) {}, nil},
		"a label":                           {put(at("metadata", "labels", "team"), "a"), map[string]string{"metadata.labels.team": `"a"`}},
		"the first manifest again":          {replace(kafka(base, "{replicas: 3}")), nil},
		"the first manifest without number": {replace(kafka(base, "{}")), nil},
		"more nodes":                        {put(at("spec", "replicas"), int64(5)), map[string]string{"spec.replicas": "5"}},
		"another heap": {put(annotationPath("heap"), "2Gi"), map[string]string{
			"metadata.annotations[metamorph.dev/heap]":                                    `"2Gi"`,
			"spec.template.spec.containers[kafka].env[MM_HEAP_OPTS]":                      `{"name":"MM_HEAP_OPTS","value":"-Xms2048m -Xmx2048m"}`,
			"spec.template.spec.initContainers[metamorph-init].env[MM_HEAP_OPTS]":         `{"name":"MM_HEAP_OPTS","value":"-Xms2048m -Xmx2048m"}`,
			"spec.template.spec.containers[kafka].resources.limits.memory":                `"4Gi"`,
			"spec.template.spec.containers[kafka].resources.requests.memory":              `"4Gi"`,
			"spec.template.spec.initContainers[metamorph-init].resources.limits.memory":   `"4Gi"`,
			"spec.template.spec.initContainers[metamorph-init].resources.requests.memory": `"4Gi"`,
		}},
		"an annotation removed": {remove(annotationPath("partitions")), map[string]string{
			"metadata.annotations[metamorph.dev/partitions]":                                      "",
			"spec.template.metadata.annotations[metamorph.dev/server.properties][num.partitions]": `"1"`,
		}},
		"a line of config": {put(annotationPath("config"), "message.max.bytes=7\n"), map[string]string{
			"metadata.annotations[metamorph.dev/config]":                                             `"message.max.bytes=7\n"`,
			"spec.template.metadata.annotations[metamorph.dev/server.properties][message.max.bytes]": `"7"`,
		}},
		"an override": {put(broker.Child("terminationMessagePath"), "/tmp/why"), map[string]string{
			"spec.template.spec.containers[kafka].terminationMessagePath": `"/tmp/why"`,
		}},
		"an image by hand": {put(broker.Child("image"), "mine:1"), map[string]string{
			"spec.template.spec.containers[kafka].image":              `"mine:1"`,
			"spec.template.spec.initContainers[metamorph-init].image": `"mine:1"`,
		}},
		"a rendered field removed comes back": {remove(at(append(pod, "terminationGracePeriodSeconds")...)), nil},
		"a replaced manifest with a sidecar": {
			replace(kafka(base, "{replicas: 3, template: {spec: {containers: [{name: side, image: s:1}]}}}")),
			map[string]string{
				"spec.template.spec.containers[side].name":  `"side"`,
				"spec.template.spec.containers[side].image": `"s:1"`,
			},
		},
		"growing storage leaves the claim template": {put(annotationPath("storage"), "20Gi"), map[string]string{
			"metadata.annotations[metamorph.dev/storage]":                                            `"20Gi"`,
			"spec.template.metadata.annotations[metamorph.dev/server.properties][log.segment.bytes]": `"213909504"`,
		}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live := stored(t, kafka(base, "{replicas: 3}"))
			in := sent(t, live, func(obj map[string]any) { test.change(t, obj) })
			out, err := mutate.Expand(in)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, difference(t, live, out.Object), cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("changed leaves (-want +got):\n%s", diff)
			}
			checkExpansion(t, in.Object, out)
		})
	}
}

// difference lists the leaves that differ, the recorded source, settings and version aside.
func difference(t *testing.T, a, b map[string]any) map[string]string {
	t.Helper()
	out := map[string]string{}
	// The API server fills its defaults in before it compares.
	leavesOf := func(obj map[string]any) *leaf.Set {
		c := copyOf(obj)
		apidefaults.Apply(c)
		apidefaults.Prune(c)
		return leaf.Of(c, nil)
	}
	x, y := leavesOf(a), leavesOf(b)
	skip := func(p leaf.Path) bool {
		for _, own := range []string{"source", "settings", "rendered-by"} {
			if strings.HasSuffix(string(p), "metamorph.dev/"+own) {
				return true
			}
		}
		return false
	}
	for _, p := range y.Paths() {
		v, _ := y.Get(p)
		if w, ok := x.Get(p); !skip(p) && (!ok || !leaf.Equal(v, w)) {
			raw, err := json.Marshal(v)
			if err != nil {
				t.Fatal(err)
			}
			out[p.String()] = string(raw)
		}
	}
	for _, p := range x.Paths() {
		if !y.Has(p) {
			out[p.String()] = ""
		}
	}
	return out
}

// TestUpdateRefused holds changes that cannot be made.
func TestUpdateRefused(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		path  leaf.Path
		value any
		want  []string
	}{
		"sasl":                           {annotationPath("sasl"), "plain", []string{"[metamorph.dev/sasl]", `was "scram-sha-512"`, "MM201"}},
		"TLS":                            {annotationPath("tls-secret"), "certs", []string{"[metamorph.dev/tls-secret]", "MM201"}},
		"the role":                       {annotationPath("role"), "zookeeper", []string{"[metamorph.dev/role]", "MM201"}},
		"ZooKeeper":                      {annotationPath("zookeeper"), "a:1", []string{"[metamorph.dev/zookeeper]", "MM201"}},
		"the class":                      {annotationPath("storage-class"), "other", []string{"[metamorph.dev/storage-class]", "MM201"}},
		"smaller volumes":                {annotationPath("storage"), "1Gi", []string{"[metamorph.dev/storage]", "cannot shrink", "MM201"}},
		"role removed":                   {annotationPath("role"), nil, []string{"[metamorph.dev/role]", "was removed", "managed", "MM203"}},
		"a file edited by hand":          {properties.Child("#num.partitions"), "9", []string{"server.properties", "metamorph.dev/config", "MM204"}},
		"heap above the recorded memory": {annotationPath("memory"), "1Gi", []string{"[metamorph.dev/heap]", "does not fit", `memory is "1Gi"`, "MM105"}},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			live := stored(t, kafka("heap: 1Gi", "{replicas: 3}"))
			_, err := mutate.Expand(sent(t, live, func(obj map[string]any) {
				if test.value == nil {
					leaf.Remove(obj, test.path)
				} else {
					leaf.Put(obj, test.path, test.value)
				}
			}))
			var invalid *mutate.Invalid
			if !errors.As(err, &invalid) {
				t.Fatalf("not refused: %v", err)
			}
			for _, w := range test.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in\n%v", w, err)
				}
			}
		})
	}
}

// TestUpgrade leaves an object alone that an older Metamorph with other defaults rendered.
func TestUpgrade(t *testing.T) {
	t.Parallel()
	live := stored(t, kafka("", "{replicas: 3}"))
	// An older version rendered another grace period, and knew nothing of the rack.
	leaf.Put(live, at(append(pod, "terminationGracePeriodSeconds")...), int64(120))
	leaf.Remove(live, broker.Child("env").Child("#MM_RACK"))
	out, err := mutate.Expand(sent(t, live, func(obj map[string]any) { leaf.Put(obj, annotationPath("partitions"), "3") }))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"metadata.annotations[metamorph.dev/partitions]":                                      `"3"`,
		"spec.template.metadata.annotations[metamorph.dev/server.properties][num.partitions]": `"3"`,
	}
	if diff := cmp.Diff(want, difference(t, live, out.Object)); diff != "" {
		t.Errorf("changed leaves (-want +got):\n%s", diff)
	}
}

// TestLetGo strips what is ours, but the id that the volumes carry.
func TestLetGo(t *testing.T) {
	t.Parallel()
	live := stored(t, kafka("", "{replicas: 3}"))
	out, err := mutate.Expand(sent(t, live, func(obj map[string]any) { leaf.Put(obj, annotationPath("managed"), "false") }))
	if err != nil {
		t.Fatal(err)
	}
	for p := range difference(t, live, out.Object) {
		if !strings.HasPrefix(p, "metadata.") {
			t.Errorf("%s changed", p)
		}
	}
	md, _ := out.Object["metadata"].(map[string]any)
	a, _ := md["annotations"].(map[string]any)
	if len(a) != 1 || a["metamorph.dev/cluster-id"] == nil || md["labels"] != nil {
		t.Errorf("left: %v %v", a, md["labels"])
	}
	// From now on nobody looks at it.
	again, err := mutate.Expand(sent(t, out.Object, func(obj map[string]any) { leaf.Put(obj, at("spec", "replicas"), int64(1)) }))
	if err != nil || again.Role != "" || len(again.Operations) > 0 {
		t.Errorf("%v %+v", err, again)
	}
}

// TestDeleting leaves an object alone that is being deleted, whatever it looks like.
func TestDeleting(t *testing.T) {
	t.Parallel()
	in := inputOf(t, "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: events, deletionTimestamp: x, annotations: {metamorph.dev/heap: nonsense}}")
	out, err := mutate.Expand(in)
	if err != nil || len(out.Operations) > 0 {
		t.Error(out, err)
	}
}

// TestImmutableFields holds that a change of what a StatefulSet keeps for ever is refused with what to do instead, and that what
// does not change, or is left out, is no change.
func TestImmutableFields(t *testing.T) {
	t.Parallel()
	live := stored(t, "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: events, annotations: {metamorph.dev/role: kafka}}\nspec: {replicas: 3}\n")
	for name, test := range map[string]struct {
		change func(map[string]any)
		want   string
	}{
		"a larger claim": {func(obj map[string]any) {
			leaf.Put(obj, at("spec", "volumeClaimTemplates", "#data", "spec", "resources", "requests", "storage"), "99Gi")
		}, "spec.volumeClaimTemplates: is not what it was when the StatefulSet was created, and cannot change; allowed: metamorph.dev/storage"},
		"another selector": {func(obj map[string]any) { leaf.Put(obj, at("spec", "selector", "matchLabels", "app"), "x") }, "spec.selector: is not what it was"},
		"nothing":          {func(map[string]any) {}, ""},
		"left out":         {func(obj map[string]any) { delete(obj["spec"].(map[string]any), "volumeClaimTemplates") }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := mutate.Expand(sent(t, live, test.change))
			switch {
			case test.want == "" && err != nil:
				t.Error(err)
			case test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}
