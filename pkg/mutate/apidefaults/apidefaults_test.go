package apidefaults

import (
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/yaml"
)

func parse(t testing.TB, text string) map[string]any {
	t.Helper()
	var obj map[string]any
	if err := yaml.Unmarshal([]byte(text), &obj); err != nil {
		t.Fatal(err)
	}
	return obj
}

func clone(t testing.TB, obj map[string]any) map[string]any {
	t.Helper()
	raw, err := json.Marshal(obj)
	if err != nil {
		t.Fatal(err)
	}
	var c map[string]any
	if err := json.Unmarshal(raw, &c); err != nil {
		t.Fatal(err)
	}
	return c
}

const emptyApplied = `
spec:
  replicas: 1
  podManagementPolicy: OrderedReady
  revisionHistoryLimit: 10
  updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 0, maxUnavailable: 1}}
  persistentVolumeClaimRetentionPolicy: {whenDeleted: Retain, whenScaled: Retain}
  template:
    spec:
      dnsPolicy: ClusterFirst
      restartPolicy: Always
      schedulerName: default-scheduler
      terminationGracePeriodSeconds: 30
      securityContext: {}
`

func TestApply(t *testing.T) {
	t.Parallel()
	podSpec := func(spec string) string {
		return "spec: {template: {spec: " + spec + "}}"
	}
	cases := map[string]struct{ obj, want string }{
		"nothing at all":              {obj: `{}`, want: emptyApplied},
		"nulls are absent":            {obj: `spec: {replicas: null, template: {spec: null}, updateStrategy: null}`, want: emptyApplied},
		"empty plain values":          {obj: `spec: {podManagementPolicy: "", template: {spec: {dnsPolicy: ""}}}`, want: emptyApplied},
		"zero behind a pointer stays": {obj: `spec: {replicas: 0}`, want: `spec: {replicas: 0}`},
		"own values stay": {
			obj:  podSpec(`{dnsPolicy: None, terminationGracePeriodSeconds: 0}`),
			want: podSpec(`{dnsPolicy: None, terminationGracePeriodSeconds: 0}`),
		},
		"a strategy type alone gets no parameters": {
			obj:  `spec: {updateStrategy: {type: OnDelete}}`,
			want: `spec: {updateStrategy: {type: OnDelete, rollingUpdate: null}}`,
		},
		"parameters of a rolling update": {
			obj:  `spec: {updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 2}}}`,
			want: `spec: {updateStrategy: {type: RollingUpdate, rollingUpdate: {partition: 2, maxUnavailable: 1}}}`,
		},
		"a container without an image": {
			obj:  podSpec(`{containers: [{name: kafka}]}`),
			want: podSpec(`{containers: [{name: kafka, imagePullPolicy: IfNotPresent, terminationMessagePath: /dev/termination-log, terminationMessagePolicy: File}]}`),
		},
		"an image without a tag": {
			obj:  podSpec(`{initContainers: [{image: kafka}]}`),
			want: podSpec(`{initContainers: [{image: kafka, imagePullPolicy: Always, terminationMessagePath: /dev/termination-log, terminationMessagePolicy: File}]}`),
		},
		"a volume without a source": {
			obj:  podSpec(`{volumes: [{name: tmp}, {name: new, sourceOfTomorrow: {}}]}`),
			want: podSpec(`{volumes: [{name: tmp, emptyDir: {}}, {name: new, sourceOfTomorrow: {}}]}`),
		},
		"the deprecated service account": {
			obj:  podSpec(`{serviceAccount: kafka}`),
			want: podSpec(`{serviceAccount: kafka, serviceAccountName: kafka}`),
		},
		"two service accounts": {
			obj:  podSpec(`{serviceAccount: old, serviceAccountName: kafka}`),
			want: podSpec(`{serviceAccount: kafka, serviceAccountName: kafka}`),
		},
		"quantities": {
			obj: `spec: {volumeClaimTemplates: [{metadata: {name: data}, spec: {resources: {requests: {storage: 1024Mi}}}}]}`,
			want: `spec: {volumeClaimTemplates: [{apiVersion: v1, kind: PersistentVolumeClaim, metadata: {name: data},
				spec: {volumeMode: Filesystem, resources: {requests: {storage: 1Gi}}}, status: {phase: Pending}}]}`,
		},
		"malformed values are left for validation to refuse": {
			obj:  podSpec(`{containers: nonsense, volumes: [7], overhead: {cpu: much}}`),
			want: podSpec(`{containers: nonsense, volumes: [7], overhead: {cpu: much}}`),
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, want := parse(t, c.obj), overlay(parse(t, emptyApplied), parse(t, c.want))
			Apply(got)
			got = clone(t, got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("Apply (-want +got):\n%s", diff)
			}
			again := clone(t, got)
			Apply(again)
			if diff := cmp.Diff(got, clone(t, again)); diff != "" {
				t.Errorf("Apply is not idempotent (-once +twice):\n%s", diff)
			}
		})
	}
}

// overlay writes over into base; null deletes.
func overlay(base, over map[string]any) map[string]any {
	for k, v := range over {
		b, isObject := base[k].(map[string]any)
		o, both := v.(map[string]any)
		switch {
		case v == nil:
			delete(base, k)
		case isObject && both:
			overlay(b, o)
		default:
			base[k] = v
		}
	}
	return base
}

func TestPrune(t *testing.T) {
	t.Parallel()
	cases := map[string]struct{ obj, want string }{
		"what a webhook sees of nothing": {
			obj: emptyApplied + `
  selector: null
  serviceName: ""
status: {replicas: 0, availableReplicas: 0}
`,
			want: `{}`,
		},
		"own values stay": {
			obj:  `spec: {replicas: 3, revisionHistoryLimit: 0, minReadySeconds: 0}`,
			want: `spec: {replicas: 3, revisionHistoryLimit: 0}`,
		},
		"labels without a value stay": {
			obj:  `metadata: {name: a, labels: {x: ""}, annotations: {}, creationTimestamp: null}`,
			want: `metadata: {name: a, labels: {x: ""}}`,
		},
		"chosen by being there": {
			obj: `
spec:
  template:
    spec:
      topologySpreadConstraints: [{topologyKey: zone, labelSelector: {}}]
      affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{namespaceSelector: {}}]}, podAffinity: {}}
      tolerations: [{}]
      volumes: [{name: a, downwardAPI: {defaultMode: 420, items: []}}, {name: b, emptyDir: {}}, {name: c, new: {}}]
      containers: [{name: kafka, livenessProbe: {timeoutSeconds: 1, grpc: {port: 1, service: ""}}, stdin: false}]
  volumeClaimTemplates: [{metadata: {name: data}, spec: {storageClassName: "", selector: {}, volumeName: ""}}]
`,
			want: `
spec:
  template:
    spec:
      topologySpreadConstraints: [{topologyKey: zone, labelSelector: {}}]
      affinity: {podAntiAffinity: {requiredDuringSchedulingIgnoredDuringExecution: [{namespaceSelector: {}}]}}
      tolerations: [{}]
      volumes: [{name: a, downwardAPI: {}}, {name: b}, {name: c, new: {}}]
      containers: [{name: kafka, livenessProbe: {grpc: {port: 1}}}]
  volumeClaimTemplates: [{metadata: {name: data}, spec: {storageClassName: "", selector: {}}}]
`,
		},
		"service accounts": {
			obj:  `spec: {template: {spec: {serviceAccount: kafka, serviceAccountName: kafka}}}`,
			want: `spec: {template: {spec: {serviceAccountName: kafka}}}`,
		},
		"pull policies": {
			obj: `
spec: {template: {spec: {containers: [
  {image: a, imagePullPolicy: Always}, {image: "a:1", imagePullPolicy: Always},
  {image: a, imagePullPolicy: IfNotPresent}, {image: "a:1", imagePullPolicy: IfNotPresent}]}}}`,
			want: `
spec: {template: {spec: {containers: [
  {image: a}, {image: "a:1", imagePullPolicy: Always},
  {image: a, imagePullPolicy: IfNotPresent}, {image: "a:1"}]}}}`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, want := parse(t, c.obj), parse(t, c.want)
			defaulted := clone(t, got)
			Apply(defaulted)
			for input, obj := range map[string]map[string]any{"as it is": got, "after Apply": defaulted} {
				Prune(obj)
				if diff := cmp.Diff(want, clone(t, obj)); diff != "" {
					t.Errorf("Prune %s (-want +got):\n%s", input, diff)
				}
			}
		})
	}
}

func TestIsDefault(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		path   string
		value  any
		parent map[string]any
		want   bool
	}{
		"integer":                         {path: "spec.revisionHistoryLimit", value: int64(10), want: true},
		"float":                           {path: "spec.revisionHistoryLimit", value: 10.0, want: true},
		"another value":                   {path: "spec.revisionHistoryLimit", value: int64(3)},
		"zero behind a pointer":           {path: "spec.revisionHistoryLimit", value: int64(0)},
		"zero of a plain value":           {path: "spec.minReadySeconds", value: int64(0), want: true},
		"new in 1.37":                     {path: "spec.updateStrategy.rollingUpdate.maxUnavailable", value: int64(1), want: true},
		"a whole structure":               {path: "spec.updateStrategy", value: map[string]any{"type": "RollingUpdate"}, want: true},
		"a structure that differs":        {path: "spec.updateStrategy", value: map[string]any{"type": "OnDelete"}},
		"null":                            {path: "spec.anything", value: nil, want: true},
		"empty string":                    {path: "spec.serviceName", value: "", want: true},
		"empty list":                      {path: "spec.template.spec.tolerations", value: []any{}, want: true},
		"empty object":                    {path: "spec.template.spec.containers.#kafka.resources", value: map[string]any{}, want: true},
		"empty unknown object":            {path: "spec.template.spec.new", value: map[string]any{}},
		"empty label":                     {path: "metadata.labels.x", value: ""},
		"same word elsewhere":             {path: "spec.template.spec.containers.#kafka.type", value: "RollingUpdate"},
		"list element":                    {path: "spec.template.spec.containers.#kafka", value: map[string]any{}},
		"empty storage class":             {path: "spec.volumeClaimTemplates.#data.spec.storageClassName", value: ""},
		"port protocol":                   {path: "spec.template.spec.containers.#kafka.ports.#9092|TCP.protocol", value: "TCP", want: true},
		"quantity in another form":        {path: "spec.template.spec.containers.#0.env.#x.valueFrom.resourceFieldRef.divisor", value: 0.0, want: true},
		"pull policy, image unknown":      {path: "spec.template.spec.containers.#kafka.imagePullPolicy", value: "IfNotPresent", want: true},
		"pull always, image unknown":      {path: "spec.template.spec.containers.#kafka.imagePullPolicy", value: "Always"},
		"pull always, tag latest":         {path: "spec.template.spec.containers.#kafka.imagePullPolicy", value: "Always", parent: map[string]any{"image": "a:latest"}, want: true},
		"pull policy of an image volume":  {path: "spec.template.spec.volumes.#x.image.pullPolicy", value: "Always", parent: map[string]any{"reference": "a"}, want: true},
		"empty dir, alone":                {path: "spec.template.spec.volumes.#x.emptyDir", value: map[string]any{}, parent: map[string]any{"name": "x"}, want: true},
		"empty dir, parent unknown":       {path: "spec.template.spec.volumes.#x.emptyDir", value: map[string]any{}},
		"copied service account":          {path: "spec.template.spec.serviceAccount", value: "a", parent: map[string]any{"serviceAccountName": "a"}, want: true},
		"service account, parent unknown": {path: "spec.template.spec.serviceAccount", value: "a"},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := IsDefaultIn(strings.Split(c.path, "."), c.value, c.parent); got != c.want {
				t.Errorf("IsDefault(%s, %v) = %v", c.path, c.value, got)
			}
		})
	}
}

func TestIsLatest(t *testing.T) {
	t.Parallel()
	const digest = "@sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
	cases := map[string]bool{
		"":                                     false,
		"kafka":                                true,
		"kafka:latest":                         true,
		"kafka:4.1.0":                          false,
		"kafka:":                               false,
		"apache/kafka":                         true,
		"registry:5000/kafka":                  true,
		"registry:5000/kafka:latest":           true,
		"registry:5000/kafka:4":                false,
		"kafka" + digest:                       false,
		"kafka:latest" + digest:                true,
		"kafka:4" + digest:                     false,
		"Kafka":                                false,
		"Registry/kafka":                       true,
		"registry/Kafka":                       false,
		"$(REGISTRY)/kafka":                    false,
		"a__b/c--d":                            true,
		"a..b":                                 false,
		"a/":                                   false,
		strings.TrimPrefix(digest, "@sha256:"): false,
	}
	for image, want := range cases {
		if got := isLatest(image); got != want {
			t.Errorf("isLatest(%q) = %v", image, got)
		}
	}
}

// TestTableNamesRealFields walks the Go types of this program's Kubernetes version beside the table, so that a typing
// mistake, or a plain number or bool that the server drops when it is zero, cannot go unnoticed.
func TestTableNamesRealFields(t *testing.T) {
	t.Parallel()
	var walk func(path string, typ reflect.Type, n *node)
	walk = func(path string, typ reflect.Type, n *node) {
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch n.kind {
		case list:
			walk(path+"[]", typ.Elem(), n.elem)
			return
		case structure:
		default:
			return
		}
		if typ == reflect.TypeFor[metav1.ObjectMeta]() {
			return
		}
		if typ.Kind() != reflect.Struct {
			t.Errorf("%s: an object in the table, %s in the API", path, typ)
			return
		}
		fields := map[string]reflect.Type{}
		collect(typ, fields)
		for name, f := range n.byName {
			ft, ok := fields[name]
			if !ok {
				t.Errorf("%s.%s: no such field in %s", path, name, typ)
				continue
			}
			isPointer := ft.Kind() == reflect.Pointer
			if f.kind == scalar && f.fill && !f.overwrites && f.zeroIsUnset == isPointer {
				t.Errorf("%s.%s is %s in the API", path, name, ft)
			}
			walk(path+"."+name, ft, f)
		}
		for name, ft := range fields {
			switch ft {
			case reflect.TypeFor[metav1.ObjectMeta](), reflect.TypeFor[intstr.IntOrString]():
				continue
			case reflect.TypeFor[resource.Quantity](), reflect.TypeFor[*resource.Quantity]():
			default:
				if !slices.Contains([]reflect.Kind{reflect.Bool, reflect.Int32, reflect.Int64, reflect.Struct}, ft.Kind()) {
					continue
				}
			}
			if n.byName[name] == nil && !required[name] {
				t.Errorf("%s.%s (%s) is missing in the table", path, name, ft)
			}
		}
	}
	walk("", reflect.TypeFor[appsv1.StatefulSet](), statefulSet)
}

// required names plain values of which zero is not valid, so that it never equals absence.
var required = map[string]bool{
	"containerPort": true, "port": true, "maxSkew": true, "weight": true, "lastTransitionTime": true, "lastProbeTime": true,
}

func collect(typ reflect.Type, into map[string]reflect.Type) {
	for f := range typ.Fields() {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if f.Anonymous && (name == "" || strings.Contains(options, "inline")) {
			collect(f.Type, into)
			continue
		}
		into[name] = f.Type
	}
}

func TestApplyLeavesUnknownFieldsAlone(t *testing.T) {
	t.Parallel()
	obj := parse(t, `spec: {tomorrow: {a: "", b: [], c: {}}, template: {spec: {containers: [{new: {x: 0}}]}}}`)
	want := clone(t, obj)
	Apply(obj)
	Prune(obj)
	if diff := cmp.Diff(want, clone(t, obj)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func BenchmarkApply(b *testing.B) {
	for name, text := range map[string]string{
		"empty":     `{}`,
		"container": `spec: {template: {spec: {containers: [{name: kafka, image: "kafka:4", env: [{name: a, value: b}]}]}}}`,
	} {
		b.Run(name, func(b *testing.B) {
			raw := []byte(parseJSON(b, text))
			objs := make([]map[string]any, b.N)
			for i := range objs {
				if err := json.Unmarshal(raw, &objs[i]); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportAllocs()
			b.ResetTimer()
			for _, obj := range objs {
				Apply(obj)
			}
		})
	}
}

func parseJSON(t testing.TB, text string) string {
	t.Helper()
	raw, err := json.Marshal(parse(t, text))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}
