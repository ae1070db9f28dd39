package review_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

// ours has one rule, in the place of RULE.
const ours = `# METADATA
# title: a test
# custom:
#   code: ACME-1
#   match: {roles: ["*"], operations: [CREATE, UPDATE, SCALE, DELETE]}
package acme.test

import data.metamorph.lib

partitions := to_number(lib.setting("partitions"))

RULE
`

// judge reviews one request by a policy alone.
func judge(t *testing.T, rule string, req *review.Request) []policy.Finding {
	t.Helper()
	if !strings.Contains(rule, "partitions") {
		rule += "\n\nwarn contains \"never\" if partitions == 0"
	}
	b, err := library().Load(&policy.Source{Name: "test", Files: map[string]string{"p.rego": strings.Replace(ours, "RULE", rule, 1)}})
	if err != nil {
		t.Fatal(err)
	}
	set, err := policy.NewSet([]*policy.Bundle{b})
	if err != nil {
		t.Fatal(err)
	}
	r := &review.Reviewer{Engine: &policy.Engine{}, Version: "v1.0.0"}
	r.Engine.Use(set)
	return r.Review(context.Background(), req)
}

func expanded(t *testing.T, namespace map[string]string, annotations string) map[string]any {
	t.Helper()
	raw := `{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"events","annotations":{"metamorph.dev/role":"kafka"` + annotations + `}},"spec":{"replicas":3}}`
	out, err := mutate.Expand(mutate.Input{Object: []byte(raw), Namespace: mutate.Namespace{Name: "shop", Annotations: namespace}, ClusterUID: "u", Version: "v1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	return out.Object
}

func request(op policy.Operation, obj, old map[string]any) *review.Request {
	return &review.Request{
		Operation: op, Object: obj, OldObject: old, Namespace: policy.Namespace{Name: "shop"}, ClusterUID: "u", Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

// few denies fewer than n partitions, and says that fix cures it.
func few(fix string) string {
	return `deny contains {"msg": sprintf("%d partitions are few", [partitions]), "annotation": "partitions", "fix": "` + fix + `"} if partitions < 6`
}

// TestFixes holds that a fix is offered only if it was tried and works.
func TestFixes(t *testing.T) {
	t.Parallel()
	three := `,"metamorph.dev/partitions":"3"`
	for name, test := range map[string]struct {
		rule string
		req  func() *review.Request
		want []string
	}{
		"one that works":          {few("12"), func() *review.Request { return request(policy.Create, expanded(t, nil, three), nil) }, []string{"partitions=12"}},
		"one that does not":       {few("5"), func() *review.Request { return request(policy.Create, expanded(t, nil, three), nil) }, []string{"partitions="}},
		"one that cannot be read": {few("many"), func() *review.Request { return request(policy.Create, expanded(t, nil, three), nil) }, []string{"partitions="}},
		"of no annotation that exists": {
			`deny contains {"msg": "few", "annotation": "partitionz", "fix": "12"} if partitions < 6`,
			func() *review.Request { return request(policy.Create, expanded(t, nil, three), nil) },
			[]string{"partitionz="},
		},
		"one that the expansion refuses": {
			`deny contains {"msg": "few copies", "annotation": "replication-factor", "fix": "9"} if lib.setting("replication-factor") == "3"`,
			func() *review.Request { return request(policy.Create, expanded(t, nil, ""), nil) },
			[]string{"replication-factor="},
		},
		"one that brings another problem": {
			few("12") + "\n\ndeny contains \"many\" if partitions > 9",
			func() *review.Request { return request(policy.Create, expanded(t, nil, three), nil) },
			[]string{"partitions="},
		},
		"two, one of which works": {
			few("12") + "\n\n" + `deny contains {"msg": "short", "annotation": "retention", "fix": "nonsense"} if lib.setting("retention") == "168h"` + "\n\n" + `deny contains {"msg": "retention", "annotation": "retention", "fix": "nonsense"} if input.settings.retention.value`,
			func() *review.Request { return request(policy.Create, expanded(t, nil, three), nil) },
			[]string{"partitions=12", "retention="},
		},
		"two for one annotation, each of which works": {
			few("12") + "\n\n" + strings.Replace(few("24"), "are few", "are really few", 1),
			func() *review.Request { return request(policy.Create, expanded(t, nil, three), nil) },
			[]string{"partitions=12", "partitions=24"},
		},
		"of an update": {few("12"), func() *review.Request {
			return request(policy.Update, expanded(t, nil, three), expanded(t, nil, `,"metamorph.dev/partitions":"8"`))
		}, []string{"partitions=12"}},
		"of an audit": {few("12"), func() *review.Request { return request(policy.AuditRun, expanded(t, nil, three), nil) }, []string{"partitions=12"}},
		"of a change that an audit's object cannot have": {
			`deny contains {"msg": "clear", "annotation": "sasl", "fix": "plain"} if lib.setting("sasl") == "scram-sha-512"`,
			func() *review.Request { return request(policy.AuditRun, expanded(t, nil, ""), nil) },
			[]string{"sasl="},
		},
		"of a deletion": {few("12"), func() *review.Request {
			obj := expanded(t, nil, three)
			return request(policy.Delete, obj, obj)
		}, []string{"partitions="}},
		"of the number of nodes": {
			`deny contains {"msg": "few nodes", "annotation": "replicas", "fix": "5"} if input.replicas < 5`,
			func() *review.Request { return request(policy.Create, expanded(t, nil, ""), nil) },
			[]string{"replicas=5"},
		},
		"of a change of scale": {
			`deny contains {"msg": "few nodes", "annotation": "replicas", "fix": "5"} if input.replicas < 5`,
			func() *review.Request {
				obj := expanded(t, nil, "")
				obj["spec"].(map[string]any)["replicas"] = int64(2)
				return request(policy.Scale, obj, expanded(t, nil, ""))
			},
			[]string{"replicas=5"},
		},
		"of what is not managed": {
			`deny contains {"msg": "plain", "annotation": "heap", "fix": "1Gi"} if input.role == "plain"`,
			func() *review.Request {
				return request(policy.Create, map[string]any{"kind": "StatefulSet", "metadata": map[string]any{"name": "x"}}, nil)
			},
			[]string{"heap="},
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := map[string]bool{}
			for _, f := range judge(t, test.rule, test.req()) {
				if f.Error {
					t.Errorf("%+v", f)
				}
				if f.Annotation != "" {
					got[f.Annotation+"="+f.Fix] = true
				}
			}
			want := map[string]bool{}
			for _, w := range test.want {
				want[w] = true
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("fixes (-want +got)\n%s", diff)
			}
		})
	}
}

// TestRatchet holds that what the stored object has warns, and what is new, or worse, denies.
func TestRatchet(t *testing.T) {
	t.Parallel()
	with := func(n string) map[string]any { return expanded(t, nil, `,"metamorph.dev/partitions":"`+n+`"`) }
	for name, test := range map[string]struct {
		old, now string
		want     policy.Action
	}{
		"new":              {"8", "3", policy.Deny},
		"as it was":        {"3", "3", policy.Warn},
		"worse":            {"3", "2", policy.Deny},
		"better, not good": {"2", "3", policy.Deny},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := judge(t, few("12"), request(policy.Update, with(test.now), with(test.old)))
			if len(got) != 1 || got[0].Action != test.want || got[0].Known != (test.want == policy.Warn) {
				t.Errorf("got %+v, want %s", got, test.want)
			}
		})
	}
}

// TestNotRatcheted holds what the ratchet does not excuse: who sends the request, a failure to judge, and what only became worse
// by the object's own choice.
func TestNotRatcheted(t *testing.T) {
	t.Parallel()
	obj := expanded(t, nil, `,"metamorph.dev/partitions":"3"`)
	for name, test := range map[string]struct {
		rule string
		want policy.Action
	}{
		"a user who may not":          {`deny contains "not yours" if count([g | some g in input.request.user.groups; g == "admins"]) == 0`, policy.Deny},
		"a policy that fails":         {`deny contains "a" if to_number(input.object.kind) > 1`, policy.Deny},
		"a change against the stored": {`deny contains "changed" if object.get(input, ["oldSettings", "retention", "value"], "") != input.settings.retention.value`, policy.Off},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := judge(t, test.rule, request(policy.Update, obj, obj)); policy.Worst(got) != test.want {
				t.Errorf("got %+v, want %s", got, test.want)
			}
		})
	}
}

// TestProvenance holds that a finding says where the line to change is, if that is not the object.
func TestProvenance(t *testing.T) {
	t.Parallel()
	req := request(policy.Create, expanded(t, map[string]string{"metamorph.dev/partitions": "3"}, ""), nil)
	req.Namespace.Annotations = map[string]string{"metamorph.dev/partitions": "3"}
	got := judge(t, few("12"), req)
	if len(got) != 1 || got[0].Message != `3 partitions are few; partitions is "3" (from namespace shop)` {
		t.Fatalf("got %+v", got)
	}
	if want := `3 partitions are few; partitions is "3" (from namespace shop); this passes: metamorph.dev/partitions: "12" (ACME-1)`; review.Sentence(&got[0]) != want {
		t.Errorf("got %q, want %q", review.Sentence(&got[0]), want)
	}
	if want := "metadata.annotations[metamorph.dev/partitions]"; review.Field(&got[0]) != want {
		t.Errorf("got %q, want %q", review.Field(&got[0]), want)
	}
}

// TestHostileObjects holds that no object, however it is made, makes a review panic or a policy fail to be asked.
func TestHostileObjects(t *testing.T) {
	t.Parallel()
	r := reviewer(t)
	for name, text := range map[string]string{
		"nothing":               `{}`,
		"lists for objects":     `{"kind":"StatefulSet","metadata":[],"spec":[]}`,
		"texts for lists":       `{"kind":"StatefulSet","spec":{"template":{"spec":{"containers":"x","volumes":{"a":1},"initContainers":[1,null,{"name":2}]}},"volumeClaimTemplates":{"a":"b"}}}`,
		"a broken memory":       `{"kind":"StatefulSet","metadata":{"annotations":{"metamorph.dev/role":"kafka","metamorph.dev/source":"[","metamorph.dev/settings":"{\"heap\":3}"}}}`,
		"an unknown role":       `{"kind":"StatefulSet","metadata":{"annotations":{"metamorph.dev/role":"connect","metamorph.dev/source":"{}"}}}`,
		"huge numbers":          `{"kind":"StatefulSet","spec":{"replicas":9223372036854775807,"template":{"spec":{"containers":[{"name":"kafka","resources":{"limits":{"memory":"99999999999999999999999Ei","cpu":"-1","a":[7],"b":{}}}}]}}}}`,
		"deep":                  `{"kind":"StatefulSet","spec":` + strings.Repeat(`{"a":`, 500) + `1` + strings.Repeat(`}`, 500) + `}`,
		"an image that is none": `{"kind":"StatefulSet","spec":{"template":{"spec":{"containers":[{"name":"kafka","image":"::::"},{"name":"kafka"}]}}}}`,
		"ten megabytes":         `{"kind":"StatefulSet","metadata":{"annotations":{"x":"` + strings.Repeat("x", 10<<20) + `"}}}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			obj, err := mutate.Decode([]byte(text))
			if err != nil {
				t.Fatal(err)
			}
			for _, op := range []policy.Operation{policy.Create, policy.Update, policy.Scale, policy.Delete, policy.AuditRun} {
				for _, f := range r.Review(context.Background(), request(op, obj, obj)) {
					if f.Error && !strings.Contains(f.Message, "it took too long") {
						t.Errorf("%s: %s", op, f.Message)
					}
				}
			}
		})
	}
}

func TestDocuments(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		object string
		kinds  string // where it is found afterwards, or the error
	}{
		"a StorageClass":                 {`{"apiVersion":"storage.k8s.io/v1","kind":"StorageClass","metadata":{"name":"a"},"reclaimPolicy":"Retain","parameters":{"key":"x"}}`, "1"},
		"a StatefulSet that is not ours": {`{"apiVersion":"apps/v1","kind":"StatefulSet","metadata":{"name":"a"}}`, "0"},
		"a Secret without certificate":   {`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"data":{"password":"eA=="}}`, "0"},
		"a broken certificate":           {`{"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"data":{"tls.crt":"!"}}`, "data[tls.crt] is not base64"},
		"a kind that is not looked at":   {`{"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"}}`, "0"},
		"no name":                        {`{"apiVersion":"v1","kind":"Namespace"}`, "metadata.name is missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			obj, err := mutate.Decode([]byte(test.object))
			if err != nil {
				t.Fatal(err)
			}
			inv := &policy.Inventory{}
			_, err = review.Observe(inv, obj)
			got := "0"
			if err != nil {
				got = err.Error()
			} else if inv.Len() == 1 {
				got = "1"
			}
			if got != test.kinds {
				t.Errorf("got %q, want %q", got, test.kinds)
			}
		})
	}
}

// TestAllocations holds the built-in library to a budget on the three-line manifest: 5,000 allocations.
func TestAllocations(t *testing.T) {
	if raced {
		t.Skip("the race detector allocates, too")
	}
	r, req := reviewer(t), threeLines(t)
	if got := testing.AllocsPerRun(20, func() { r.Review(context.Background(), req) }); got > 5000 {
		t.Errorf("%v allocations", got)
	}
}
