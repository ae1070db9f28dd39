package policy_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

var day = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// view is of a creation of a StatefulSet of three kafka nodes, with one container that has a variable.
func view(change ...func(*policy.Input)) *policy.View {
	in := policy.Input{
		Operation: policy.Create, Role: "kafka", Namespace: policy.Namespace{Name: "shop"}, Now: day,
		Object: map[string]any{
			"kind": "StatefulSet", "metadata": map[string]any{"name": "events"},
			"spec": map[string]any{"replicas": int64(3), "template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{
				"name": "kafka", "image": "apache/kafka:4.3.1", "env": []any{map[string]any{"name": "SIZE", "value": "5 GiB"}},
			}}}}},
		},
	}
	for _, c := range change {
		c(&in)
	}
	return policy.NewView(in)
}

func set(tb testing.TB, rego string, configs ...*policy.Config) *policy.Set {
	tb.Helper()
	b, err := load(map[string]string{"p.rego": rego})
	if err != nil {
		tb.Fatal(err)
	}
	s, err := policy.NewSet([]*policy.Bundle{b}, configs...)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// TestEvaluateFails holds that a policy that cannot be evaluated is a finding with the policy's action, and never silence.
func TestEvaluateFails(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rule string
		want string
	}{
		"a builtin that fails":      {`deny contains "a" if to_number(input.containers.kafka.env.SIZE) > 3`, "a builtin function failed (p.rego:7)"},
		"a builtin of another type": {"deny contains \"a\" if startswith(input.object.spec.replicas, \"x\")", "a builtin function got another type (p.rego:7)"},
		"rules that contradict":     {"deny contains \"a\" if f == 1\n\nf := 1 if input.role == \"kafka\"\n\nf := 2 if input.replicas == 3", "rules contradict each other (p.rego:"},
		"an endless loop": {
			"deny contains \"a\" if {\n\tsome i, j, k\n\tx := numbers.range(1, 10000)\n\tx[i] * x[j] * x[k] == 0\n}", "it took too long",
		},
		"a result without message": {`deny contains {"field": "x"} if input.role == "kafka"`, "deny: a result has no msg"},
		"a number":                 {`deny contains 7 if input.role == "kafka"`, "deny: a result is a number"},
		"a message that is none":   {`deny contains {"msg": 7} if input.role == "kafka"`, "deny: the result's msg is no string"},
		"a fix that is none":       {`deny contains {"msg": "a", "fix": {"b": 1}} if input.role == "kafka"`, "deny: the result's fix is no string"},
		"half found": {
			"deny contains \"a\" if input.role == \"kafka\"\n\ndeny contains \"b\" if to_number(input.containers.kafka.env.SIZE) > 3", "a builtin function failed",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var details error
			got := set(t, header+test.rule+"\n").Evaluate(context.Background(), view(), policy.Options{
				Budget: 50 * time.Millisecond, Failed: func(_ *policy.Policy, err error) { details = err },
			})
			if len(got) != 1 || !got[0].Error || got[0].Code != policy.ErrorCode || got[0].Action != policy.Deny {
				t.Fatalf("got %+v, want one policy error that denies", got)
			}
			if want := "the policy ACME-1 (test) could not be evaluated: " + test.want; !strings.HasPrefix(got[0].Message, want) {
				t.Errorf("got %q, want %q", got[0].Message, want)
			}
			if strings.Contains(got[0].Message, "GiB") {
				t.Errorf("the message %q has a value of the object's", got[0].Message)
			}
			if details == nil {
				t.Error("the details were told to nobody")
			}
		})
	}
}

func TestEvaluateFailsOnlyItself(t *testing.T) {
	t.Parallel()
	b, err := load(map[string]string{
		"a.rego": header + "deny contains \"a\" if {\n\tsome i, j, k\n\tx := numbers.range(1, 10000)\n\tx[i] * x[j] * x[k] == 0\n}\n",
		"b.rego": strings.NewReplacer("ACME-1", "ACME-2", "acme.test", "acme.other").Replace(header) + "deny contains \"b\" if input.role == \"kafka\"\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	s, err := policy.NewSet([]*policy.Bundle{b})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range s.Evaluate(context.Background(), view(), policy.Options{Budget: 20 * time.Millisecond}) {
		got = append(got, f.Code)
	}
	if diff := cmp.Diff([]string{"ACME-2", "MM300"}, got); diff != "" {
		t.Errorf("codes (-want +got)\n%s", diff)
	}
}

func TestEvaluateAfterTheRequest(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	got := set(t, header+"deny contains \"a\" if input.role == \"kafka\"\n").Evaluate(ctx, view(), policy.Options{})
	if len(got) != 1 || !got[0].Error {
		t.Errorf("got %+v, want a policy error: what was not asked has not passed", got)
	}
}

// TestActions holds what follows from a finding, by configuration.
func TestActions(t *testing.T) {
	t.Parallel()
	const rego = `# METADATA
# title: a test
# custom:
#   code: ACME-1
#   severity: deny
#   profiles: {dev: warn}
package acme.test

deny contains "d" if input.role == "kafka"

warn contains "w" if input.role == "kafka"
`
	config := func(text string) *policy.Config {
		c, err := policy.ParseConfig("test", "config.yaml", []byte(text))
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	for name, test := range map[string]struct {
		config string
		change func(*policy.Input)
		want   map[string]string
	}{
		"as the policy says":            {"", nil, map[string]string{"d": "deny", "w": "warn"}},
		"as it says for the profile":    {"", func(in *policy.Input) { in.Profile = "dev" }, map[string]string{"d": "warn", "w": "warn"}},
		"tuned":                         {"policies: {ACME-1: {action: audit}}", nil, map[string]string{"d": "audit", "w": "audit"}},
		"tuned by name":                 {"policies: {test: {action: warn}}", nil, map[string]string{"d": "warn", "w": "warn"}},
		"tuned beats the profile's":     {"policies: {ACME-1: {action: deny}}", func(in *policy.Input) { in.Profile = "dev" }, map[string]string{"d": "deny", "w": "warn"}},
		"tuned for the profile":         {"policies: {ACME-1: {action: deny, profiles: {dev: audit}}}", func(in *policy.Input) { in.Profile = "dev" }, map[string]string{"d": "audit", "w": "audit"}},
		"tuned for the namespace":       {"policies: {ACME-1: {action: audit, namespaces: {shop: deny, s*: warn}}}", nil, map[string]string{"d": "deny", "w": "warn"}},
		"the longest glob":              {"policies: {ACME-1: {namespaces: {'*': audit, sh*: warn}}}", nil, map[string]string{"d": "warn", "w": "warn"}},
		"off":                           {"policies: {ACME-1: {action: off}}", nil, map[string]string{}},
		"an exception":                  {"exceptions: [{policy: ACME-1, namespace: shop, object: ev*, reason: r, expires: 2026-02-01}]", nil, map[string]string{"d": "audit r", "w": "audit r"}},
		"an exception that is over":     {"exceptions: [{policy: ACME-1, reason: r, expires: 2026-01-01}]", nil, map[string]string{"d": "deny", "w": "warn"}},
		"an exception of another's":     {"exceptions: [{policy: ACME-1, object: other, reason: r, expires: 2026-02-01}]", nil, map[string]string{"d": "deny", "w": "warn"}},
		"an exception to the hour":      {"exceptions: [{policy: test, reason: r, expires: 2026-01-01T00:00:01Z}]", nil, map[string]string{"d": "audit r", "w": "audit r"}},
		"another role":                  {"", func(in *policy.Input) { in.Role = "zookeeper" }, map[string]string{}},
		"another operation":             {"", func(in *policy.Input) { in.Operation = policy.Delete }, map[string]string{}},
		"an audit":                      {"", func(in *policy.Input) { in.Operation = policy.AuditRun }, map[string]string{"d": "deny", "w": "warn"}},
		"an object that nobody manages": {"", func(in *policy.Input) { in.Role = "" }, map[string]string{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := map[string]string{}
			change := test.change
			if change == nil {
				change = func(*policy.Input) {}
			}
			for _, f := range set(t, rego, config(test.config)).Evaluate(context.Background(), view(change), policy.Options{}) {
				got[f.Message] = f.Action.String()
				if f.Exception != nil {
					got[f.Message] += " " + f.Exception.Reason
				}
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("actions (-want +got)\n%s", diff)
			}
		})
	}
}

func TestParameters(t *testing.T) {
	t.Parallel()
	rego := strings.Replace(header, "code:", "parameters: {most: {type: integer, minimum: 1, description: Most., default: 5}}\n#   code:", 1) +
		"deny contains sprintf(\"more than %d\", [data.parameters.most]) if input.replicas > data.parameters.most\n"
	b, err := load(map[string]string{"p.rego": rego})
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		value any
		want  string
	}{
		"the default":     {nil, ""},
		"tuned":           {2, "more than 2"},
		"another type":    {"two", "error: policies[ACME-1].parameters[most]: got string, want integer"},
		"out of range":    {0, "error: policies[ACME-1].parameters[most]: minimum: got 0, want 1"},
		"not JSON":        {func() {}, "error: policies[ACME-1].parameters[most]: json: unsupported type: func()"},
		"of another name": {map[string]any{"least": 1}, "error: policies[ACME-1].parameters[least]: there is no such parameter; allowed: most"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &policy.Config{Policies: map[string]policy.Tuning{"ACME-1": {}}}
			switch v := test.value.(type) {
			case nil:
			case map[string]any:
				c.Policies["ACME-1"] = policy.Tuning{Parameters: v}
			default:
				c.Policies["ACME-1"] = policy.Tuning{Parameters: map[string]any{"most": v}}
			}
			got := ""
			s, err := policy.NewSet([]*policy.Bundle{b}, c)
			if err != nil {
				got = "error: " + strings.TrimPrefix(err.Error(), "configuration: ")
			} else if f := s.Evaluate(context.Background(), view(), policy.Options{}); len(f) > 0 {
				got = f[0].Message
			}
			if got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestParseConfigRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct{ text, want string }{
		"not YAML":            {"policies: [", "c.yaml:1: "},
		"a list":              {"- a", "c.yaml:1: cannot unmarshal !!seq"},
		"an unknown field":    {"policies: {}\npolicy: {}", "c.yaml:2: field policy not found; allowed: policies, exceptions"},
		"an unknown tuning":   {"policies:\n  A1: {actoin: deny}", "c.yaml:2: field actoin not found; allowed: action, profiles, namespaces, onError, parameters"},
		"an unknown action":   {"policies:\n  A1:\n    action: never", "allowed: off, audit, warn, deny"},
		"two documents":       {"policies: {}\n---\npolicies: {}", "holds more than one document"},
		"no policy":           {"exceptions: [{reason: a, expires: 2026-01-01}]", "exceptions[0]: policy is missing"},
		"no reason":           {"exceptions: [{policy: A1, expires: 2026-01-01}]", "exceptions[0]: reason is missing"},
		"no end":              {"exceptions: [{policy: A1, reason: a}]", "exceptions[0]: expires is missing; example: 2027-01-31"},
		"a date that is none": {"exceptions: [{policy: A1, reason: a, expires: tomorrow}]", `"tomorrow" is not a date`},
		"a bad glob":          {"exceptions: [{policy: A1, reason: a, expires: 2026-01-01, object: '['}]", `the glob "[" cannot be read`},
		"a duplicate":         {"policies: {}\npolicies: {}", "already defined"},
		"an alias bomb":       {"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\nd: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: &e [*d,*d,*d,*d,*d,*d,*d]\npolicies: {A: {parameters: {p: [*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e,*e]}}}", "c.yaml:"},
		"ten megabytes":       {"policies: {}\n#" + strings.Repeat("x", 10<<20), "is too large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := policy.ParseConfig("test", "c.yaml", []byte(test.text))
			var problems policy.Problems
			if !errors.As(err, &problems) || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// TestInventory holds what policies see of the cluster: a kind that nobody looks at is undefined, and not empty.
func TestInventory(t *testing.T) {
	t.Parallel()
	rego := header + `deny contains "no class" if {
	classes := data.cluster.StorageClass
	not classes.fast
}

deny contains "in another namespace" if {
	some ns, name
	data.cluster.StatefulSet[ns][name].clusterID == "x"
}

deny contains "by index" if data.cluster.LimitRange.shop.limits.spec.limits[0].type == "Pod"
`
	for name, test := range map[string]struct {
		fill func(*policy.Inventory)
		want []string
	}{
		"nothing known":  {func(*policy.Inventory) {}, nil},
		"an empty kind":  {func(i *policy.Inventory) { i.Know("StorageClass") }, []string{"no class"}},
		"another object": {func(i *policy.Inventory) { must(t, i.Put("StorageClass", "", "slow", map[string]any{})) }, []string{"no class"}},
		"the object":     {func(i *policy.Inventory) { must(t, i.Put("StorageClass", "", "fast", map[string]any{})) }, nil},
		"removed again": {func(i *policy.Inventory) {
			must(t, i.Put("StorageClass", "", "fast", map[string]any{}))
			i.Remove("StorageClass", "", "fast")
		}, []string{"no class"}},
		"a part of a kind": {func(i *policy.Inventory) {
			i.Await("StorageClass")
			must(t, i.Put("StorageClass", "", "slow", map[string]any{}))
		}, nil},
		"the rest of it": {func(i *policy.Inventory) {
			i.Await("StorageClass")
			must(t, i.Put("StorageClass", "", "slow", map[string]any{}))
			i.Know("StorageClass")
		}, []string{"no class"}},
		"taken out of nothing": {func(i *policy.Inventory) { i.Remove("StorageClass", "", "slow") }, nil},
		"of all namespaces": {func(i *policy.Inventory) {
			must(t, i.Put("StatefulSet", "bank", "a", map[string]any{"clusterID": "x"}))
		}, []string{"in another namespace"}},
		"a list's element": {func(i *policy.Inventory) {
			must(t, i.Put("LimitRange", "shop", "limits", map[string]any{"spec": map[string]any{"limits": []any{map[string]any{"type": "Pod"}}}}))
		}, []string{"by index"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inv := &policy.Inventory{}
			test.fill(inv)
			var got []string
			for _, f := range set(t, rego).Evaluate(context.Background(), view(), policy.Options{Inventory: inv}) {
				got = append(got, f.Message)
			}
			if diff := cmp.Diff(test.want, got, cmpopts.SortSlices(strings.Compare)); diff != "" {
				t.Errorf("messages (-want +got)\n%s", diff)
			}
		})
	}
}

func must(tb testing.TB, err error) {
	tb.Helper()
	if err != nil {
		tb.Fatal(err)
	}
}

// TestConcurrentReloads evaluates while sets are exchanged and the inventory changes; the race detector watches.
func TestConcurrentReloads(t *testing.T) {
	t.Parallel()
	engine := &policy.Engine{Inventory: &policy.Inventory{}}
	sets := make([]*policy.Set, 4)
	for i := range sets {
		sets[i] = set(t, header+fmt.Sprintf("deny contains \"%d\" if data.cluster.StorageClass.fast.n >= 0\n", i))
	}
	engine.Use(sets[0])
	must(t, engine.Inventory.Put("StorageClass", "", "fast", map[string]any{"n": int64(0)}))
	done := make(chan struct{})
	var reloads sync.WaitGroup
	reloads.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-done:
				return
			default:
				engine.Use(sets[i%len(sets)])
				_ = engine.Inventory.Put("StorageClass", "", "fast", map[string]any{"n": int64(i)})
			}
		}
	})
	var requests sync.WaitGroup
	for range 4 {
		requests.Go(func() {
			for range 200 {
				got := engine.Set().Evaluate(context.Background(), view(), policy.Options{Inventory: engine.Inventory, Budget: time.Minute})
				if len(got) != 1 || got[0].Error {
					t.Errorf("got %+v, want one finding of one set", got)
					return
				}
			}
		})
	}
	requests.Wait()
	close(done)
	reloads.Wait()
}
