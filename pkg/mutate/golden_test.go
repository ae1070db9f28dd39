package mutate_test

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
)

var update = flag.Bool("update", false, "write the golden files anew")

// manifests are the StatefulSets of a file of YAML documents, as JSON.
func manifests(tb testing.TB, file string) [][]byte {
	tb.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		tb.Fatal(err)
	}
	var out [][]byte
	for r := utilyaml.NewYAMLReader(bufReader(raw)); ; {
		doc, err := r.Read()
		if errors.Is(err, io.EOF) {
			return out
		}
		if err != nil {
			tb.Fatal(err)
		}
		j, err := yaml.YAMLToJSONStrict(doc)
		if err != nil {
			tb.Fatalf("%s: %v", file, err)
		}
		if bytes.Contains(j, []byte(`"kind":"StatefulSet"`)) {
			out = append(out, j)
		}
	}
}

// TestGolden expands every example, and the cases in testdata/golden, offline. A test against a real API server holds the
// same files.
func TestGolden(t *testing.T) {
	t.Parallel()
	examples, _ := filepath.Glob("../../examples/*.yaml")
	cases, _ := filepath.Glob("testdata/golden/*.in.yaml")
	if len(examples) < 3 || len(cases) < 3 {
		t.Fatalf("%d examples, %d cases", len(examples), len(cases))
	}
	for _, file := range append(examples, cases...) {
		name := strings.TrimSuffix(strings.TrimSuffix(filepath.Base(file), ".yaml"), ".in")
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			for _, raw := range manifests(t, file) {
				in := expanderInput(raw)
				in.Profiles = map[string]map[string]string{"analytics": {"memory": "16Gi", "cpu": "4", "storage": "1Ti", "retention": "30d", "metrics": "true"}}
				out, err := mutate.Expand(in)
				if err != nil {
					t.Fatal(err)
				}
				text, err := yaml.Marshal(out.Object)
				if err != nil {
					t.Fatal(err)
				}
				got.WriteString("---\n")
				for _, w := range out.Warnings {
					got.WriteString("# Warning: " + w.String() + "\n")
				}
				got.Write(text)
				checkExpansion(t, raw, out)
				nothingLost(t, raw, out.Object)
			}
			if got.Len() == 0 {
				t.Skip("no StatefulSet in it")
			}
			golden := "testdata/golden/" + name + ".out.yaml"
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatalf("%v (write it with -update)", err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("expansion (-want +got; -update writes it anew):\n%s", diff)
			}
		})
	}
}
