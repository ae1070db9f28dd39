package policy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

// template is a template with the Rego; further lines of its target are indented as they stand.
func template(kind, rego string, more ...string) string {
	return "apiVersion: templates.gatekeeper.sh/v1\nkind: ConstraintTemplate\nmetadata:\n  name: " + strings.ToLower(kind) +
		"\n  annotations: {description: \"Replicas are few. It\\n  says why.\"}\nspec:\n  crd: {spec: {names: {kind: " + kind +
		"}, validation: {openAPIV3Schema: " + schema + "}}}\n  targets:\n  - target: admission.k8s.gatekeeper.sh\n" +
		strings.Join(more, "") + "    rego: |\n" + indented(rego)
}

const schema = `{type: object, properties: {
  most: {type: integer, default: 3, minimum: 0, exclusiveMinimum: true}, word: {type: string, nullable: true},
  list: {type: array, items: {type: object, properties: {a: {type: string}, b: {type: string, default: c}}}},
  any: {type: object, x-kubernetes-preserve-unknown-fields: true}}}`

func indented(rego string) string {
	const deep = "\n            " // enough for either form
	return deep[1:] + strings.ReplaceAll(strings.TrimSpace(rego), "\n", deep) + "\n"
}

func constraint(kind, name, spec string) string {
	return "---\napiVersion: constraints.gatekeeper.sh/v1beta1\nkind: " + kind + "\nmetadata: {name: " + name + "}\nspec: " + spec + "\n"
}

// says is a template that tells what a term is.
func says(term string) string {
	return template("Says", "package says\nviolation[{\"msg\": msg}] {\n  msg := sprintf(\"%v\", ["+term+"])\n}")
}

// newer is a template in the form that has a program for each engine.
func newer(version, rego string) string {
	return strings.Replace(template("Says", rego), "    rego: |\n",
		"    code:\n    - {engine: K8sNativeValidation, source: {validations: [{expression: 'true'}]}}\n    - engine: Rego\n      source:\n        version: "+version+"\n        rego: |\n", 1)
}

// before cuts a text off at a part of it.
func before(text, part string) string {
	text, _, _ = strings.Cut(text, part)
	return text
}

func loadTemplates(tb testing.TB, text string) (*policy.Bundle, error) {
	tb.Helper()
	var objects []map[string]any
	for _, doc := range strings.Split(strings.TrimPrefix(text, "---\n"), "---\n") {
		var obj map[string]any
		if err := yaml.Unmarshal([]byte(doc), &obj); err != nil {
			tb.Fatalf("%v in\n%s", err, doc)
		}
		objects = append(objects, obj)
	}
	return new(policy.Loader).LoadTemplates("folder", objects...)
}

// find evaluates bundles, and writes a line for every finding.
func find(tb testing.TB, in policy.Input, bundles ...*policy.Bundle) []string {
	tb.Helper()
	set, err := policy.NewSet(bundles)
	if err != nil {
		tb.Fatal(err)
	}
	var out []string
	findings := set.Evaluate(context.Background(), policy.NewView(in), policy.Options{})
	for i := range findings {
		f := &findings[i]
		out = append(out, fmt.Sprintf("%s %s: %s", f.Action, f.Code, f.Message))
	}
	return out
}

// creation is the request to create a small StatefulSet.
func creation() policy.Input {
	return policy.Input{
		Operation: policy.Create, User: policy.User{Name: "kim", Groups: []string{"ops"}},
		Namespace: policy.Namespace{Name: "shop", Labels: map[string]string{"team": "sales"}},
		Object: map[string]any{
			"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": "events", "namespace": "shop"},
			"spec": map[string]any{"replicas": int64(5)},
		},
	}
}

// TestTemplates shows what policies of templates are given, and what follows from what they find.
func TestTemplates(t *testing.T) {
	t.Parallel()
	few := template("Few", `
package few

import data.lib.count

violation[{"msg": msg, "details": {"n": n}}] {
  n := input.review.object.spec.replicas
  count.more(n, input.parameters.most)
  msg := sprintf("%d are more than %v", [n, input.parameters.most])
}
`, "    libs: [\"package lib.count\\nmore(n, most) { n > most }\"]\n")
	tests := map[string]struct {
		text string
		as   func(*policy.Input)
		want []string
	}{
		"parameters":                   {few + constraint("Few", "four", "{parameters: {most: 4}}"), nil, []string{"deny GK-FOUR: 5 are more than 4"}},
		"parameters that allow it":     {few + constraint("Few", "five", "{parameters: {most: 5}}"), nil, nil},
		"default of the schema":        {few + constraint("Few", "default", "{parameters: {}}"), nil, []string{"deny GK-DEFAULT: 5 are more than 3"}},
		"no parameters, no defaults":   {few + constraint("Few", "none", "{}"), nil, nil},
		"warn":                         {few + constraint("Few", "a", "{enforcementAction: warn, parameters: {}}"), nil, []string{"warn GK-A: 5 are more than 3"}},
		"dryrun":                       {few + constraint("Few", "a", "{enforcementAction: dryrun, parameters: {}}"), nil, []string{"audit GK-A: 5 are more than 3"}},
		"name with other characters":   {few + constraint("Few", "a.b-c", "{parameters: {}}"), nil, []string{"deny GK-A-B-C: 5 are more than 3"}},
		"template without constraints": {few, nil, nil},
		"two constraints of a template": {
			few + constraint("Few", "a", "{parameters: {most: 2}}") + constraint("Few", "b", "{parameters: {most: 3}}"), nil,
			[]string{"deny GK-A: 5 are more than 2", "deny GK-B: 5 are more than 3"},
		},
		"managed":             {few + constraint("Few", "a", "{parameters: {}}"), func(in *policy.Input) { in.Role = "kafka" }, []string{"deny GK-A: 5 are more than 3"}},
		"audit":               {few + constraint("Few", "a", "{parameters: {}}"), func(in *policy.Input) { in.Operation = policy.AuditRun }, []string{"deny GK-A: 5 are more than 3"}},
		"deletion":            {few + constraint("Few", "a", "{parameters: {}}"), func(in *policy.Input) { in.Operation = policy.Delete }, nil},
		"namespace":           {few + constraint("Few", "a", "{match: {namespaces: [sh*]}, parameters: {}}"), nil, []string{"deny GK-A: 5 are more than 3"}},
		"another namespace":   {few + constraint("Few", "a", "{match: {namespaces: [team-*]}, parameters: {}}"), nil, nil},
		"excluded namespace":  {few + constraint("Few", "a", "{match: {excludedNamespaces: [shop]}, parameters: {}}"), nil, nil},
		"every kind":          {few + constraint("Few", "a", "{match: {kinds: [{apiGroups: ['*'], kinds: ['*']}]}, parameters: {}}"), nil, []string{"deny GK-A: 5 are more than 3"}},
		"any kind of a group": {few + constraint("Few", "a", "{match: {kinds: [{apiGroups: [''], kinds: [Pod]}, {apiGroups: [apps]}]}, parameters: {}}"), nil, []string{"deny GK-A: 5 are more than 3"}},
		"another kind":        {few + constraint("Few", "a", "{match: {kinds: [{apiGroups: [''], kinds: [Pod]}]}, parameters: {}}"), nil, nil},
		"the kind of another group": {
			few + constraint("Few", "a", "{match: {kinds: [{apiGroups: [example.com], kinds: [StatefulSet, Kafka]}]}, parameters: {}}"), nil, nil,
		},
		"a program that fails": {
			template("Says", "package says\nviolation[{\"msg\": \"x\"}] { to_number(input.review.name) > 3 }") + constraint("Says", "a", "{enforcementAction: warn}"), nil,
			[]string{"warn MM300: the policy GK-A (a) could not be evaluated: a builtin function failed (constrainttemplate/says:2)"},
		},
		"kind and names": {
			says(`[input.review.kind, input.review.name, input.review.namespace, input.review.operation, input.review.userInfo]`) + constraint("Says", "a", "{}"), nil,
			[]string{`deny GK-A: [{"group": "apps", "kind": "StatefulSet", "version": "v1"}, "events", "shop", "CREATE", {"groups": ["ops"], "username": "kim"}]`},
		},
		"namespace object": {
			says(`input.review.namespaceObject.metadata`) + constraint("Says", "a", "{}"), nil,
			[]string{`deny GK-A: {"annotations": {}, "labels": {"team": "sales"}, "name": "shop"}`},
		},
		"no old object": {says(`input.review.oldObject`) + constraint("Says", "a", "{}"), nil, []string{"deny GK-A: null"}},
		"old object": {
			says(`input.review.oldObject.spec.replicas`) + constraint("Says", "a", "{}"),
			func(in *policy.Input) {
				in.Operation, in.OldObject = policy.Update, map[string]any{"spec": map[string]any{"replicas": int64(2)}}
			},
			[]string{"deny GK-A: 2"},
		},
		"operations": {
			template("Says", "package says\nviolation[{\"msg\": input.review.oldObject.metadata.name}]", "    operations: [DELETE]\n") + constraint("Says", "a", "{}"),
			func(in *policy.Input) { in.Operation = policy.Delete },
			[]string{"deny GK-A: events"},
		},
		"nobody does anything in an audit": {says(`[input.review.operation]`) + constraint("Says", "a", "{}"), func(in *policy.Input) { in.Operation = policy.AuditRun }, []string{`deny GK-A: [""]`}},
		"defaults further down, and values that may be null": {
			says(`input.parameters`) + constraint("Says", "a", "{parameters: {word: null, list: [{a: x}], any: {b: {c: 1}}}}"), nil,
			[]string{`deny GK-A: {"any": {"b": {"c": 1}}, "list": [{"a": "x", "b": "c"}], "most": 3, "word": null}`},
		},
		"newer form": {
			newer("v1", "package says\nviolation contains {\"msg\": \"new\"} if input.review.name") + constraint("Says", "a", "{}"), nil,
			[]string{"deny GK-A: new"},
		},
		"newer form of the older language": {
			newer(`""`, "package says\nviolation[{\"msg\": \"old\"}] { input.review.name }") + constraint("Says", "a", "{}"), nil,
			[]string{"deny GK-A: old"},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bundle, err := loadTemplates(t, tt.text)
			if err != nil {
				t.Fatal(err)
			}
			in := creation()
			if tt.as != nil {
				tt.as(&in)
			}
			if diff := cmp.Diff(tt.want, find(t, in, bundle)); diff != "" {
				t.Errorf("want -, got +:\n%s", diff)
			}
		})
	}
}

// TestTemplatePolicy shows what a policy of a constraint says of itself.
func TestTemplatePolicy(t *testing.T) {
	t.Parallel()
	bundle, err := loadTemplates(t, constraint("Says", "a", "{match: {namespaces: [a], excludedNamespaces: [b-*]}}")+"---\n"+says("1"))
	if err != nil {
		t.Fatal(err)
	}
	want := []*policy.Policy{{
		Code: "GK-A", Name: "a", Source: "folder", File: "Says/a", Title: "Replicas are few", Why: "Replicas are few. It says why.", Severity: policy.Deny,
		Match: policy.Match{
			Kinds: []string{"StatefulSet"}, Operations: []policy.Operation{policy.Create, policy.Update}, Roles: []string{policy.AnyRole},
			Namespaces: []string{"a"}, ExcludedNamespaces: []string{"b-*"},
		},
	}}
	if diff := cmp.Diff(want, bundle.Policies, cmpopts.IgnoreUnexported(policy.Policy{})); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// TestTemplatesRefuse holds what would find nothing, or another thing than was meant, against the place and the words of its
// refusal.
func TestTemplatesRefuse(t *testing.T) {
	t.Parallel()
	good, plain := says("1"), constraint("Says", "a", "{}")
	tests := map[string]struct {
		text string
		want []string // each is a line's beginning
	}{
		"no kind": {
			strings.Replace(good, "kind: Says", "kind: ''", 1), []string{"constrainttemplate/says: spec.crd.spec.names.kind: is missing"},
		},
		"no name":            {strings.Replace(good, "name: says", "name: ''", 1), []string{`constrainttemplate/: metadata.name: ""; allowed: "says"`}},
		"another name":       {strings.Replace(good, "name: says", "name: tells", 1), []string{`constrainttemplate/tells: metadata.name: "tells"; allowed: "says"`}},
		"the same kind":      {good + "---\n" + good, []string{"constrainttemplate/says: spec.crd.spec.names.kind: another template has the kind Says already"}},
		"no targets":         {before(good, "  targets"), []string{"constrainttemplate/says: spec.targets: has 0 targets; allowed: one"}},
		"two targets":        {good + "  - {target: x}\n", []string{"constrainttemplate/says: spec.targets: has 2 targets; allowed: one"}},
		"another target":     {strings.Replace(good, "admission.k8s", "audit.k8s", 1), []string{`constrainttemplate/says: spec.targets[0].target: "audit.k8s.gatekeeper.sh"; allowed: admission.k8s.gatekeeper.sh`}},
		"targets of a type":  {before(good, "  targets") + "  targets: x\n", []string{"constrainttemplate/says: spec.targets: a value of type string does not belong there"}},
		"no program":         {before(good, "    rego"), []string{"constrainttemplate/says: spec.targets[0]: has no Rego"}},
		"two programs":       {good + "    code: [{engine: Rego, source: {rego: 'package says'}}]\n", []string{"constrainttemplate/says: spec.targets[0]: has Rego twice"}},
		"a language to come": {newer("v9", "package says"), []string{`constrainttemplate/says: spec.targets[0].code: the version "v9" of Rego; allowed: v0, v1`}},
		"another operation":  {template("Says", "package says\nviolation[{\"msg\": 1}]", "    operations: [CONNECT]\n"), []string{`constrainttemplate/says: spec.targets[0].operations: "CONNECT"; allowed: CREATE`}},
		"a syntax error":     {template("Says", "package says\n\nviolation[{]"), []string{"constrainttemplate/says:3: rego_parse_error: ", "constrainttemplate/says:3: rego_parse_error: "}},
		"a syntax error in a library": {
			template("Says", "package says\nviolation[{\"msg\": \"x\"}]", "    libs: [\"package lib.a\", \"package lib.b\\nx {\"]\n"), []string{"constrainttemplate/says/libs[1]:2: rego_parse_error: "},
		},
		"an empty library":         {template("Says", "package says\nviolation[{\"msg\": \"x\"}]", "    libs: ['']\n"), []string{"constrainttemplate/says/libs[0]: rego_parse_error: empty module"}},
		"a library of its own":     {template("Says", "package says\nviolation[{\"msg\": \"x\"}]", "    libs: [package says]\n"), []string{"constrainttemplate/says/libs[0]:1: the package of a library must begin with lib"}},
		"too much":                 {template("Says", "package says\n# "+strings.Repeat("x", 1<<20)), []string{"constrainttemplate/says: is too large: Rego has at most 1 MiB"}},
		"no violation":             {template("Says", "package says\ndeny[{\"msg\": \"x\"}] { true }"), []string{"constrainttemplate/says:1: has no rule violation"}},
		"a violation that is none": {template("Says", "package says\nviolation = true"), []string{"constrainttemplate/says:2: violation must be a set"}},
		"inventory": {
			template("Says", "package says\nviolation[{\"msg\": \"x\"}] { data.inventory.cluster.v1; data.inventory.namespace }"),
			[]string{"constrainttemplate/says:2: reads data.inventory: Metamorph keeps no inventory"},
		},
		"inventory, imported":     {template("Says", "package says\n\nimport data.inventory\nviolation[{\"msg\": \"x\"}] { inventory.cluster }"), []string{"constrainttemplate/says:3: reads data.inventory: "}},
		"inventory, in a library": {template("Says", "package says\nviolation[{\"msg\": \"x\"}]", "    libs: [\"package lib.a\\nx = data.inventory\"]\n"), []string{"constrainttemplate/says/libs[0]:2: reads data.inventory: "}},
		"a library that is not there": {
			template("Says", "package says\nimport data.lib.a\nviolation[{\"msg\": \"x\"}] { a.b }", "    libs: [package lib.b]\n"),
			[]string{"constrainttemplate/says:2: reads data.lib.a, which neither the template nor one of its libraries has"},
		},
		"data that is a variable": {
			template("Says", "package says\nviolation[{\"msg\": \"x\"}] { k := \"inventory\"; data[k] }"), []string{"constrainttemplate/says:2: reads data[k], which "},
		},
		"all data": {template("Says", "package says\nviolation[{\"msg\": \"x\"}] { x := data }"), []string{"constrainttemplate/says:2: reads data, which "}},
		"a field of a request that is not known": {
			says("input.review.subResource"), []string{"constrainttemplate/says:3: rego_type_error: undefined ref: input.review.subResource"},
		},
		"a function that can fetch": {says(`http.send({"method": "get", "url": "http://x"})`), []string{"constrainttemplate/says:3: rego_type_error: undefined function http.send"}},
		"other data of Gatekeeper's": {
			says(`external_data({"provider": "x", "keys": []})`), []string{"constrainttemplate/says:3: rego_type_error: undefined function external_data"},
		},
		"constraint without a template":  {constraint("Says", "a", "{}"), []string{"Says/a: there is no ConstraintTemplate whose constraints are of the kind Says"}},
		"constraint of a bad template":   {template("Says", "package says") + plain, []string{"constrainttemplate/says:1: has no rule violation"}},
		"constraint without a name":      {good + constraint("Says", "''", "{}"), []string{"Says/: metadata.name: is missing"}},
		"two constraints of a name":      {good + plain + plain, []string{"Says/a: the code GK-A is that of Says/a already"}},
		"another action":                 {good + constraint("Says", "a", "{enforcementAction: Deny}"), []string{`Says/a: spec.enforcementAction: "Deny"; allowed: deny, warn, dryrun`}},
		"actions by enforcement points":  {good + constraint("Says", "a", "{scopedEnforcementActions: []}"), []string{"Says/a: spec.scopedEnforcementActions: Metamorph does not know it; allowed in spec: enforcementAction, match, parameters"}},
		"selectors":                      {good + constraint("Says", "a", "{match: {labelSelector: {}, namespaceSelector: {}, scope: Cluster}}"), []string{"Says/a: spec.match.labelSelector: Metamorph does not know it; allowed in spec.match: kinds, namespaces, excludedNamespaces", "Says/a: spec.match.namespaceSelector: ", "Says/a: spec.match.scope: "}},
		"a misspelt group":               {good + constraint("Says", "a", "{match: {kinds: [{apiGroup: apps, kinds: [StatefulSet]}]}}"), []string{"Says/a: spec.match.kinds[0].apiGroup: Metamorph does not know it; allowed in spec.match.kinds[0]: apiGroups, kinds"}},
		"kinds that are not ours at all": {good + constraint("Says", "a", "{match: {kinds: [{apiGroups: [''], kinds: ['*']}]}}"), []string{"Says/a: spec.match.kinds: matches nothing that Metamorph knows"}},
		"namespaces of a type":           {good + constraint("Says", "a", "{match: {namespaces: shop}}"), []string{"Says/a: spec.match.namespaces: a value of type string does not belong there"}},
		"a glob":                         {good + constraint("Says", "a", "{match: {namespaces: ['[']}}"), []string{`Says/a: spec.match: the glob "[" cannot be read`}},
		"a parameter of another type":    {good + constraint("Says", "a", "{parameters: {most: many}}"), []string{"Says/a: spec.parameters: at 'most': got string, want integer"}},
		"a parameter below its bound":    {good + constraint("Says", "a", "{parameters: {most: 0}}"), []string{"Says/a: spec.parameters: at 'most': exclusiveMinimum: got 0, want 0"}},
		"a parameter that is not known":  {good + constraint("Says", "a", "{parameters: {list: [{a: x, A: y}]}}"), []string{"Says/a: spec.parameters: at 'list/0': additional properties 'A' not allowed"}},
		"neither of the kinds": {
			good + "---\napiVersion: config.gatekeeper.sh/v1alpha1\nkind: Config\n---\napiVersion: templates.gatekeeper.sh/v1alpha1\nkind: ConstraintTemplate\n",
			[]string{"folder: object 1 (config.gatekeeper.sh/v1alpha1 Config) is neither a ConstraintTemplate (templates.gatekeeper.sh/v1, templates.gatekeeper.sh/v1beta1) nor a constraint", "folder: object 2 (templates.gatekeeper.sh/v1alpha1 ConstraintTemplate) is neither"},
		},
		"everything at once": {
			template("Says", "package says") + "---\n" + template("Tells", "package tells\nviolation[{\"msg\": \"x\"}] { x = }") + constraint("Other", "a", "{match: {name: x}, enforcementAction: never}"),
			[]string{
				"constrainttemplate/says:1: has no rule violation", "constrainttemplate/tells:2: rego_parse_error: ", "Other/a: spec.match.name: ",
				"Other/a: there is no ConstraintTemplate", "Other/a: spec.enforcementAction: ",
			},
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := loadTemplates(t, tt.text)
			var problems policy.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want problems", err)
			}
			if len(problems) != len(tt.want) {
				t.Errorf("got %d problems, want %d:\n%v", len(problems), len(tt.want), err)
				return
			}
			for i, p := range problems {
				if !strings.HasPrefix(p.Error(), tt.want[i]) || strings.Contains(p.Message, "\n") {
					t.Errorf("got  %q\nwant %q", p.Error(), tt.want[i])
				}
			}
		})
	}
}

// TestReplacedInput holds that a policy that replaces a part of its input does so for itself.
func TestReplacedInput(t *testing.T) {
	t.Parallel()
	replacing, err := new(policy.Loader).Load(&policy.Source{Name: "replacing", Files: map[string]string{"a.rego": `# METADATA
# title: replaces
# custom: {code: AAA-1, match: {roles: ['*']}}
package replacing

deny contains sprintf("1 is few, and they are %d", [input.object.spec.replicas]) if {
	few with input.object.spec.replicas as 1
}

few := input.object.spec.replicas < 3
`}})
	if err != nil {
		t.Fatal(err)
	}
	looking, err := new(policy.Loader).Load(&policy.Source{Name: "looking", Files: map[string]string{"b.rego": `# METADATA
# title: looks
# custom: {code: BBB-1, match: {roles: ['*']}}
package looking

deny contains sprintf("replicas %d", [input.object.spec.replicas])
`}})
	if err != nil {
		t.Fatal(err)
	}
	templates, err := loadTemplates(t, template("Replaces", `
package replaces

violation[{"msg": msg}] {
  few with input.review.object.spec.replicas as 1
  msg := sprintf("1 is few, and they are %d", [input.review.object.spec.replicas])
}

few { input.review.object.spec.replicas < 3 }
`)+constraint("Replaces", "a", "{}")+constraint("Replaces", "b", "{}")+"---\n"+says("input.review.object.spec.replicas")+constraint("Says", "c", "{}"))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"deny AAA-1: 1 is few, and they are 5", "deny BBB-1: replicas 5", "deny GK-A: 1 is few, and they are 5", "deny GK-B: 1 is few, and they are 5", "deny GK-C: 5"}
	if diff := cmp.Diff(want, find(t, creation(), replacing, looking, templates)); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}
