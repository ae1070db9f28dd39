package expansion_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
)

const (
	threeLines = `
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: events
  annotations: {metamorph.dev/role: kafka}
spec: {replicas: 3}
`
	noSpec = `
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: events
  annotations: {metamorph.dev/role: kafka}
`
	sidecar = `
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: events
  annotations: {metamorph.dev/role: kafka}
spec:
  replicas: 3
  template:
    spec:
      containers: [{name: shipper, image: "shipper:1"}]
`
	plain = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: plain}
spec:
  serviceName: plain
  selector: {matchLabels: {app: plain}}
  template:
    metadata: {labels: {app: plain}}
    spec: {containers: [{name: a, image: "a:1"}]}
`
)

// TestEveryWayIn sends the same manifest in every way there is, and gets the same object each time.
func TestEveryWayIn(t *testing.T) {
	t.Parallel()
	ways := map[string][]string{
		"create":                      {"create"},
		"create, strict":              {"create", "--validate=strict"},
		"client-side apply":           {"apply"},
		"client-side apply, strict":   {"apply", "--validate=strict"},
		"server-side apply":           {"apply", "--server-side"},
		"server-side apply, strict":   {"apply", "--server-side", "--validate=strict"},
		"replace --force":             {"replace", "--force"},
		"create --dry-run":            {"create", "--dry-run=server"},
		"apply --dry-run":             {"apply", "--dry-run=server"},
		"server-side apply --dry-run": {"apply", "--server-side", "--dry-run=server"},
	}
	for _, manifest := range []struct{ name, text string }{{"three-lines", threeLines}, {"no-spec", noSpec}, {"sidecar", sidecar}} {
		for way, command := range ways {
			t.Run(manifest.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				ns := namespace(t, nil, nil)
				out := kubectl(t, ns, manifest.text, append(command, "-f", "-", "-o", "json")...)
				got := decode(t, out)
				if slices.Contains(command, "--dry-run=server") {
					// kubectl merges the answer of a dry run with nothing; it is the object itself.
					compare(t, offline(t, manifest.text, ns), got)
					return
				}
				stored := decode(t, kubectl(t, ns, "", "get", "sts", "events", "-o", "json"))
				compare(t, offline(t, manifest.text, ns), stored)
				if g := generation(stored); g != 1 {
					t.Errorf("generation %d", g)
				}
			})
		}
	}
}

// TestAgain applies the unchanged file again, in every way, and the generation stays.
func TestAgain(t *testing.T) {
	t.Parallel()
	ways := map[string][2][]string{
		"client-side apply":                 {{"apply"}, {"apply"}},
		"server-side apply":                 {{"apply", "--server-side"}, {"apply", "--server-side"}},
		"create, then replace":              {{"create"}, {"replace"}},
		"create, then replace again":        {{"create"}, {"replace", "--save-config"}},
		"client-side, then server-side":     {{"apply"}, {"apply", "--server-side", "--force-conflicts"}},
		"server-side, then another manager": {{"apply", "--server-side"}, {"apply", "--server-side", "--field-manager=argo"}},
	}
	for _, manifest := range []struct{ name, text string }{{"three-lines", threeLines}, {"sidecar", sidecar}} {
		for way, commands := range ways {
			t.Run(manifest.name+"/"+way, func(t *testing.T) {
				t.Parallel()
				ns := namespace(t, nil, nil)
				kubectl(t, ns, manifest.text, append(commands[0], "-f", "-")...)
				before := decode(t, kubectl(t, ns, "", "get", "sts", "events", "-o", "json"))
				for range 2 {
					untilNoConflict(t, ns, manifest.text, append(commands[1], "-f", "-")...)
				}
				after := decode(t, kubectl(t, ns, "", "get", "sts", "events", "-o", "json"))
				if g := generation(after); g != 1 {
					t.Errorf("generation %d:\n%s", g, cmp.Diff(before["spec"], after["spec"]))
				}
				compare(t, before, after)
			})
		}
	}
}

// untilNoConflict repeats a command as long as it meets a write of the StatefulSet controller: kubectl replace sends the
// resource version that it read before.
func untilNoConflict(t *testing.T, ns, stdin string, args ...string) {
	t.Helper()
	const attempts = 20
	for range attempts {
		_, stderr, err := api(t).Kubectl(t.Context(), stdin, append([]string{"--namespace", ns}, args...)...)
		if err == nil {
			return
		}
		if !strings.Contains(stderr, "the object has been modified") {
			t.Fatal(err)
		}
	}
	t.Fatalf("%d conflicts in a row", attempts)
}

// TestEdits changes a stored set with the commands that people use.
func TestEdits(t *testing.T) {
	t.Parallel()
	tests := map[string]struct {
		command []string
		path    leaf.Path
		want    any
		rolls   bool
	}{
		"label": {
			[]string{"label", "sts", "events", "team=a"}, leaf.Join("metadata", "labels", "team"), "a", false,
		},
		"a setting": {
			[]string{"annotate", "sts", "events", "metamorph.dev/partitions=7"},
			leaf.Join("spec", "template", "metadata", "annotations", "metamorph.dev/server.properties", "#num.partitions"), "7", true,
		},
		"scale": {
			[]string{"scale", "sts", "events", "--replicas=5"}, leaf.Join("spec", "replicas"), int64(5), false,
		},
		"an image": {
			[]string{"set", "image", "sts/events", "kafka=mine:1"},
			leaf.Join("spec", "template", "spec", "containers", "#kafka", "image"), "mine:1", true,
		},
		"a variable": {
			[]string{"set", "env", "sts/events", "-c", "kafka", "TZ=UTC"},
			leaf.Join("spec", "template", "spec", "containers", "#kafka", "env", "#TZ"),
			map[string]any{"name": "TZ", "value": "UTC"},
			true,
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, nil, nil)
			kubectl(t, ns, threeLines, "apply", "-f", "-")
			before := decode(t, kubectl(t, ns, "", "get", "sts", "events", "-o", "json"))
			kubectl(t, ns, "", test.command...)
			after := decode(t, kubectl(t, ns, "", "get", "sts", "events", "-o", "json"))
			got, _ := leaf.Of(after, nil).Get(test.path)
			if !leaf.Equal(got, test.want) {
				t.Errorf("%s is %v, want %v", test.path, got, test.want)
			}
			if rolls := !cmp.Equal(template(before), template(after)); rolls != test.rolls {
				t.Errorf("the template changed: %t, want %t:\n%s", rolls, test.rolls, cmp.Diff(template(before), template(after)))
			}
		})
	}
}

// TestGolden sends every example, and every case of the golden files, and gets what the expansion gives offline.
func TestGolden(t *testing.T) {
	t.Parallel()
	files, _ := filepath.Glob("../../pkg/mutate/testdata/golden/*.in.yaml")
	examples, _ := filepath.Glob("../../examples/*.yaml")
	if len(files) < 3 || len(examples) < 3 {
		t.Fatal(files, examples)
	}
	for _, file := range append(files, examples...) {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".yaml"), func(t *testing.T) {
			t.Parallel()
			raw, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			ns := namespace(t, nil, nil)
			for doc := range bytes.SplitSeq(raw, []byte("\n---\n")) {
				obj := fromYAML(t, string(doc))
				md, _ := obj["metadata"].(map[string]any)
				if obj["kind"] != "StatefulSet" || md["namespace"] != nil {
					continue // the layers have a test of their own
				}
				got := decode(t, kubectl(t, ns, string(doc), "create", "--dry-run=server", "-f", "-", "-o", "json"))
				compare(t, offline(t, string(doc), ns), got)
			}
		})
	}
}

// TestLayers takes defaults from the Namespace and from a profile that was applied a moment before.
func TestLayers(t *testing.T) {
	t.Parallel()
	kubectl(t, own, `
apiVersion: v1
kind: ConfigMap
metadata: {name: profile-small, labels: {metamorph.dev/profile: small}}
data: {memory: 1Gi, partitions: "4"}
`, "apply", "-f", "-")
	ns := namespace(t, nil, map[string]string{"metamorph.dev/profile": "small", "metamorph.dev/partitions": "9", "metamorph.dev/nonsense": "x"})
	_, stderr := kubectlBoth(t, ns, threeLines, "apply", "-f", "-")
	if !strings.Contains(stderr, "nonsense is not a setting") {
		t.Errorf("no warning of the Namespace's unknown annotation: %s", stderr)
	}
	s := settingsOf(t, decode(t, kubectl(t, ns, "", "get", "sts", "events", "-o", "json")))
	for key, want := range map[string][2]string{"memory": {"1Gi", "profile small"}, "partitions": {"9", "namespace " + ns}, "heap": {"409Mi", "rule"}} {
		if got := [2]string{s[key].Value, s[key].From}; got != want {
			t.Errorf("%s: %v, want %v", key, got, want)
		}
	}
}

// TestRefused prints what kubectl prints for any invalid object: the object, and a line a problem. Nothing is stored.
func TestRefused(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil, nil)
	const manifest = `
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: events
  annotations: {metamorph.dev/role: kafka, metamorph.dev/heap: 10Gb, metamorph.dev/retntion: 7d}
spec: {replicas: 3}
`
	for _, command := range [][]string{{"create"}, {"apply"}, {"apply", "--server-side"}} {
		_, stderr, err := api(t).Kubectl(t.Context(), manifest, append(command, "-n", ns, "-f", "-")...)
		if err == nil {
			t.Fatal("not refused")
		}
		for _, want := range []string{
			`The StatefulSet "events" is invalid:`, `* metadata.annotations[metamorph.dev/heap]: "10Gb"`, "did you mean 10Gi",
			"* metadata.annotations[metamorph.dev/retntion]: ", "did you mean retention",
		} {
			if !strings.Contains(stderr, want) {
				t.Errorf("%v: %q is not in\n%s", command, want, stderr)
			}
		}
	}
	if out := kubectl(t, ns, "", "get", "sts", "-o", "name"); out != "" {
		t.Errorf("stored: %s", out)
	}
}

// TestRoleAddedAndRemoved holds the two changes that move an object in or out of management.
func TestRoleAddedAndRemoved(t *testing.T) {
	t.Parallel()
	ns := namespace(t, nil, nil)
	kubectl(t, ns, plain, "apply", "-f", "-")
	kubectl(t, ns, threeLines, "apply", "-f", "-")
	for _, test := range []struct{ command, want string }{
		{"annotate sts plain metamorph.dev/role=kafka", "Metamorph does not manage"},
		{"annotate sts events metamorph.dev/role-", "was removed"},
		{"annotate sts events metamorph.dev/sasl=plain", "cannot change"},
		{"label sts plain metamorph.dev/role=kafka", "an annotation, not a label"},
	} {
		_, stderr, err := api(t).Kubectl(t.Context(), "", append(strings.Fields(test.command), "-n", ns)...)
		if err == nil || !strings.Contains(stderr, test.want) {
			t.Errorf("%s: %v, want %q in %s", test.command, err, test.want, stderr)
		}
	}
	kubectl(t, ns, "", "annotate", "sts", "events", "metamorph.dev/managed=false")
	kubectl(t, ns, "", "scale", "sts", "events", "--replicas=0")
	kubectl(t, ns, "", "delete", "sts", "events")
}

// TestPods lets the StatefulSet controller make pods from the result, in a namespace that enforces the Pod Security
// Standard restricted.
func TestPods(t *testing.T) {
	t.Parallel()
	for _, role := range []string{"kafka", "zookeeper"} {
		t.Run(role, func(t *testing.T) {
			t.Parallel()
			ns := namespace(t, map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}, nil)
			kubectl(t, ns, strings.Replace(threeLines, "role: kafka", "role: "+role+", metamorph.dev/metrics: 'true'", 1), "apply", "-f", "-")
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var pods []string
			err := wait.PollUntilContextCancel(ctx, 100*time.Millisecond, true, func(ctx context.Context) (bool, error) {
				list, err := client(t).CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
				if err != nil {
					return false, err
				}
				pods = nil
				for _, p := range list.Items {
					pods = append(pods, p.Name)
				}
				return len(pods) == 3, nil
			})
			if err != nil {
				t.Fatalf("%v: %v\n%s", err, pods, kubectl(t, ns, "", "get", "events"))
			}
			claims := kubectl(t, ns, "", "get", "pvc", "-o", "name")
			if strings.Count(claims, "data-events-") != 3 {
				t.Errorf("claims: %s", claims)
			}
		})
	}
}

func decode(t *testing.T, text string) map[string]any {
	t.Helper()
	m, err := leaf.Decode([]byte(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return m
}

func generation(obj map[string]any) int64 {
	md, _ := obj["metadata"].(map[string]any)
	g, _ := md["generation"].(int64)
	return g
}

func template(obj map[string]any) any {
	spec, _ := obj["spec"].(map[string]any)
	return spec["template"]
}

// offline expands a manifest with what the cluster knows.
func offline(t *testing.T, manifest, ns string) map[string]any {
	t.Helper()
	raw, err := json.Marshal(fromYAML(t, manifest))
	if err != nil {
		t.Fatal(err)
	}
	out, err := mutate.Expand(mutate.Input{Object: raw, Namespace: mutate.Namespace{Name: ns}, ClusterUID: clusterUID(t), Version: version})
	if err != nil {
		t.Fatal(err)
	}
	return out.Object
}

// compare holds two objects against each other, API defaults pruned.
func compare(t *testing.T, want, got map[string]any) {
	t.Helper()
	norm := func(obj map[string]any) map[string]any {
		md, _ := obj["metadata"].(map[string]any)
		annotations := map[string]any{}
		all, _ := md["annotations"].(map[string]any)
		for k, v := range all {
			if strings.HasPrefix(k, "metamorph.dev/") {
				annotations[k] = v
			}
		}
		n := map[string]any{"metadata": map[string]any{"labels": md["labels"], "annotations": annotations}, "spec": leaf.Copy(obj["spec"])}
		apidefaults.Apply(n)
		apidefaults.Prune(n)
		return n
	}
	if diff := cmp.Diff(norm(want), norm(got)); diff != "" {
		t.Errorf("object (-want +got):\n%s", diff)
	}
}

type setting struct {
	Value string `json:"value"`
	From  string `json:"from"`
}

func settingsOf(t *testing.T, obj map[string]any) map[string]setting {
	t.Helper()
	md, _ := obj["metadata"].(map[string]any)
	a, _ := md["annotations"].(map[string]any)
	text, _ := a["metamorph.dev/settings"].(string)
	var s map[string]setting
	if err := json.Unmarshal([]byte(text), &s); err != nil {
		t.Fatal(err)
	}
	return s
}
