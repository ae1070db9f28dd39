package policy_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

// applying is how many of the policies apply to the object, however many are loaded.
const applying = 10

// many loads n policies. Those that do not apply are for another role, kind, operation or namespace.
func many(tb testing.TB, n int) *policy.Set {
	tb.Helper()
	others := []string{"roles: [zookeeper]", "kinds: [Deployment]", "operations: [DELETE]", "namespaces: [team-*]", "roles: [plain]"}
	files := map[string]string{}
	for i := range n {
		match := "roles: [kafka]"
		if i >= applying {
			match = others[i%len(others)]
		}
		files[fmt.Sprintf("p%d.rego", i)] = fmt.Sprintf(`# METADATA
# title: too few replicas
# custom: {code: TEST-%[1]d, severity: warn, match: {%[2]s}}
package growth.p%[1]d

deny contains sprintf("replicas is %%d, and %%s wants %[1]d more", [input.replicas, name]) if {
	some name, container in input.containers
	container.image.registry == "docker.io"
	input.replicas < 3
}
`, i, match)
	}
	bundle, err := new(policy.Loader).Load(&policy.Source{Name: "test", Files: files})
	if err != nil {
		tb.Fatal(err)
	}
	set, err := policy.NewSet([]*policy.Bundle{bundle})
	if err != nil {
		tb.Fatal(err)
	}
	return set
}

// judge evaluates a set for a small Kafka.
func judge(tb testing.TB, set *policy.Set) {
	tb.Helper()
	view := policy.NewView(policy.Input{
		Operation: policy.Create, Role: "kafka", Namespace: policy.Namespace{Name: "shop"}, Now: time.Unix(1800000000, 0),
		Object: map[string]any{
			"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": map[string]any{"name": "events", "namespace": "shop"},
			"spec": map[string]any{
				"replicas": int64(1),
				"template": map[string]any{"spec": map[string]any{"containers": []any{map[string]any{"name": "kafka", "image": "apache/kafka:4.3.1"}}}},
			},
		},
	})
	if findings := set.Evaluate(context.Background(), view, policy.Options{}); len(findings) != applying {
		tb.Fatalf("%d findings, want %d: %v", len(findings), applying, findings)
	}
}

var growth = []int{30, 300, 1000}

// BenchmarkGrowth measures what policies cost that do not apply.
func BenchmarkGrowth(b *testing.B) {
	for _, n := range growth {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			set := many(b, n)
			b.ReportAllocs()
			for b.Loop() {
				judge(b, set)
			}
		})
	}
}

// TestGrowth holds the index to its purpose: policies that do not apply cost next to nothing.
func TestGrowth(t *testing.T) {
	counts := map[int]float64{}
	for _, n := range growth {
		set := many(t, n)
		counts[n] = testing.AllocsPerRun(20, func() { judge(t, set) })
	}
	t.Logf("allocations by number of policies: %v", counts)
	if few, lots := counts[growth[0]], counts[growth[len(growth)-1]]; lots > 1.2*few {
		t.Errorf("%.0f allocations with 1,000 policies and %.0f with 30; want at most a fifth more", lots, few)
	}
}
