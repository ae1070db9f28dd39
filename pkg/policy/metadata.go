package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/santhosh-tekuri/jsonschema/v6"
)

// custom is the part of a METADATA block under its key custom.
type custom struct {
	Code       string                    `json:"code"`
	Severity   *Action                   `json:"severity"`
	Profiles   map[string]Action         `json:"profiles"`
	OnError    *Action                   `json:"onError"`
	Fix        string                    `json:"fix"`
	Match      Match                     `json:"match"`
	Parameters map[string]map[string]any `json:"parameters"`
}

var codePattern = regexp.MustCompile(`^[A-Z][A-Z0-9-]{1,31}$`)

// reservedCodes are those of Metamorph's own policies.
var reservedCodes = regexp.MustCompile(`^MM[0-9]`)

// codeOf is the code in a package's METADATA; empty if it is no policy, or none that can be used.
func codeOf(mod *ast.Module) string {
	for _, a := range mod.Annotations {
		if code, ok := a.Custom["code"].(string); ok && a.Scope == "package" {
			return code
		}
	}
	return ""
}

// describe makes a policy of the METADATA of its package. It is nil, without problems, for a package that is no policy.
func describe(src *Source, mod *ast.Module) (*Policy, []Problem) {
	var at *ast.Annotations
	for _, a := range mod.Annotations {
		if a.Scope == "package" && a.Custom["code"] != nil {
			at = a
		}
	}
	if at == nil {
		return nil, nil
	}
	var problems []Problem
	bad := func(format string, args ...any) {
		problems = append(problems, Problem{Source: src.Name, File: mod.Package.Location.File, Line: at.Location.Row, Message: "METADATA: " + fmt.Sprintf(format, args...)})
	}
	var c custom
	raw, err := json.Marshal(at.Custom)
	if err == nil {
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.DisallowUnknownFields()
		err = dec.Decode(&c)
	}
	if err != nil {
		bad("custom: %s; allowed: code, severity, profiles, onError, fix, match, parameters", strings.TrimPrefix(err.Error(), "json: "))
		return nil, problems
	}
	segments := mod.Package.Path
	name, _ := segments[len(segments)-1].Value.(ast.String)
	p := &Policy{
		Code: c.Code, Name: string(name), Source: src.Name, File: mod.Package.Location.File, Line: at.Location.Row,
		Title: strings.TrimSpace(at.Title), Why: strings.TrimSpace(at.Description), Fix: strings.TrimSpace(c.Fix),
		Profiles: c.Profiles, Match: c.Match, Severity: Deny,
	}
	switch {
	case !codePattern.MatchString(c.Code):
		bad("custom.code: %q; allowed: 2 to 32 of A-Z, 0-9 and -, a letter first; example: ACME-7", c.Code)
	case !src.Builtin && reservedCodes.MatchString(c.Code):
		bad("custom.code: %q: codes that begin with MM and a digit are Metamorph's own; example: ACME-7", c.Code)
	}
	if p.Title == "" {
		bad("title: is missing; say in a few words what is wrong with an object that the policy finds")
	}
	if c.Severity != nil {
		p.Severity = *c.Severity
	}
	p.OnError = c.OnError
	p.complete(bad)
	p.Parameters = parameters(c.Parameters, bad)
	return p, problems
}

// complete fills in what a match leaves out, and checks the rest.
func (p *Policy) complete(bad func(string, ...any)) {
	m := &p.Match
	if len(m.Kinds) == 0 {
		m.Kinds = []string{"StatefulSet"}
	}
	if len(m.Operations) == 0 {
		m.Operations = []Operation{Create, Update}
	}
	for _, o := range m.Operations {
		if !slices.Contains(operations, o) {
			bad("custom.match.operations: %q; allowed: CREATE, UPDATE, DELETE, SCALE, AUDIT", string(o))
		}
	}
	for _, pattern := range slices.Concat(m.Namespaces, m.ExcludedNamespaces) {
		if _, err := path.Match(pattern, ""); err != nil {
			bad("custom.match: the glob %q cannot be read", pattern)
		}
	}
}

func parameters(in map[string]map[string]any, bad func(string, ...any)) map[string]Parameter {
	out := make(map[string]Parameter, len(in))
	for _, name := range slices.Sorted(maps.Keys(in)) {
		schema := in[name]
		p := Parameter{Default: schema["default"], Schema: schema}
		p.Description, _ = schema["description"].(string)
		if p.Description == "" {
			bad("custom.parameters.%s: a description is missing", name)
		}
		if p.Default == nil {
			bad("custom.parameters.%s: a default is missing", name)
		} else if err := p.check(p.Default); err != nil {
			bad("custom.parameters.%s: the default: %v", name, err)
		}
		out[name] = p
	}
	return out
}

// check holds a value against the parameter's schema.
func (p *Parameter) check(value any) error {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	c.UseLoader(noLoader{})
	schema, err := normalJSON(p.Schema)
	if err != nil {
		return err
	}
	if err := c.AddResource("parameter.json", schema); err != nil {
		return fmt.Errorf("its schema: %w", err)
	}
	compiled, err := c.Compile("parameter.json")
	if err != nil {
		return fmt.Errorf("its schema: %w", err)
	}
	v, err := normalJSON(value)
	if err != nil {
		return err
	}
	if err := compiled.Validate(v); err != nil {
		text := err.Error()
		// The first line names the schema's file, which is none.
		if _, rest, ok := strings.Cut(text, "\n"); ok {
			text = strings.TrimSpace(rest)
		}
		text = strings.NewReplacer("\n- ", "; ", "\n", "; ", "at '': ", "", "at '/", "at '").Replace(strings.TrimPrefix(text, "- "))
		return errors.New(text)
	}
	return nil
}

// noLoader keeps schemas from fetching anything.
type noLoader struct{}

func (noLoader) Load(url string) (any, error) {
	return nil, fmt.Errorf("%s: a schema cannot refer to another document", url)
}

func normalJSON(v any) (any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return jsonschema.UnmarshalJSON(bytes.NewReader(raw))
}
