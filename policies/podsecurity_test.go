package policies_test

import (
	"fmt"
	"io/fs"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/pod-security-admission/api"
	podsecurity "k8s.io/pod-security-admission/policy"
	kjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/policies"
)

// TestPodSecurityFixtures holds pod-security.rego against Kubernetes's own evaluator: for each of the pods that the latter
// is tested with, of every level and version, both name the same controls of restricted:latest, and so agree on the
// verdict. Where a pod is for the newest version, it is also what the fixture says, without a word from the evaluator.
func TestPodSecurityFixtures(t *testing.T) {
	set, evaluator := podSecurity(t), newEvaluator(t)
	fixtures := podFixtures(t)
	newest := 0
	for _, f := range fixtures {
		newest = max(newest, f.minor)
	}
	denied, ownDenied, asFixture, seen := 0, 0, 0, map[string]int{}
	for _, f := range fixtures {
		obj, template := statefulSetOf(t, f.pod)
		want := forbidden(evaluator, api.LatestVersion(), template)
		got := controls(t, f.name, podFindings(t, set, obj))
		if !slices.Equal(got, want) {
			t.Errorf("%s: got %q, want %q", f.name, got, want)
		}
		if len(want) > 0 {
			denied++
		}
		for _, c := range want {
			seen[c]++
		}
		if len(forbidden(evaluator, api.MajorMinorVersion(1, f.minor), template)) > 0 {
			ownDenied++
		}
		// What baseline lets pass, restricted may not.
		if f.minor == newest && (f.level == "restricted" || !f.pass) {
			asFixture++
			if pass := len(got) == 0; pass != f.pass {
				t.Errorf("%s: allowed %v, the fixture says %v", f.name, pass, f.pass)
			}
		}
	}
	t.Logf("%d pods compared with restricted:latest, %d denied; %d would be by the version of their own; %d are as their fixture says",
		len(fixtures), denied, ownDenied, asFixture)
	if len(fixtures) < 4000 || denied < 2000 || denied == len(fixtures) || asFixture < 100 {
		t.Errorf("%d fixtures, %d denied, %d as their fixture says: too few", len(fixtures), denied, asFixture)
	}
	for _, c := range controlOf {
		if seen[c.name] == 0 {
			t.Errorf("no fixture is denied for %q", c.name)
		}
	}
}

// TestPodSecurityCombinations compares both on pods that combine what the fixtures show one at a time.
func TestPodSecurityCombinations(t *testing.T) {
	set, evaluator := podSecurity(t), newEvaluator(t)
	rnd := rand.New(rand.NewPCG(1, 2))
	allowed := 0
	const pods = 3000
	for i := range pods {
		// Few changes in most pods, so that many pass.
		pod := combination(rnd, 0.1*rnd.Float64()*rnd.Float64())
		obj, template := statefulSetOf(t, pod)
		want := forbidden(evaluator, api.LatestVersion(), template)
		got := controls(t, strconv.Itoa(i), podFindings(t, set, obj))
		if !slices.Equal(got, want) {
			text, _ := yaml.Marshal(pod)
			t.Fatalf("%d: got %q, want %q\n%s", i, got, want, text)
		}
		if len(want) == 0 {
			allowed++
		}
	}
	t.Logf("%d pods compared, %d allowed", pods, allowed)
	if allowed < pods/20 || allowed > pods*19/20 {
		t.Errorf("%d of %d are allowed: that compares little", allowed, pods)
	}
}

// TestPodSecurityNonsense shows it values of every type in every place; it must always come to a verdict.
func TestPodSecurityNonsense(t *testing.T) {
	set := podSecurity(t)
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 5000 {
		obj := inStatefulSet(combination(rnd, 0.2))
		obj["spec"] = spoil(rnd, obj["spec"])
		podFindings(t, set, obj)
	}
}

// spoil replaces some of the values in a document.
func spoil(rnd *rand.Rand, v any) any {
	if rnd.IntN(40) == 0 {
		return runtime.DeepCopyJSONValue(anything[rnd.IntN(len(anything))])
	}
	switch x := v.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(x)) {
			x[k] = spoil(rnd, x[k])
		}
	case []any:
		for i := range x {
			x[i] = spoil(rnd, x[i])
		}
	}
	return v
}

func BenchmarkPodSecurity(b *testing.B) {
	set := podSecurity(b)
	for _, bench := range []struct{ name, pod string }{{"allowed", restrictedPod}, {"denied", "spec: {containers: [{name: kafka}, {name: exporter}]}"}} {
		b.Run(bench.name, func(b *testing.B) {
			var pod map[string]any
			if err := readPod([]byte(bench.pod), &pod); err != nil {
				b.Fatal(err)
			}
			obj := inStatefulSet(pod)
			apidefaults.Apply(obj)
			view := podView(obj) // which all policies share
			b.ReportAllocs()
			for b.Loop() {
				set.Evaluate(b.Context(), view, policy.Options{})
			}
		})
	}
}

// restrictedPod is one that passes, in the form of most brokers' pods.
const restrictedPod = `
metadata:
  annotations: {metamorph.dev/server.properties: "a=b", prometheus.io/scrape: "true"}
spec:
  securityContext: {runAsNonRoot: true, runAsUser: 1000, fsGroup: 1000, seccompProfile: {type: RuntimeDefault}}
  volumes:
  - {name: config, configMap: {name: kafka}}
  - {name: tmp, emptyDir: {}}
  containers:
  - name: kafka
    image: apache/kafka:4.1.0
    ports: [{name: client, containerPort: 9092}, {name: inside, containerPort: 9093}]
    readinessProbe: {tcpSocket: {port: 9092}}
    livenessProbe: {tcpSocket: {port: 9092}}
    securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
  - name: exporter
    image: example.org/exporter:1
    ports: [{name: metrics, containerPort: 9404}]
    readinessProbe: {httpGet: {port: 9404, path: /metrics}}
    securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
`

// podSecurity is the policy alone, so that these tests say nothing about others.
func podSecurity(t testing.TB) *policy.Set {
	t.Helper()
	const file = "policies/pod-security/pod-security.rego"
	src := &policy.Source{Name: "builtin", Builtin: true, Files: map[string]string{file: policies.Source().Files[file]}}
	b, err := new(policy.Loader).Load(src)
	if err != nil {
		t.Fatal(err)
	}
	s, err := policy.NewSet([]*policy.Bundle{b})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func newEvaluator(t *testing.T) podsecurity.Evaluator {
	t.Helper()
	e, err := podsecurity.NewEvaluator(podsecurity.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

type podFixture struct {
	name, level string
	minor       int
	pass        bool
	pod         map[string]any
}

// podFixtures reads the evaluator's fixtures from the module that go.mod names.
func podFixtures(t *testing.T) []podFixture {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "k8s.io/pod-security-admission").Output()
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Join(strings.TrimSpace(string(out)), "test", "testdata")
	var all []podFixture
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f := podFixture{name: filepath.ToSlash(name)}
		var rest, verdict string
		f.level, rest, _ = strings.Cut(f.name, "/")
		if _, err := fmt.Sscanf(strings.ReplaceAll(rest, "/", " "), "v1.%d %s", &f.minor, &verdict); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		f.pass = verdict == "pass"
		all = append(all, f)
		if err := readPod(text, &all[len(all)-1].pod); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// readPod reads YAML as the API machinery does, with whole numbers as int64.
func readPod(text []byte, into *map[string]any) error {
	text, err := yaml.YAMLToJSON(text)
	if err != nil {
		return err
	}
	return kjson.UnmarshalCaseSensitivePreserveInts(text, into)
}

// inStatefulSet wraps a pod into a StatefulSet.
func inStatefulSet(pod map[string]any) map[string]any {
	return map[string]any{
		"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": "x", "namespace": "y"},
		"spec": map[string]any{"template": map[string]any{"metadata": pod["metadata"], "spec": pod["spec"]}},
	}
}

// statefulSetOf is the pod as the template of a StatefulSet with the API's defaults, and the same template as Go types.
func statefulSetOf(t *testing.T, pod map[string]any) (map[string]any, *corev1.PodTemplateSpec) {
	t.Helper()
	obj := inStatefulSet(pod)
	apidefaults.Apply(obj)
	var typed corev1.PodTemplateSpec
	raw := obj["spec"].(map[string]any)["template"].(map[string]any)
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(raw, &typed, true); err != nil {
		t.Fatal(err)
	}
	return obj, &typed
}

func podView(obj map[string]any) *policy.View {
	return policy.NewView(policy.Input{
		Operation: policy.Create, Role: "kafka", Profile: "production", Object: obj, Namespace: policy.Namespace{Name: "y", Labels: map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}, Now: time.Unix(1, 0),
	})
}

func podFindings(t *testing.T, set *policy.Set, obj map[string]any) []policy.Finding {
	t.Helper()
	// The budget is a matter of other tests; a loaded machine is none of this one.
	findings := set.Evaluate(t.Context(), podView(obj), policy.Options{
		Budget: time.Minute, Failed: func(_ *policy.Policy, err error) { t.Fatalf("%v, in %v", err, obj) },
	})
	for _, f := range findings {
		if f.Action != policy.Deny {
			t.Fatalf("not a denial: %+v", f)
		}
	}
	return findings
}

// controlOf tells by the field of a finding which control it is of, by the reason that the evaluator gives for it.
var controlOf = []struct {
	name  string
	field *regexp.Regexp
}{
	{"allowPrivilegeEscalation != false", regexp.MustCompile(`\.allowPrivilegeEscalation$`)},
	{"forbidden AppArmor profile", regexp.MustCompile(`\.appArmorProfile\.type$|^spec\.template\.metadata\.annotations\[container\.apparmor\.`)},
	{"unrestricted capabilities", regexp.MustCompile(`\.capabilities\.(add|drop)$`)},
	{"host namespaces", regexp.MustCompile(`\.spec\.host(Network|PID|IPC)$`)},
	{"hostPort", regexp.MustCompile(`\]\.ports$`)},
	{"probe or lifecycle host", regexp.MustCompile(`\.(httpGet|tcpSocket)\.host$`)},
	{"privileged", regexp.MustCompile(`\.privileged$`)},
	{"procMount", regexp.MustCompile(`\.procMount$`)},
	{"restricted volume types", regexp.MustCompile(`\.volumes\[[^\]]+\]\.[A-Za-z]+$`)},
	{"runAsNonRoot != true", regexp.MustCompile(`\.runAsNonRoot$`)},
	{"runAsUser=0", regexp.MustCompile(`\.runAsUser$`)},
	{"seccompProfile", regexp.MustCompile(`\.seccompProfile\.type$`)},
	{"seLinuxOptions", regexp.MustCompile(`\.seLinuxOptions\.(type|user|role)$`)},
	{"forbidden sysctls", regexp.MustCompile(`^spec\.template\.spec\.securityContext\.sysctls$`)},
	{"hostProcess", regexp.MustCompile(`\.hostProcess$`)},
}

// controls are those that findings are of, sorted.
func controls(t *testing.T, name string, findings []policy.Finding) []string {
	t.Helper()
	all := map[string]bool{}
	for _, f := range findings {
		n := len(all)
		for _, c := range controlOf {
			if c.field.MatchString(f.Field) {
				all[c.name], n = true, -1
			}
		}
		if n >= 0 {
			t.Errorf("%s: the field %q is of no control", name, f.Field)
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// forbidden are the evaluator's reasons at restricted, sorted.
func forbidden(e podsecurity.Evaluator, version api.Version, template *corev1.PodTemplateSpec) []string {
	all := map[string]bool{}
	for _, r := range e.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: version}, &template.ObjectMeta, &template.Spec) {
		if !r.Allowed {
			all[strings.Replace(r.ForbiddenReason, "profiles", "profile", 1)] = true
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// absent removes a field.
var absent = new(int)

// The values that combinations are made of. A path's last part is the field.
var (
	identities = map[string][]any{
		"runAsNonRoot":               {absent, nil, true, false},
		"runAsUser":                  {absent, nil, int64(0), int64(1)},
		"seccompProfile":             {absent, nil, fields{}, fields{"type": "RuntimeDefault"}, fields{"type": "Localhost"}, fields{"type": "Unconfined"}},
		"appArmorProfile":            {absent, nil, fields{}, fields{"type": "RuntimeDefault"}, fields{"type": "Unconfined"}},
		"seLinuxOptions.type":        {absent, nil, "", "container_t", "container_engine_t", "spc_t"},
		"seLinuxOptions.user":        {absent, nil, "", "system_u"},
		"seLinuxOptions.role":        {absent, nil, "", "sysadm_r"},
		"windowsOptions.hostProcess": {absent, nil, true, false},
	}
	ofContainers = map[string][]any{
		"securityContext":                          {absent, nil, fields{}},
		"securityContext.allowPrivilegeEscalation": {absent, nil, true, false},
		"securityContext.privileged":               {absent, nil, true, false},
		"securityContext.procMount":                {absent, nil, "Default", "Unmasked"},
		"securityContext.capabilities":             {absent, nil, fields{}, fields{"drop": []any{"ALL"}}, fields{"drop": []any{"KILL", "ALL"}}, fields{"drop": []any{"all"}}},
		"securityContext.capabilities.add":         {absent, nil, []any{}, []any{"NET_BIND_SERVICE"}, []any{"NET_BIND_SERVICE", "CHOWN"}},
		"ports":                                    {absent, nil, []any{}, []any{fields{"containerPort": int64(1)}, fields{"containerPort": int64(2), "hostPort": int64(3)}}, []any{fields{"containerPort": int64(1), "hostPort": int64(0)}}},
		"livenessProbe.httpGet":                    {absent, nil, fields{"port": int64(1)}, fields{"port": int64(1), "host": ""}, fields{"port": int64(1), "host": "a"}},
		"readinessProbe.tcpSocket":                 {absent, nil, fields{"port": int64(1)}, fields{"port": int64(1), "host": "b"}},
		"startupProbe.grpc":                        {absent, nil, fields{"port": int64(1)}},
		"startupProbe.httpGet":                     {absent, nil, fields{"port": int64(1), "host": "c"}},
		"lifecycle.preStop.httpGet":                {absent, nil, fields{"port": int64(1), "host": ""}, fields{"port": int64(1), "host": "c"}},
		"lifecycle.postStart.tcpSocket":            {absent, nil, fields{"port": int64(1), "host": "d"}},
		"lifecycle.postStart.sleep":                {absent, nil, fields{"seconds": int64(1)}},
	}
	ofPods = map[string][]any{
		"hostNetwork": {absent, nil, true, false},
		"hostPID":     {absent, nil, true, false},
		"hostIPC":     {absent, nil, true, false},
		"hostUsers":   {absent, nil, true, false},
		"os":          {absent, nil, fields{"name": "linux"}, fields{"name": "windows"}},
		"volumes": {
			absent, nil,
			[]any{fields{"name": "a"}, fields{"name": "b", "hostPath": nil, "emptyDir": fields{}}},
			[]any{fields{"name": "a"}, fields{"name": "b", "hostPath": fields{"path": "/"}}},
			[]any{fields{"name": "a", "csi": fields{"driver": "x"}}, fields{"name": "b", "ephemeral": fields{}}, fields{"name": "c", "image": fields{"reference": "x"}}},
			[]any{fields{"name": "a", "nfs": fields{"server": "x", "path": "y"}}},
		},
		"securityContext":         {absent, nil, fields{}},
		"securityContext.sysctls": {absent, nil, []any{fields{"name": "net.ipv4.tcp_wmem", "value": "1"}}, []any{fields{"name": "net.ipv4.tcp_rmem", "value": "1"}, fields{"name": "kernel.msgmax", "value": "1"}}},
	}
	appArmor = []any{absent, "", "runtime/default", "localhost/x", "localhost", "unconfined"}
	anything = []any{nil, true, false, int64(0), int64(-1), 1.5, "", "x", []any{}, []any{nil, "x", int64(1), []any{}, fields{}}, fields{}, fields{"x": nil, "": fields{"host": int64(1)}}}
)

type fields = map[string]any

// combination is a pod that passes, with a share of the fields set to another value.
func combination(rnd *rand.Rand, share float64) map[string]any {
	var pod map[string]any
	if err := readPod([]byte(restrictedPod), &pod); err != nil {
		panic(err)
	}
	spec := pod["spec"].(map[string]any)
	containers := spec["containers"].([]any)
	spec["containers"], spec["initContainers"] = containers[:1:1], containers[1:]
	change := func(in map[string]any, path string, values []any) {
		if rnd.Float64() >= share {
			return
		}
		value := values[rnd.IntN(len(values))]
		fields := strings.Split(path, ".")
		for _, f := range fields[:len(fields)-1] {
			next, ok := in[f].(map[string]any)
			if !ok {
				next = map[string]any{}
				in[f] = next
			}
			in = next
		}
		last := fields[len(fields)-1]
		if value == any(absent) {
			delete(in, last)
		} else {
			in[last] = runtime.DeepCopyJSONValue(value)
		}
	}
	changes := func(in map[string]any, prefix string, all map[string][]any) {
		for _, path := range slices.Sorted(maps.Keys(all)) {
			change(in, prefix+path, all[path])
		}
	}
	// These two let other values pass.
	if rnd.IntN(3) == 0 {
		spec["hostUsers"] = false
	}
	if rnd.IntN(3) == 0 {
		spec["os"] = fields{"name": "windows"}
	}
	changes(spec, "", ofPods)
	changes(spec, "securityContext.", identities)
	for _, c := range containers {
		changes(c.(map[string]any), "", ofContainers)
		changes(c.(map[string]any), "securityContext.", identities)
	}
	for _, name := range []string{"kafka", "other"} {
		if rnd.Float64() >= share {
			continue
		}
		if value := appArmor[rnd.IntN(len(appArmor))]; value != any(absent) {
			pod["metadata"].(map[string]any)["annotations"].(map[string]any)["container.apparmor.security.beta.kubernetes.io/"+name] = value
		}
	}
	return pod
}
