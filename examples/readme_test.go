package examples_test

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
)

// The README shows what is applied and an excerpt of what becomes of it. Both must be true.
func TestReadmeIsTrue(t *testing.T) {
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := strings.Split(string(readme), "```yaml\n")
	if len(blocks) != 3 {
		t.Fatalf("the README has %d blocks of YAML, want the manifest and the excerpt", len(blocks)-1)
	}
	parse := func(block string) (out map[string]any) {
		text, _, _ := strings.Cut(block, "```")
		if err := yaml.UnmarshalStrict([]byte(text), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if diff := cmp.Diff(documents(t, "kafka.yaml")[0], parse(blocks[1])); diff != "" {
		t.Errorf("the manifest is not that of examples/kafka.yaml (-want +got):\n%s", diff)
	}
	for _, set := range expand(t, "kafka.yaml") {
		// What is stored has the API server's own defaults too.
		apidefaults.Apply(set.out.Object)
		var whole any
		if err := yaml.Unmarshal(marshal(t, set.out.Object), &whole); err != nil {
			t.Fatal(err)
		}
		for _, missing := range notIn(parse(blocks[2]), whole, "") {
			t.Error("the excerpt is not what Expand makes:", missing)
		}
	}
}

// notIn tells which parts of an excerpt do not stand in the whole: the fields of an object, the elements of a list, the
// lines of a text (but its comments).
func notIn(excerpt, whole any, path string) []string {
	switch e := excerpt.(type) {
	case map[string]any:
		w, ok := whole.(map[string]any)
		if !ok {
			return []string{path + " is no object"}
		}
		var out []string
		for k, v := range e {
			out = append(out, notIn(v, w[k], path+"."+k)...)
		}
		return out
	case []any:
		list, _ := whole.([]any)
		var out []string
		for i, v := range e {
			// Of the elements that it could be, the nearest.
			nearest := []string{fmt.Sprintf("%s[%d] is not there", path, i)}
			for j, w := range list {
				if missing := notIn(v, w, fmt.Sprintf("%s[%d]", path, i)); j == 0 || len(missing) < len(nearest) {
					nearest = missing
				}
			}
			out = append(out, nearest...)
		}
		return out
	case string:
		w, _ := whole.(string)
		if !strings.Contains(e, "\n") {
			break
		}
		var out []string
		for line := range strings.Lines(e) {
			if !strings.HasPrefix(line, "#") && !strings.Contains("\n"+w, "\n"+line) {
				out = append(out, path+": "+strings.TrimSpace(line))
			}
		}
		return out
	}
	if excerpt != whole {
		return []string{fmt.Sprintf("%s is %v, the README has %v", path, whole, excerpt)}
	}
	return nil
}
