package inventory_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-logr/logr/testr"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
	"github.com/metamorph-k8s/metamorph/pkg/audit"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

const auditRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: auditor}
rules:
- {apiGroups: [apps], resources: [statefulsets], verbs: [list]}
- {apiGroups: [events.k8s.io], resources: [events], verbs: [create]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: auditor}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: auditor}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: auditor}
`

const audited = `
apiVersion: v1
kind: Namespace
metadata: {name: audited}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: plain, namespace: audited}
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: kafka}]}}}
`

// rego has long sentences, for an Event's note is bounded.
const rego = `# METADATA
# title: everything is wrong
# custom: {code: TEST-1, match: {roles: [kafka, plain]}}
package test.wrong

deny contains {"msg": sprintf("%s of %s is wrong, number %d", [input.request.name, input.role, n])} if {
	input.namespace.name == "audited"
	some n in numbers.range(1, 100)
}
`

type namespaces struct{}

func (namespaces) Namespace(context.Context, string) (admission.Namespace, error) {
	return admission.Namespace{UID: "u"}, nil
}

// TestAudit holds that a real API server takes the Events, and that the rights are enough.
func TestAudit(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.kubectl(auditRights, "apply", "-f", "-")
	f.kubectl(audited, "apply", "-f", "-")
	f.kubectl(expanded(t, "audited", "events", ""), "apply", "-f", "-")

	a := &audit.Auditor{Namespaces: namespaces{}, Log: testr.New(t), Reviewer: &review.Reviewer{Engine: &policy.Engine{Inventory: &policy.Inventory{}}}}
	bundle, err := (&policy.Loader{Schema: policy.InputSchema()}).Load(&policy.Source{Name: "test", Files: map[string]string{"x.rego": rego}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.NewSet([]*policy.Bundle{bundle})
	if err != nil {
		t.Fatal(err)
	}
	a.Reviewer.Engine.Use(set)
	if a.Reader, err = audit.NewReader(f.as("auditor")); err != nil {
		t.Fatal(err)
	}
	if a.Recorder, err = audit.NewRecorder(f.as("auditor")); err != nil {
		t.Fatal(err)
	}
	// The second has forgotten what it told, as another replica would.
	for i, want := range []int{2, 0} {
		s, err := a.RunOnce(t.Context())
		if err != nil || s.Errors != 0 || s.Events != want || s.Findings[policy.Deny] != 200 {
			t.Errorf("audit %d: %+v: %v", i, s, err)
		}
		a = &audit.Auditor{Namespaces: a.Namespaces, Log: a.Log, Reviewer: a.Reviewer, Reader: a.Reader, Recorder: a.Recorder}
	}

	out, _, err := f.Kubectl(t.Context(), "", "--namespace", "audited", "get", "events", "-o", "json")
	if err != nil {
		t.Fatal(err)
	}
	var list struct {
		Items []struct{ Reason, Type, Message string }
	}
	if err := json.Unmarshal([]byte(out), &list); err != nil {
		t.Fatal(err)
	}
	if len(list.Items) != 2 {
		t.Fatalf("%d Events: %s", len(list.Items), out)
	}
	for _, e := range list.Items {
		if e.Reason != "PolicyDeny" || e.Type != "Warning" || !strings.Contains(e.Message, " is wrong, number 1 (TEST-1)") || !strings.HasSuffix(e.Message, " more") {
			t.Errorf("%+v", e)
		}
	}
	described, _, err := f.Kubectl(t.Context(), "", "--namespace", "audited", "describe", "statefulset", "plain")
	if err != nil || !strings.Contains(described, "plain of plain is wrong, number 1 (TEST-1)") {
		t.Errorf("kubectl describe does not show it: %v\n%s", err, described)
	}
}
