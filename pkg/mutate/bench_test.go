package mutate_test

import (
	"os"
	"testing"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
)

// maxAllocations is the budget of one expansion with its patch. Time is reported, not gated: it depends on the machine.
const maxAllocations = 4000

func threeLines(tb testing.TB) mutate.Input {
	tb.Helper()
	raw, err := os.ReadFile("testdata/requests/kubectl-apply.json")
	if err != nil {
		tb.Fatal(err)
	}
	return mutate.Input{Object: requestObject(tb, raw), Namespace: mutate.Namespace{Name: "default"}, ClusterUID: "uid", Typed: true, Version: "v0.0.0"}
}

func expandAndPatch(tb testing.TB, in mutate.Input) []byte {
	tb.Helper()
	out, err := mutate.Expand(in)
	if err != nil {
		tb.Fatal(err)
	}
	return out.Patch()
}

// BenchmarkExpand measures the expansion of the three-line manifest, as kubectl apply brings it to the webhook, and its
// patch.
func BenchmarkExpand(b *testing.B) {
	in := threeLines(b)
	b.ReportAllocs()
	for b.Loop() {
		b.SetBytes(int64(len(expandAndPatch(b, in))))
	}
}

func TestAllocations(t *testing.T) {
	in := threeLines(t)
	if n := testing.AllocsPerRun(20, func() { expandAndPatch(t, in) }); n > maxAllocations {
		t.Errorf("an expansion with its patch takes %.0f allocations, the budget is %d", n, maxAllocations)
	}
}
