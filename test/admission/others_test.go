package admission_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	admissionv1 "k8s.io/api/admission/v1"
	registrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/test/admission/recorder"
)

// These tests show what others leave behind that change a StatefulSet at admission: fields without an owner. So they
// are not taken for the user's.

// TestAnAdmissionPolicyBeforeUs: policies run before all webhooks.
func TestAnAdmissionPolicyBeforeUs(t *testing.T) {
	t.Parallel()
	const ns = "mutating-admission-policy"
	c := client(t)
	namespace(t, ns, map[string]string{"policy": ns})

	policies := c.AdmissionregistrationV1().MutatingAdmissionPolicies()
	bindings := c.AdmissionregistrationV1().MutatingAdmissionPolicyBindings()
	policy := &registrationv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: ns},
		Spec: registrationv1.MutatingAdmissionPolicySpec{
			MatchConstraints: &registrationv1.MatchResources{
				ResourceRules: []registrationv1.NamedRuleWithOperations{{RuleWithOperations: registrationv1.RuleWithOperations{
					Operations: []registrationv1.OperationType{registrationv1.Create, registrationv1.Update},
					Rule:       registrationv1.Rule{APIGroups: []string{"apps"}, APIVersions: []string{"v1"}, Resources: []string{"statefulsets"}},
				}}},
			},
			ReinvocationPolicy: registrationv1.NeverReinvocationPolicy,
			FailurePolicy:      new(registrationv1.Fail),
			Mutations: []registrationv1.Mutation{{
				PatchType: registrationv1.PatchTypeApplyConfiguration,
				ApplyConfiguration: &registrationv1.ApplyConfiguration{Expression: `Object{
					metadata: Object.metadata{labels: {"added-by": "policy"}},
					spec: Object.spec{template: Object.spec.template{spec: Object.spec.template.spec{
						priorityClassName: "policy",
						containers: [Object.spec.template.spec.containers{name: "kafka", env: [
							Object.spec.template.spec.containers.env{name: "ADDED_BY", value: "policy"}]}]}}}}`},
			}},
		},
	}
	if _, err := policies.Create(t.Context(), policy, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	binding := &registrationv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: ns},
		Spec: registrationv1.MutatingAdmissionPolicyBindingSpec{
			PolicyName: ns,
			MatchResources: &registrationv1.MatchResources{
				NamespaceSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"policy": ns}},
			},
		},
	}
	if _, err := bindings.Create(t.Context(), binding, metav1.CreateOptions{}); err != nil {
		t.Fatal(err)
	}
	// The server learns of a policy a moment later.
	probe := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Name: "probe", Annotations: map[string]string{"metamorph.dev/role": "kafka"}}}
	err := wait.PollUntilContextTimeout(t.Context(), 20*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		got, err := c.AppsV1().StatefulSets(ns).Create(ctx, probe, metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		return err == nil && got.Labels["added-by"] == "policy", err
	})
	if err != nil {
		t.Fatalf("waiting for the policy: %v", err)
	}

	kubectl(t, ns, overrides, "apply", "--server-side", "-f", "-")
	q := lastRequest(t, ns)
	object := parseJSON(t, q.Object.Raw)
	if got := lookup(object, "metadata", "labels").(map[string]any)["added-by"]; got != "policy" {
		t.Errorf("the label of the policy is %v", got)
	}
	if got := lookup(object, "spec", "template", "spec", "priorityClassName"); got != "policy" {
		t.Errorf("the priority class of the policy is %v", got)
	}
	compareIntent(t, overrides, object, true)
	compareFixture(t, ns, q)
}

// injector is another webhook that adds a label, and a sidecar if there are containers or if it is careless.
func injector(t *testing.T, name, namespace string) {
	t.Helper()
	other, err := recorder.Start(t.Context(), cluster(t).Config, recorder.Options{
		Name: name,
		Respond: func(req *admissionv1.AdmissionRequest) *admissionv1.AdmissionResponse {
			if req.Namespace != namespace || req.SubResource != "" {
				return recorder.Patch()
			}
			var ops []recorder.Operation
			object := parseJSON(t, req.Object.Raw)
			labels, _ := lookup(object, "metadata", "labels").(map[string]any)
			switch {
			case labels == nil:
				ops = append(ops, recorder.Operation{Op: "add", Path: "/metadata/labels", Value: map[string]any{"added-by": name}})
			case labels["added-by"] == nil:
				ops = append(ops, recorder.Operation{Op: "add", Path: "/metadata/labels/added-by", Value: name})
			}
			containers, _ := lookup(object, "spec", "template", "spec", "containers").([]any)
			sidecar := map[string]any{"name": "proxy", "image": "proxy:1"}
			switch {
			case len(containers) == 0:
				ops = append(ops, recorder.Operation{Op: "add", Path: "/spec/template/spec/containers", Value: []any{sidecar}})
			case len(containers) == 1 && lookup(containers[0], "name") != "proxy":
				ops = append(ops, recorder.Operation{Op: "add", Path: "/spec/template/spec/containers/-", Value: sidecar})
			}
			return recorder.Patch(ops...)
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := other.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
}

// TestAnotherWebhookBeforeUs: webhooks are called in the order of the names of their configurations.
func TestAnotherWebhookBeforeUs(t *testing.T) {
	t.Parallel()
	const ns = "other-webhook-before"
	injector(t, "a-injector", ns)
	namespace(t, ns, nil)
	kubectl(t, ns, overrides, "create", "-f", "-")

	all := recording.Requests(ns, "")
	object := parseJSON(t, all[0].Object.Raw)
	if got := lookup(object, "metadata", "labels").(map[string]any)["added-by"]; got != "a-injector" {
		t.Errorf("the label of the other webhook is %v", got)
	}
	if n := len(lookup(object, "spec", "template", "spec", "containers").([]any)); n != 2 {
		t.Errorf("%d containers", n)
	}
	compareIntent(t, overrides, object, false)
	compareFixture(t, ns, all[0])
}

// TestAnotherWebhookAfterUs: we are called again, with our own result in the object, and none of it has an owner.
func TestAnotherWebhookAfterUs(t *testing.T) {
	t.Parallel()
	const ns = "other-webhook-after"
	injector(t, "z-injector", ns)
	namespace(t, ns, nil)
	kubectl(t, ns, overrides, "create", "-f", "-")

	all := recording.Requests(ns, "")
	if len(all) != 2 {
		t.Fatalf("called %d times", len(all))
	}
	if all[0].UID == all[1].UID {
		t.Error("the second call has the UID of the first")
	}
	first, second := parseJSON(t, all[0].Object.Raw), parseJSON(t, all[1].Object.Raw)
	if diff := cmp.Diff(lookup(first, "metadata", "managedFields"), lookup(second, "metadata", "managedFields")); diff != "" {
		t.Errorf("managedFields differ (-first +second):\n%s", diff)
	}
	if lookup(second, "spec", "selector", "matchLabels") == nil {
		t.Error("the second request does not hold what was completed in the first")
	}
	for _, object := range []map[string]any{first, second} {
		compareIntent(t, overrides, object, false)
	}
	compareFixture(t, ns+"-reinvoked", all[1])
}

// TestWhatWebhooksAddSurvivesApply: a later server-side apply of the same manifest neither owns nor removes it.
func TestWhatWebhooksAddSurvivesApply(t *testing.T) {
	t.Parallel()
	const ns = "completed-fields"
	cluster(t)
	namespace(t, ns, nil)
	for range 3 {
		kubectl(t, ns, minimal, "apply", "--server-side", "-f", "-")
	}
	got, err := client(t).AppsV1().StatefulSets(ns).Get(t.Context(), "events", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if got.Generation != 1 || len(got.Spec.Template.Spec.Containers) != 1 {
		t.Errorf("generation %d, containers %v", got.Generation, got.Spec.Template.Spec.Containers)
	}
	if n := len(recording.Requests(ns, "")); n != 3 {
		t.Errorf("the webhook was called %d times", n)
	}
	object := parseJSON(t, lastRequest(t, ns).Object.Raw)
	pruned := intent(t, object)
	apidefaults.Prune(pruned)
	if diff := cmp.Diff(recorder.Written(parseYAML(t, minimal)), pruned); diff != "" {
		t.Errorf("(-manifest +owned):\n%s", diff)
	}
}

// TestManagedFieldsCanBeCleared by anybody who likes shorter YAML. The server then notes no owner of any change, until
// the first server-side apply: to that it adds a manager, before-first-apply, that owns all there was, what webhooks
// had added included.
func TestManagedFieldsCanBeCleared(t *testing.T) {
	t.Parallel()
	const ns, set = "update-managed-fields-cleared", "statefulset/events"
	cluster(t)
	namespace(t, ns, nil)
	kubectl(t, ns, overrides, "apply", "--server-side", "-f", "-")
	managers := func() []string {
		t.Helper()
		entries, _ := lookup(parseJSON(t, lastRequest(t, ns).Object.Raw), "metadata", "managedFields").([]any)
		var names []string
		for _, e := range entries {
			names = append(names, lookup(e, "manager").(string))
		}
		return names
	}

	kubectl(t, ns, "", "patch", set, "--type=merge", "-p", `{"metadata":{"managedFields":[{}]}}`)
	if got := managers(); got != nil {
		t.Errorf("managers after clearing: %v", got)
	}
	compareFixture(t, ns, lastRequest(t, ns))

	kubectl(t, ns, "", "label", set, "later=x")
	if got := managers(); got != nil {
		t.Errorf("managers after another change: %v", got)
	}
	compareFixture(t, ns+"-then-label", lastRequest(t, ns))

	kubectl(t, ns, minimal, "apply", "--server-side", "-f", "-")
	if diff := cmp.Diff([]string{"kubectl", "before-first-apply"}, managers()); diff != "" {
		t.Errorf("managers after server-side apply (-want +got):\n%s", diff)
	}
	owned := intent(t, parseJSON(t, lastRequest(t, ns).Object.Raw))
	if lookup(owned, "spec", "selector", "matchLabels") == nil {
		t.Error("before-first-apply does not own the selector, which a webhook had added")
	}
	compareFixture(t, ns+"-then-apply-server-side", lastRequest(t, ns))
}
