package policy_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

const header = `# METADATA
# title: a test
# custom:
#   code: ACME-1
package acme.test

`

func load(files map[string]string) (*policy.Bundle, error) {
	return (&policy.Loader{Schema: policy.InputSchema()}).Load(&policy.Source{Name: "test", Files: files})
}

// TestLoadRefuses holds that what would find nothing, or could do what a policy must not, is refused with file and line.
func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		rego string
		want string
	}{
		"a syntax error":             {header + "deny contains msg if {\n", "p.rego:8: rego_parse_error"},
		"an empty file":              {"", "p.rego: rego_parse_error: empty module"},
		"binary":                     {"\x00\xff\xfe", "p.rego:"},
		"a misspelt entrypoint":      {header + "dney contains \"a\" if input.role == \"kafka\"\n", "p.rego:5: has no rule deny, violation or warn, with or without a _suffix; dney is none"},
		"one of two misspelt":        {header + "deny contains \"a\" if input.role == \"x\"\n\nwran contains \"b\" if input.role == \"y\"\n", "p.rego:9: the rule wran is used by nothing; did you mean warn?"},
		"a rule that nothing uses":   {header + "deny contains \"a\" if input.role == \"x\"\n\nhelper := 1\n", "p.rego:9: the rule helper is used by nothing"},
		"an entrypoint that is none": {header + "deny := true if input.role == \"kafka\"\n", "p.rego:7: deny must be a set of messages"},
		"an object of results":       {header + "deny[x] := 1 if some x in [1]\n", "p.rego:7: deny must be a set of messages"},
		"no METADATA":                {"package acme.test\n\ndeny contains \"a\" if input.role == \"x\"\n", "p.rego:1: has the rule deny and no METADATA with custom.code"},
		"a forbidden builtin":        {header + "deny contains \"a\" if http.send({\"method\": \"get\", \"url\": \"http://x\"}).status_code == 200\n", "p.rego:7: rego_type_error: undefined function http.send"},
		"the clock":                  {header + "deny contains \"a\" if time.now_ns() > 0\n", "undefined function time.now_ns"},
		"the environment":            {header + "deny contains \"a\" if opa.runtime().env.HOME == \"x\"\n", "undefined function opa.runtime"},
		"chance":                     {header + "deny contains \"a\" if rand.intn(\"x\", 2) == 1\n", "undefined function rand.intn"},
		"a resolver":                 {header + "deny contains \"a\" if net.lookup_ip_addr(\"x\") == {\"a\"}\n", "undefined function net.lookup_ip_addr"},
		"a schema from elsewhere":    {header + "deny contains \"a\" if json.match_schema(input.object, {\"$ref\": \"http://x\"})[0]\n", "undefined function json.match_schema"},
		"no such input":              {header + "deny contains \"a\" if input.objct.kind == \"x\"\n", "p.rego:7: rego_type_error: undefined ref: input.objct.kind"},
		"recursion":                  {header + "deny contains \"a\" if f(1)\n\nf(x) if f(x)\n", "rego_recursion_error"},
		"an unused variable":         {header + "deny contains \"a\" if {\n\tx := input.role\n}\n", "assigned var x unused"},
		"Rego v0":                    {header + "deny[msg] { msg := \"a\" }\n", "p.rego:7: rego_parse_error"},
		"an unknown key":             {strings.Replace(header, "code:", "sevrity: deny\n#   code:", 1) + "deny contains \"a\" if input.role == \"x\"\n", `p.rego:1: METADATA: custom: unknown field "sevrity"`},
		"an unknown action":          {strings.Replace(header, "code:", "severity: refuse\n#   code:", 1) + "deny contains \"a\" if input.role == \"x\"\n", `"refuse" is not an action; allowed: off, audit, warn, deny`},
		"an unknown operation":       {strings.Replace(header, "code:", "match: {operations: [PATCH]}\n#   code:", 1) + "deny contains \"a\" if input.role == \"x\"\n", `custom.match.operations: "PATCH"; allowed: CREATE`},
		"a glob that is none":        {strings.Replace(header, "code:", "match: {namespaces: [\"[\"]}\n#   code:", 1) + "deny contains \"a\" if input.role == \"x\"\n", `the glob "[" cannot be read`},
		"no title":                   {strings.Replace(header, "# title: a test\n", "", 1) + "deny contains \"a\" if input.role == \"x\"\n", "title: is missing"},
		"a code of Metamorph's":      {strings.Replace(header, "ACME-1", "MM301", 1) + "deny contains \"a\" if input.role == \"x\"\n", "codes that begin with MM and a digit are Metamorph's own"},
		"a code that is none":        {strings.Replace(header, "ACME-1", "acme 1", 1) + "deny contains \"a\" if input.role == \"x\"\n", `custom.code: "acme 1"`},
		"a wrong default": {
			strings.Replace(header, "code:", "parameters: {most: {type: integer, description: Most., default: many}}\n#   code:", 1) + "deny contains \"a\" if data.parameters.most > 1\n",
			"custom.parameters.most: the default:",
		},
		"a parameter without default": {
			strings.Replace(header, "code:", "parameters: {most: {type: integer, description: Most.}}\n#   code:", 1) + "deny contains \"a\" if data.parameters.most > 1\n",
			"custom.parameters.most: a default is missing",
		},
		"a parameter's schema from elsewhere": {
			strings.Replace(header, "code:", "parameters: {most: {$ref: \"http://x/y\", description: Most., default: 1}}\n#   code:", 1) + "deny contains \"a\" if data.parameters.most > 1\n",
			"a schema cannot refer to another document",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := load(map[string]string{"p.rego": test.rego})
			var problems policy.Problems
			if !errors.As(err, &problems) {
				t.Fatalf("got %v, want problems", err)
			}
			if !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %q, want it to contain %q", err, test.want)
			}
			for _, p := range problems {
				if p.File != "p.rego" {
					t.Errorf("the problem %q names no file", p)
				}
			}
		})
	}
}

func TestLoadRefusesSources(t *testing.T) {
	t.Parallel()
	good := header + "deny contains \"a\" if input.role == \"x\"\n"
	for name, test := range map[string]struct {
		files map[string]string
		want  string
	}{
		"no file":            {nil, "test: holds no .rego file"},
		"one code twice":     {map[string]string{"a.rego": good, "b.rego": strings.Replace(good, "acme.test", "acme.other", 1)}, "b.rego:1: the code ACME-1 is that of a.rego already"},
		"a huge file":        {map[string]string{"a.rego": good + strings.Repeat("#", 2<<20)}, "a.rego: is too large"},
		"a good and a bad":   {map[string]string{"a.rego": good, "b.rego": "package"}, "b.rego:1: rego_parse_error"},
		"somebody's library": {map[string]string{"a.rego": strings.Replace(good, "acme.test", "metamorph.lib", 1)}, "is Metamorph's own"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := &policy.Loader{Libraries: &policy.Source{Name: "lib", Files: map[string]string{"lib.rego": "package metamorph.lib\n\none := 1\n"}}}
			_, err := l.Load(&policy.Source{Name: "test", Files: test.files})
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Errorf("got %v, want it to contain %q", err, test.want)
			}
		})
	}
}

func TestLoad(t *testing.T) {
	t.Parallel()
	b, err := load(map[string]string{
		"p.rego": `# METADATA
# title: too many
# description: Because.
# custom:
#   code: ACME-2
#   severity: warn
#   profiles: {dev: off, production: deny}
#   onError: audit
#   fix: Fewer.
#   match: {roles: [kafka, plain], operations: [CREATE, SCALE], excludedNamespaces: [sandbox-*]}
#   parameters: {most: {type: integer, default: 7, description: The most.}}
package acme.many

deny contains "a" if input.replicas > data.parameters.most
violation_more contains {"msg": "b"} if input.replicas > 100
warn_some contains sprintf("%d", [input.replicas]) if input.replicas > 3
`,
		"p_test.rego": "package acme.many_test\n\ntest_nothing if true\n",
	})
	if err != nil {
		t.Fatal(err)
	}
	audit := policy.Audit
	want := []*policy.Policy{{
		Code: "ACME-2", Name: "many", Source: "test", File: "p.rego", Line: 1, Title: "too many", Why: "Because.", Fix: "Fewer.", Severity: policy.Warn, Warns: true,
		Profiles: map[string]policy.Action{"dev": policy.Off, "production": policy.Deny}, OnError: &audit,
		Match: policy.Match{
			Kinds: []string{"StatefulSet"}, Operations: []policy.Operation{policy.Create, policy.Scale}, Roles: []string{"kafka", "plain"},
			ExcludedNamespaces: []string{"sandbox-*"},
		},
		Parameters: map[string]policy.Parameter{"most": {Description: "The most.", Schema: b.Policies[0].Parameters["most"].Schema, Default: b.Policies[0].Parameters["most"].Default}},
	}}
	if diff := cmp.Diff(want, b.Policies, cmp.FilterPath(func(p cmp.Path) bool { return p.Last().String() == ".program" }, cmp.Ignore())); diff != "" {
		t.Errorf("policies (-want +got)\n%s", diff)
	}
}

// FuzzLoad holds that no text makes the loader panic.
func FuzzLoad(f *testing.F) {
	f.Add(header + "deny contains \"a\" if input.role == \"x\"\n")
	f.Add("# METADATA\n# custom: {code: [1]}\npackage a\n")
	f.Add("# METADATA\n# scope: package\n# custom: {code: A1, match: {kinds: 1}}\npackage a\n\ndeny contains {} if true\n")
	f.Add("package a\nimport data.metamorph.lib\ndeny contains x if x := lib.bytes(\"1Gi\")")
	f.Fuzz(func(_ *testing.T, text string) {
		_, _ = load(map[string]string{"p.rego": text})
	})
}

// FuzzParseConfig holds that no text makes the configuration's reader panic, and that what it takes can be used.
func FuzzParseConfig(f *testing.F) {
	f.Add("policies: {ACME-1: {action: warn, parameters: {most: 3}}}\nexceptions: [{policy: ACME-1, reason: r, expires: 2027-01-01}]")
	f.Add("policies: {ACME-1: {namespaces: {'a*': off}}}")
	f.Add("exceptions: [{policy: [], reason: &a {}, expires: *a}]")
	b, err := load(map[string]string{"p.rego": header + "deny contains \"a\" if input.role == \"x\"\n"})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(_ *testing.T, text string) {
		if c, err := policy.ParseConfig("test", "c.yaml", []byte(text)); err == nil {
			_, _ = policy.NewSet([]*policy.Bundle{b}, c)
		}
	})
}
