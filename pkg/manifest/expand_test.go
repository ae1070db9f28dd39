package manifest_test

import (
	"bytes"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/manifest"
)

const set = `apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: events
  annotations: {metamorph.dev/role: kafka}
spec: {replicas: 3}
`

func expand(t *testing.T, in string, o manifest.Options) ([]manifest.Document, []manifest.Outcome) {
	t.Helper()
	docs, err := manifest.Parse("f.yaml", []byte(in))
	if err != nil {
		t.Fatal(err)
	}
	out, outcomes, err := manifest.Expand(docs, o)
	if err != nil {
		t.Fatal(err)
	}
	return out, outcomes
}

func yamlText(t *testing.T, docs []manifest.Document) string {
	t.Helper()
	var out bytes.Buffer
	if err := manifest.WriteYAML(&out, docs); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

func TestExpandIsIdempotent(t *testing.T) {
	t.Parallel()
	docs, outcomes := expand(t, set, manifest.Options{})
	if len(outcomes) != 1 || outcomes[0].Output == nil || len(outcomes[0].Output.Operations) == 0 {
		t.Fatalf("not expanded: %+v", outcomes)
	}
	once := yamlText(t, docs)
	docs, _ = expand(t, once, manifest.Options{})
	if twice := yamlText(t, docs); twice != once {
		t.Error("the expansion of an expansion is another one")
	}
}

func TestExpandLeavesTheRestAlone(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"another kind":                "# c\napiVersion: v1\nkind: Service\nmetadata: {name: x}   # y\n",
		"an unannotated set":          "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x}\n",
		"another project's set":       "apiVersion: apps.kruise.io/v1beta1\nkind: StatefulSet\nmetadata: {name: x, annotations: {metamorph.dev/role: kafka}}\n",
		"a list of others":            "apiVersion: v1\nkind: List\nitems: # some\n- {apiVersion: v1, kind: Service}\n",
		"comments only":               "# nothing\n",
		"a namespace with bad fields": "apiVersion: example.com/v1\nkind: Namespace\nmetadata: {name: 1}\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			docs, outcomes := expand(t, in, manifest.Options{})
			if got := yamlText(t, docs); got != in || len(outcomes) > 0 {
				t.Errorf("got %v,\n%s", outcomes, got)
			}
		})
	}
}

// heapOf finds the heap that was rendered.
func heapOf(t *testing.T, o manifest.Outcome) string {
	t.Helper()
	if o.Output == nil {
		t.Fatalf("refused: %v", o.Refused)
	}
	return o.Output.Settings["heap"].Text
}

func TestExpandTakesDefaultsFromItsInput(t *testing.T) {
	t.Parallel()
	const namespace = "apiVersion: v1\nkind: Namespace\nmetadata: {name: NAME, annotations: {metamorph.dev/heap: 3Gi}}\n"
	const profile = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: any, namespace: any, labels: {metamorph.dev/profile: big}}\ndata: {heap: 7Gi}\n"
	tests := map[string]struct {
		in, namespace, want string
	}{
		"nothing":                     {in: set, want: "1Gi"},
		"the namespace, afterwards":   {in: set + "---\n" + strings.Replace(namespace, "NAME", "default", 1), want: "3Gi"},
		"another namespace":           {in: set + "---\n" + strings.Replace(namespace, "NAME", "other", 1), want: "1Gi"},
		"the namespace of the option": {in: set + "---\n" + strings.Replace(namespace, "NAME", "other", 1), namespace: "other", want: "3Gi"},
		"a profile":                   {in: strings.Replace(set, "role: kafka", "role: kafka, metamorph.dev/profile: big", 1) + "---\n" + profile, want: "7Gi"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, outcomes := expand(t, test.in, manifest.Options{Namespace: test.namespace})
			if got := heapOf(t, outcomes[0]); got != test.want {
				t.Errorf("heap %s, want %s", got, test.want)
			}
		})
	}
}

func TestExpandInsideLists(t *testing.T) {
	t.Parallel()
	item := func(text string) string {
		return "- " + strings.ReplaceAll(strings.TrimSpace(text), "\n", "\n  ") + "\n"
	}
	in := "apiVersion: v1\nkind: List\nitems:\n" + item(object("A")) + item(set) + item(strings.Replace(set, "role: kafka", "role: kafak", 1))
	docs, outcomes := expand(t, in, manifest.Options{})
	if len(outcomes) != 2 || outcomes[0].Output == nil || outcomes[1].Refused == nil {
		t.Fatalf("got %+v", outcomes)
	}
	if want := "f.yaml:1: document 1, items[2]"; outcomes[1].Where != want {
		t.Errorf("refused at %q, want %q", outcomes[1].Where, want)
	}
	var list struct {
		Kind  string
		Items []struct {
			Kind string
			Spec map[string]any
		}
	}
	if err := yaml.Unmarshal([]byte(yamlText(t, docs)), &list); err != nil {
		t.Fatal(err)
	}
	if list.Kind != "List" || len(list.Items) != 3 || list.Items[0].Kind != "A" || list.Items[1].Spec["selector"] == nil || list.Items[2].Spec["selector"] != nil {
		t.Errorf("got %+v", list)
	}
}

func TestExpandRefuses(t *testing.T) {
	t.Parallel()
	for name, in := range map[string]string{
		"a name that is a number":    strings.Replace(set, "name: events", "name: 1", 1),
		"metadata that is not right": "apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: x, namespace: 7, annotations: {metamorph.dev/role: kafka}}\n",
		"an old version":             strings.Replace(set, "apps/v1", "apps/v1beta2", 1),
		"a forgotten group":          strings.Replace(set, "apps/v1", "v1", 1),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, outcomes := expand(t, in, manifest.Options{})
			if len(outcomes) != 1 || outcomes[0].Refused == nil {
				t.Errorf("not refused: %+v", outcomes)
			}
		})
	}
}

func TestExpandCannotReadDefaults(t *testing.T) {
	t.Parallel()
	docs, err := manifest.Parse("f.yaml", []byte("apiVersion: v1\nkind: Namespace\nmetadata: {name: x, annotations: {a: 1}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = manifest.Expand(docs, manifest.Options{}); err == nil || !strings.HasPrefix(err.Error(), "f.yaml:1: document 1: not a Namespace: ") {
		t.Errorf("got %v", err)
	}
}
