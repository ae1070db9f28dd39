package leaf_test

import (
	"encoding/json"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
)

func decode(tb testing.TB, text string) map[string]any {
	tb.Helper()
	raw, err := yaml.YAMLToJSON([]byte(text))
	if err != nil {
		tb.Fatal(err)
	}
	m, err := leaf.Decode(raw)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func listing(s *leaf.Set) map[string]string {
	out := map[string]string{}
	for _, p := range s.Paths() {
		v, _ := s.Get(p)
		raw, _ := json.Marshal(v)
		out[p.String()] = string(raw)
	}
	return out
}

func TestOf(t *testing.T) {
	t.Parallel()
	got := listing(leaf.Of(decode(t, `
metadata:
  name: not a leaf
  labels: {a: b, empty: ""}
  annotations: {metamorph.dev/heap: "", other: x}
spec:
  replicas: 3
  selector: null
  template:
    metadata:
      annotations: {metamorph.dev/server.properties: "a=1\nb=x=y\n"}
    spec:
      containers:
      - name: kafka
        env: [{name: A, value: "1"}, {name: B, valueFrom: {fieldRef: {fieldPath: x}}}]
        ports: [{containerPort: 1}, {containerPort: 1, protocol: UDP}]
        livenessProbe: {tcpSocket: {port: 1}, periodSeconds: 5}
        securityContext: {capabilities: {drop: [ALL]}, runAsUser: 0}
        command: [a, b]
      - name: twice
        env: [{name: A}, {name: A}]
      affinity: {nodeAffinity: {x: z}}
  volumeClaimTemplates: [{metadata: {name: data}, spec: {storageClassName: fast}}]
`), nil))
	want := map[string]string{
		"metadata.labels[a]":                                                     `"b"`,
		"metadata.annotations[metamorph.dev/heap]":                               `""`,
		"metadata.annotations[other]":                                            `"x"`,
		"spec.replicas":                                                          "3",
		"spec.template.spec.containers[kafka].name":                              `"kafka"`,
		"spec.template.spec.containers[kafka].env[A]":                            `{"name":"A","value":"1"}`,
		"spec.template.spec.containers[kafka].env[B]":                            `{"name":"B","valueFrom":{"fieldRef":{"fieldPath":"x"}}}`,
		"spec.template.spec.containers[kafka].ports[1|TCP]":                      `{"containerPort":1}`,
		"spec.template.spec.containers[kafka].ports[1|UDP]":                      `{"containerPort":1,"protocol":"UDP"}`,
		"spec.template.spec.containers[kafka].livenessProbe":                     `{"tcpSocket":{"port":1}}`,
		"spec.template.spec.containers[kafka].livenessProbe.periodSeconds":       "5",
		"spec.template.spec.containers[kafka].securityContext.capabilities":      `{"drop":["ALL"]}`,
		"spec.template.spec.containers[kafka].securityContext.runAsUser":         "0",
		"spec.template.spec.containers[kafka].command":                           `["a","b"]`,
		"spec.template.spec.containers[twice].name":                              `"twice"`,
		"spec.template.spec.containers[twice].env":                               `[{"name":"A"},{"name":"A"}]`,
		"spec.template.spec.affinity.nodeAffinity":                               `{"x":"z"}`,
		"spec.template.metadata.annotations[metamorph.dev/server.properties][a]": `"1"`,
		"spec.template.metadata.annotations[metamorph.dev/server.properties][b]": `"x=y"`,
		"spec.volumeClaimTemplates[data].metadata.name":                          `"data"`,
		"spec.volumeClaimTemplates[data].spec.storageClassName":                  `"fast"`,
	}
	delete(want, "metadata.labels[a]")
	want["metadata.labels.a"] = `"b"`
	delete(want, "metadata.annotations[other]")
	want["metadata.annotations.other"] = `"x"`
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("leaves (-want +got):\n%s", diff)
	}
}

func TestPutAndRemove(t *testing.T) {
	t.Parallel()
	env := leaf.Join("spec", "containers", "#kafka", "env", "#A")
	probe := leaf.Join("spec", "containers", "#kafka", "livenessProbe", leaf.Handler)
	file := leaf.Join("spec", "annotations", "metamorph.dev/zoo.cfg", "#tickTime")
	tests := map[string]struct {
		object string
		path   leaf.Path
		value  any // nil removes
		want   string
	}{
		"into nothing":                       {`{}`, env, map[string]any{"name": "A"}, `{spec: {containers: [{name: kafka, env: [{name: A}]}]}}`},
		"beside another entry":               {`{spec: {containers: [{name: x}]}}`, env, map[string]any{"name": "A"}, `{spec: {containers: [{name: x}, {name: kafka, env: [{name: A}]}]}}`},
		"in place of an entry":               {`{spec: {containers: [{name: kafka, env: [{name: A, value: "1"}]}]}}`, env, map[string]any{"name": "A", "value": "2"}, `{spec: {containers: [{name: kafka, env: [{name: A, value: "2"}]}]}}`},
		"a handler displaces another":        {`{spec: {containers: [{name: kafka, livenessProbe: {exec: {}, periodSeconds: 1}}]}}`, probe, map[string]any{"grpc": map[string]any{}}, `{spec: {containers: [{name: kafka, livenessProbe: {grpc: {}, periodSeconds: 1}}]}}`},
		"remove an entry and what it leaves": {`{spec: {containers: [{name: kafka, env: [{name: A}]}], x: 1}}`, env, nil, `{spec: {x: 1}}`},
		"remove what is not there":           {`{spec: {containers: [{name: x}]}}`, env, nil, `{spec: {containers: [{name: x}]}}`},
		"a line into a file":                 {`{spec: {annotations: {metamorph.dev/zoo.cfg: "a=1\n"}}}`, file, "2", `{spec: {annotations: {metamorph.dev/zoo.cfg: "a=1\ntickTime=2\n"}}}`},
		"a line out of a file":               {`{spec: {annotations: {metamorph.dev/zoo.cfg: "tickTime=2\na=1\n"}}}`, file, nil, `{spec: {annotations: {metamorph.dev/zoo.cfg: "a=1\n"}}}`},
		"a line in a file":                   {`{spec: {annotations: {metamorph.dev/zoo.cfg: "tickTime=2\na=1\n"}}}`, file, "3", `{spec: {annotations: {metamorph.dev/zoo.cfg: "tickTime=3\na=1\n"}}}`},
		"null on the way":                    {`{spec: null}`, env, map[string]any{"name": "A"}, `{spec: {containers: [{name: kafka, env: [{name: A}]}]}}`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			obj := decode(t, test.object)
			if test.value == nil {
				leaf.Remove(obj, test.path)
			} else {
				leaf.Put(obj, test.path, test.value)
			}
			if diff := cmp.Diff(decode(t, test.want), obj); diff != "" {
				t.Errorf("object (-want +got):\n%s", diff)
			}
		})
	}
}

func TestReorder(t *testing.T) {
	t.Parallel()
	node := decode(t, `{containers: [{name: new}, {name: b, env: [{name: Y}, {name: X}]}, {name: a}]}`)
	leaf.Reorder(node, decode(t, `{containers: [{name: a}, {name: b, env: [{name: X}, {name: Z}, {name: Y}]}]}`), "")
	want := decode(t, `{containers: [{name: a}, {name: b, env: [{name: X}, {name: Y}]}, {name: new}]}`)
	if diff := cmp.Diff(want, node); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"a":9007199254740993}`:               `{"a":9007199254740993}`,
		`{"a":123456789012345678901234567890}`: `{"a":123456789012345678901234567890}`,
		`{"a":1.5,"b":[1,-0.25]}`:              `{"a":1.5,"b":[1,-0.25]}`,
		`{"a":0.1000000000000000055511151}`:    `{"a":0.1000000000000000055511151}`,
	} {
		m, err := leaf.Decode([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		if raw, err := json.Marshal(m); err != nil || string(raw) != want {
			t.Errorf("%s became %s (%v)", text, raw, err)
		}
	}
	for _, text := range []string{``, `null`, `[]`, `{} {}`, `{"a":`, `"x"`} {
		if _, err := leaf.Decode([]byte(text)); err == nil {
			t.Errorf("%q was read", text)
		}
	}
}

func TestOwners(t *testing.T) {
	t.Parallel()
	o, err := leaf.OwnersOf(decode(t, `
metadata:
  managedFields:
  - fieldsV1:
      f:metadata: {f:labels: {f:team: {}}}
      f:spec:
        f:template:
          f:spec:
            f:nodeSelector: {}
            f:securityContext: {}
            f:containers:
              'k:{"name":"kafka"}':
                .: {}
                f:name: {}
                f:livenessProbe: {f:httpGet: {f:port: {}}}
                f:ports: {'k:{"containerPort":9092,"protocol":"TCP"}': {.: {}, f:containerPort: {}}}
        f:volumeClaimTemplates: {}
  - subresource: scale
    fieldsV1: {f:spec: {f:replicas: {}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	c := leaf.Join("spec", "template", "spec", "containers", "#kafka")
	for p, want := range map[leaf.Path]bool{
		leaf.Join("metadata", "labels", "team"):                                        true,
		leaf.Join("metadata", "labels", "other"):                                       false,
		leaf.Join("spec", "replicas"):                                                  false,
		leaf.Join("spec", "template", "spec", "nodeSelector", "disk"):                  true,
		leaf.Join("spec", "template", "spec", "securityContext", "runAsUser"):          false,
		leaf.Join("spec", "volumeClaimTemplates", "#data", "spec", "storageClassName"): true,
		c.Child("livenessProbe").Child(leaf.Handler):                                   true,
		c.Child("livenessProbe").Child("periodSeconds"):                                false,
		c.Child("ports").Child("#9092|TCP"):                                            true,
		c.Child("image"):                                                               false,
	} {
		if got := o.Own(p); got != want {
			t.Errorf("%s: owned %t, want %t", p, got, want)
		}
	}
	if o, err := leaf.OwnersOf(map[string]any{}); o != nil || err != nil {
		t.Error(o, err)
	}
	if _, err := leaf.OwnersOf(decode(t, `metadata: {managedFields: [{fieldsV1: {x: 1}}]}`)); err == nil {
		t.Error("nonsense was read")
	}
}

// FuzzRoundTrip takes arbitrary objects apart and builds them again: the leaves are the same.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte(`{"metadata":{"labels":{"a":"b"},"annotations":{"x":""}},"spec":{"template":{"metadata":{"annotations":{"metamorph.dev/zoo.cfg":"a=1\n"}},"spec":{"containers":[{"name":"a","env":[{"name":"b"}],"livenessProbe":{"exec":{}}}]}}}}`))
	f.Add([]byte(`{"spec":{"ports":[{"containerPort":1},{"containerPort":1}],"volumeClaimTemplates":[{"metadata":{"name":"d"}}]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		obj, err := leaf.Decode(raw)
		if err != nil {
			return
		}
		s := leaf.Of(obj, nil)
		again := leaf.Of(leaf.Build(s), nil)
		// A file that holds one key twice, or an entry without other fields, is simplified once; after that nothing moves.
		once := leaf.Of(leaf.Build(again), nil)
		if diff := cmp.Diff(listing(again), listing(once)); diff != "" {
			t.Errorf("leaves (-first +second):\n%s", diff)
		}
	})
}
