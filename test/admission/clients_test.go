package admission_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	applyappsv1 "k8s.io/client-go/applyconfigurations/apps/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/test/admission/recorder"
)

// These tests prove what Metamorph rests on: that at admission it can be told what the user wrote, whatever the client.
// Each client sends a manifest to a real API server, and the manifest is recovered from what the webhook is shown, in
// one way for all clients: the fields that some manager owns (managedFields), less those that equal the API default.

const (
	minimal = `
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: events
  annotations: {metamorph.dev/role: kafka}
`
	// overrides has one value that equals the default (revisionHistoryLimit), and one that is not canonical (2048Mi).
	overrides = `
apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: events
  labels: {team: streams}
  annotations: {metamorph.dev/role: kafka, metamorph.dev/heap: 1Gi}
spec:
  replicas: 3
  revisionHistoryLimit: 10
  template:
    spec:
      terminationGracePeriodSeconds: 120
      containers:
      - name: kafka
        env: [{name: TZ, value: UTC}, {name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}]
        resources: {limits: {memory: 2048Mi}}
      volumes: [{name: scratch, emptyDir: {}}]
`
)

// creators are the ways to create a StatefulSet.
var creators = map[string]struct {
	create func(t *testing.T, namespace, manifest string)
	// exact: a value that equals the default is known to be written, too.
	exact  bool
	dryRun bool
}{
	"kubectl-create":                        {create: kubectlWith("create", "-f", "-")},
	"kubectl-create-validate-strict":        {create: kubectlWith("create", "--validate=strict", "-f", "-")},
	"kubectl-create-dry-run-server":         {create: kubectlWith("create", "--dry-run=server", "-f", "-"), dryRun: true},
	"kubectl-apply":                         {create: kubectlWith("apply", "-f", "-")},
	"kubectl-apply-validate-strict":         {create: kubectlWith("apply", "--validate=strict", "-f", "-")},
	"kubectl-apply-dry-run-server":          {create: kubectlWith("apply", "--dry-run=server", "-f", "-"), dryRun: true},
	"kubectl-apply-server-side":             {create: kubectlWith("apply", "--server-side", "-f", "-"), exact: true},
	"kubectl-apply-server-side-dry-run":     {create: kubectlWith("apply", "--server-side", "--dry-run=server", "-f", "-"), exact: true, dryRun: true},
	"kubectl-apply-server-side-other-owner": {create: kubectlWith("apply", "--server-side", "--field-manager=argocd-controller", "-f", "-"), exact: true},
	"kubectl-replace-force":                 {create: kubectlWith("replace", "--force", "-f", "-")},
	"client-go-create":                      {create: clientGoCreate(runtime.ContentTypeJSON)},
	"client-go-create-protobuf":             {create: clientGoCreate(runtime.ContentTypeProtobuf)},
	"client-go-apply":                       {create: clientGoApply, exact: true},
	"http-post":                             {create: httpPost},
}

func kubectlWith(args ...string) func(*testing.T, string, string) {
	return func(t *testing.T, namespace, manifest string) {
		t.Helper()
		kubectl(t, namespace, manifest, args...)
	}
}

func clientGoCreate(contentType string) func(*testing.T, string, string) {
	return func(t *testing.T, namespace, manifest string) {
		t.Helper()
		cfg := rest.CopyConfig(cluster(t).Config)
		cfg.ContentType, cfg.UserAgent = contentType, "program"
		c, err := kubernetes.NewForConfig(cfg)
		if err != nil {
			t.Fatal(err)
		}
		var set appsv1.StatefulSet
		if err := yaml.Unmarshal([]byte(manifest), &set); err != nil {
			t.Fatal(err)
		}
		if _, err := c.AppsV1().StatefulSets(namespace).Create(t.Context(), &set, metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
	}
}

func clientGoApply(t *testing.T, namespace, manifest string) {
	t.Helper()
	var set applyappsv1.StatefulSetApplyConfiguration
	if err := yaml.Unmarshal([]byte(manifest), &set); err != nil {
		t.Fatal(err)
	}
	if _, err := client(t).AppsV1().StatefulSets(namespace).Apply(t.Context(), &set, metav1.ApplyOptions{FieldManager: "program"}); err != nil {
		t.Fatal(err)
	}
}

func httpPost(t *testing.T, namespace, manifest string) {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte(manifest))
	if err != nil {
		t.Fatal(err)
	}
	err = client(t).AppsV1().RESTClient().Post().Namespace(namespace).Resource("statefulsets").
		SetHeader("User-Agent", "curl").Body(raw).Do(t.Context()).Error()
	if err != nil {
		t.Fatal(err)
	}
}

func TestWhatTheUserWroteIsKnownAtCreation(t *testing.T) {
	t.Parallel()
	cluster(t)
	for name, c := range creators {
		for suffix, manifest := range map[string]string{"": minimal, "-overrides": overrides} {
			t.Run(name+suffix, func(t *testing.T) {
				t.Parallel()
				ns := name + suffix
				namespace(t, ns, nil)
				c.create(t, ns, manifest)

				q := lastRequest(t, ns)
				if q.Operation != admissionv1.Create || *q.DryRun != c.dryRun || q.Name != "events" {
					t.Errorf("operation %s, dry run %t, name %q", q.Operation, *q.DryRun, q.Name)
				}
				object := parseJSON(t, q.Object.Raw)
				compareIntent(t, manifest, object, c.exact)
				compareFixture(t, ns, q)
			})
		}
	}
}

// intent reduces an object to what its users wrote.
func intent(t *testing.T, object map[string]any) map[string]any {
	t.Helper()
	owned, err := recorder.Owned(object)
	if err != nil {
		t.Fatal(err)
	}
	return recorder.Written(owned)
}

// compareIntent compares what users wrote with a manifest that says the same.
func compareIntent(t *testing.T, manifest string, object map[string]any, exact bool) {
	t.Helper()
	lastApplied, isApplied := lastApplied(t, object)
	want, got := recorder.Written(parseYAML(t, manifest)), intent(t, object)
	if isApplied {
		if diff := cmp.Diff(parseYAML(t, manifest), lastApplied, cmp.FilterPath(belowMetadata, cmp.Ignore())); diff != "" {
			t.Errorf("the last-applied-configuration is not the manifest (-manifest +annotation):\n%s", diff)
		}
	}
	if exact {
		want = recorder.Written(parseYAML(t, asStored(manifest)))
	} else {
		apidefaults.Prune(want)
		apidefaults.Prune(got)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("what is owned is not what was written (-manifest +recovered):\n%s", diff)
	}
}

// belowMetadata: kubectl adds the namespace and empty annotations to what it notes.
func belowMetadata(p cmp.Path) bool {
	return len(p) > 1 && p.Index(1).String() == `["metadata"]`
}

// asStored brings a manifest of this file to the form in which the server holds what is written in it: with canonical
// quantities, and with defaults inside of objects that can only be owned as a whole.
func asStored(manifest string) string {
	return strings.NewReplacer("2048Mi", "2Gi", "fieldRef: {", "fieldRef: {apiVersion: v1, ").Replace(manifest)
}

func lastApplied(t *testing.T, object map[string]any) (map[string]any, bool) {
	t.Helper()
	metadata, _ := object["metadata"].(map[string]any)
	annotations, _ := metadata["annotations"].(map[string]any)
	text, ok := annotations["kubectl.kubernetes.io/last-applied-configuration"].(string)
	if !ok {
		return nil, false
	}
	return parseJSON(t, []byte(text)), true
}

// TestWhatTheUserChangedIsKnownAtUpdate: later requests hold the whole expanded object, but the fields that webhooks
// filled in still have no owner.
func TestWhatTheUserChangedIsKnownAtUpdate(t *testing.T) {
	t.Parallel()
	cluster(t)
	const set = "statefulset/events"
	edited := strings.NewReplacer("replicas: 3", "replicas: 5", "heap: 1Gi", "heap: 2Gi").Replace(overrides)
	withoutEnv := strings.Replace(overrides, "{name: TZ, value: UTC}, ", "", 1)
	relabelled := strings.Replace(overrides, "team: streams", "team: data", 1)
	withEnv := strings.Replace(overrides, "}}}]", "}}}, {name: NEW, value: x}]", 1)

	cases := map[string]struct {
		create, update []string
		before, after  string // manifests; before is minimal if empty
		// send is the manifest given to the command.
		send string
		// silent: no request is sent at all.
		silent bool
	}{
		"update-kubectl-apply-unchanged": {
			create: []string{"apply", "-f", "-"}, before: minimal,
			update: []string{"apply", "-f", "-"}, send: minimal, silent: true,
		},
		// kubectl compares the manifest with the live object, in which the server made 2Gi of 2048Mi.
		"update-kubectl-apply-unchanged-not-canonical": {
			create: []string{"apply", "-f", "-"}, before: overrides,
			update: []string{"apply", "-f", "-"}, send: overrides, after: overrides,
		},
		"update-kubectl-apply": {
			create: []string{"apply", "-f", "-"}, before: overrides,
			update: []string{"apply", "-f", "-"}, send: edited, after: edited,
		},
		"update-kubectl-apply-removed": {
			create: []string{"apply", "-f", "-"}, before: overrides,
			update: []string{"apply", "-f", "-"}, send: withoutEnv, after: withoutEnv,
		},
		"update-kubectl-apply-server-side-unchanged": {
			create: []string{"apply", "--server-side", "-f", "-"}, before: overrides,
			update: []string{"apply", "--server-side", "-f", "-"}, send: overrides, after: overrides,
		},
		"update-kubectl-apply-server-side": {
			create: []string{"apply", "--server-side", "-f", "-"}, before: overrides,
			update: []string{"apply", "--server-side", "-f", "-"}, send: edited, after: edited,
		},
		"update-kubectl-apply-server-side-removed": {
			create: []string{"apply", "--server-side", "-f", "-"}, before: overrides,
			update: []string{"apply", "--server-side", "-f", "-"}, send: withoutEnv, after: withoutEnv,
		},
		"update-kubectl-apply-server-side-migrated": {
			create: []string{"apply", "-f", "-"}, before: overrides,
			// Without force, 2048Mi and the fieldRef, to which the server added its apiVersion, are conflicts.
			update: []string{"apply", "--server-side", "--force-conflicts", "-f", "-"}, send: edited, after: edited,
		},
		"update-kubectl-replace": {
			create: []string{"create", "-f", "-"}, before: overrides,
			update: []string{"replace", "-f", "-"}, send: edited, after: edited,
		},
		"update-kubectl-replace-minimal": {
			create: []string{"create", "-f", "-"}, before: overrides,
			update: []string{"replace", "-f", "-"}, send: minimal, after: minimal,
		},
		"update-kubectl-label": {
			create: []string{"create", "-f", "-"}, before: overrides,
			update: []string{"label", "--overwrite", set, "team=data"}, after: relabelled,
		},
		"update-kubectl-annotate": {
			create: []string{"apply", "--server-side", "-f", "-"}, before: minimal,
			update: []string{"annotate", set, "metamorph.dev/heap=2Gi"},
			after:  strings.Replace(minimal, "role: kafka", "role: kafka, metamorph.dev/heap: 2Gi", 1),
		},
		"update-kubectl-annotate-removed": {
			create: []string{"apply", "--server-side", "-f", "-"}, before: overrides,
			update: []string{"annotate", set, "metamorph.dev/heap-"},
			after:  strings.Replace(overrides, ", metamorph.dev/heap: 1Gi", "", 1),
		},
		"update-kubectl-patch-merge": {
			create: []string{"create", "-f", "-"}, before: minimal,
			update: []string{"patch", set, "--type=merge", "-p", `{"spec":{"template":{"spec":{"terminationGracePeriodSeconds":90}}}}`},
			after:  minimal + "spec: {template: {spec: {terminationGracePeriodSeconds: 90}}}",
		},
		"update-kubectl-patch-json": {
			create: []string{"create", "-f", "-"}, before: minimal,
			update: []string{"patch", set, "--type=json", "-p", `[{"op":"add","path":"/spec/template/spec/containers/0/workingDir","value":"/tmp"}]`},
			after:  minimal + "spec: {template: {spec: {containers: [{workingDir: /tmp}]}}}",
		},
		"update-kubectl-set-env": {
			create: []string{"create", "-f", "-"}, before: overrides,
			update: []string{"set", "env", set, "NEW=x"},
			after:  withEnv,
		},
		"update-kubectl-set-image": {
			create: []string{"create", "-f", "-"}, before: minimal,
			update: []string{"set", "image", set, "kafka=apache/kafka:4.0.0"},
			after:  minimal + "spec: {template: {spec: {containers: [{image: 'apache/kafka:4.0.0'}]}}}",
		},
		"update-kubectl-rollout-restart": {
			create: []string{"create", "-f", "-"}, before: minimal,
			update: []string{"rollout", "restart", set},
			after:  minimal + `spec: {template: {metadata: {annotations: {kubectl.kubernetes.io/restartedAt: any}}}}`,
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			namespace(t, name, nil)
			kubectl(t, name, c.before, c.create...)
			before := len(recording.Requests(name, ""))
			kubectl(t, name, c.send, c.update...)

			if all := recording.Requests(name, ""); c.silent {
				if len(all) > before {
					t.Errorf("a request was sent: %s", all[before].Raw)
				}
				return
			}
			q := lastRequest(t, name)
			if q.Operation != admissionv1.Update {
				t.Fatalf("the last request is %s", q.Operation)
			}
			object := parseJSON(t, q.Object.Raw)
			if restarted, ok := lookup(object, "spec", "template", "metadata", "annotations").(map[string]any); ok && restarted["kubectl.kubernetes.io/restartedAt"] != nil {
				restarted["kubectl.kubernetes.io/restartedAt"] = "any"
			}
			want, got := recorder.Written(parseYAML(t, c.after)), intent(t, object)
			apidefaults.Prune(want)
			apidefaults.Prune(got)
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("what is owned is not what was written (-manifest +recovered):\n%s", diff)
			}
			compareFixture(t, name, q)
		})
	}
}

func lookup(v any, path ...string) any {
	for _, name := range path {
		m, _ := v.(map[string]any)
		v = m[name]
	}
	return v
}

func TestScaleCarriesNoTemplate(t *testing.T) {
	t.Parallel()
	cluster(t)
	const ns = "update-kubectl-scale"
	namespace(t, ns, nil)
	kubectl(t, ns, minimal, "create", "-f", "-")
	// The fixture has the status that the controller writes.
	kubectl(t, ns, "", "wait", "statefulset/events", "--for=jsonpath={.status.replicas}=1", "--timeout=1m")
	kubectl(t, ns, "", "scale", "statefulset/events", "--replicas=5")
	q := lastRequest(t, ns)
	if q.Kind.Kind != "Scale" || q.SubResource != "scale" || q.Operation != admissionv1.Update {
		t.Errorf("kind %s, subresource %q, operation %s", q.Kind.Kind, q.SubResource, q.Operation)
	}
	compareFixture(t, ns, q)
}

func TestRollbackIsAnUpdateOfTheTemplate(t *testing.T) {
	t.Parallel()
	cluster(t)
	const ns = "update-kubectl-rollout-undo"
	namespace(t, ns, nil)
	revisions := func(n int) {
		t.Helper()
		err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
			list, err := client(t).AppsV1().ControllerRevisions(ns).List(ctx, metav1.ListOptions{})
			return err == nil && len(list.Items) == n, err
		})
		if err != nil {
			t.Fatalf("waiting for %d revisions: %v", n, err)
		}
	}
	kubectl(t, ns, overrides, "apply", "--server-side", "-f", "-")
	revisions(1)
	kubectl(t, ns, "", "set", "env", "statefulset/events", "NEW=x")
	revisions(2)
	kubectl(t, ns, "", "rollout", "undo", "statefulset/events")

	q := lastRequest(t, ns)
	object, old := parseJSON(t, q.Object.Raw), parseJSON(t, q.OldObject.Raw)
	if diff := cmp.Diff(lookup(old, "metadata", "annotations"), lookup(object, "metadata", "annotations")); diff != "" {
		t.Errorf("the annotations changed (-old +new):\n%s", diff)
	}
	first := parseJSON(t, recording.Requests(ns, "")[1].OldObject.Raw)
	if diff := cmp.Diff(lookup(first, "spec"), lookup(object, "spec")); diff != "" {
		t.Errorf("the spec is not that of the first revision (-first +now):\n%s", diff)
	}
	compareFixture(t, ns, q)
}

// TestAGeneratedNameIsNotKnownYet: the server makes the name after admission, so nothing that is derived from it can be
// rendered.
func TestAGeneratedNameIsNotKnownYet(t *testing.T) {
	t.Parallel()
	cluster(t)
	const ns = "kubectl-create-generate-name"
	namespace(t, ns, nil)
	kubectl(t, ns, strings.Replace(minimal, "name: events", "generateName: events-", 1), "create", "-f", "-")
	q := lastRequest(t, ns)
	if name := lookup(parseJSON(t, q.Object.Raw), "metadata", "name"); q.Name != "" || name != nil {
		t.Errorf("request name %q, object name %v", q.Name, name)
	}
	compareFixture(t, ns, q)
}
