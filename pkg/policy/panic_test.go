package policy

import (
	"context"
	"strings"
	"testing"

	"github.com/open-policy-agent/opa/v1/ast"
)

// TestPanic holds that a policy which makes OPA panic is a policy error of this request, and no more: the others are asked.
func TestPanic(t *testing.T) {
	t.Parallel()
	rego := func(code, pkg string) string {
		return "# METADATA\n# title: a test\n# custom:\n#   code: " + code + "\npackage acme." + pkg + "\n\ndeny contains \"found\" if input.role == \"kafka\"\n"
	}
	b, err := (&Loader{}).Load(&Source{Name: "test", Files: map[string]string{"a.rego": rego("ACME-1", "a"), "b.rego": rego("ACME-2", "b")}})
	if err != nil {
		t.Fatal(err)
	}
	b.Policies[0].program.input = func(*View) *ast.Term { panic("a value of the object's") }
	set, err := NewSet([]*Bundle{b})
	if err != nil {
		t.Fatal(err)
	}
	var details string
	view := NewView(Input{Operation: Create, Role: "kafka", Object: map[string]any{"kind": "StatefulSet"}})
	got := set.Evaluate(context.Background(), view, Options{Failed: func(_ *Policy, err error) { details = err.Error() }})
	if len(got) != 2 || got[0].Code != "ACME-2" || got[1].Code != ErrorCode || got[1].Action != Deny || !strings.HasSuffix(got[1].Message, "could not be evaluated: OPA panicked") {
		t.Errorf("got %+v", got)
	}
	if !strings.Contains(details, "panic_test.go") {
		t.Errorf("the details have no stack:\n%s", details)
	}
}
