package review_test

import (
	"context"
	"os"
	"testing"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
	"github.com/metamorph-k8s/metamorph/policies"
)

// reviewer has the built-in library.
func reviewer(tb testing.TB) *review.Reviewer {
	tb.Helper()
	bundle, err := library().Load(policies.Source())
	if err != nil {
		tb.Fatal(err)
	}
	set, err := policy.NewSet([]*policy.Bundle{bundle})
	if err != nil {
		tb.Fatal(err)
	}
	r := &review.Reviewer{Engine: &policy.Engine{Inventory: &policy.Inventory{}}, Version: "v1.0.0"}
	r.Engine.Use(set)
	return r
}

func library() *policy.Loader {
	return policies.Loader()
}

// threeLines is the request to create the shortest manifest.
func threeLines(tb testing.TB) *review.Request {
	tb.Helper()
	return create(tb, "../../examples/kafka.yaml")
}

func create(tb testing.TB, file string) *review.Request {
	tb.Helper()
	text, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	raw, err := yaml.YAMLToJSON(text)
	if err != nil {
		tb.Fatal(err)
	}
	out, err := mutate.Expand(mutate.Input{Object: raw, Namespace: mutate.Namespace{Name: "default"}, ClusterUID: "u", Version: "v1.0.0"})
	if err != nil {
		tb.Fatal(err)
	}
	return &review.Request{
		Operation: policy.Create, Object: mutate.Defaulted(out.Object), Typed: true, Namespace: policy.Namespace{Name: "default"},
		Now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

// BenchmarkReview measures the built-in library on the three-line Kafka manifest, from the stored object to the findings;
// plain is with OPA's rule indexing and early exit switched off.
func BenchmarkReview(b *testing.B) {
	for name, naive := range map[string]bool{"usual": false, "naive": true} {
		b.Run(name, func(b *testing.B) {
			r, req := reviewer(b), threeLines(b)
			r.Options.Naive = naive
			b.ReportAllocs()
			b.ReportMetric(float64(len(r.Engine.Set().Policies)), "policies")
			for b.Loop() {
				if findings := r.Review(context.Background(), req); policy.Worst(findings) >= policy.Deny {
					b.Fatal(findings)
				}
			}
		})
	}
}

// BenchmarkPolicy measures every policy of the library by itself, less what the view costs.
func BenchmarkPolicy(b *testing.B) {
	r, req := reviewer(b), threeLines(b)
	for _, p := range append([]*policy.Policy{{Name: "none", Code: "none"}}, r.Engine.Set().Policies...) {
		b.Run(p.Name, func(b *testing.B) {
			r.Options.Only = map[string]bool{p.Code: true}
			b.ReportAllocs()
			for b.Loop() {
				r.Review(context.Background(), req)
			}
		})
	}
}
