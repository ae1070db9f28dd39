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
)

// What of Gatekeeper's is read.
const (
	templateKind     = "ConstraintTemplate"
	gatekeeperTarget = "admission.k8s.gatekeeper.sh"
	regoEngine       = "Rego"
)

var (
	templateVersions   = []string{"templates.gatekeeper.sh/v1", "templates.gatekeeper.sh/v1beta1"}
	constraintVersions = []string{"constraints.gatekeeper.sh/v1beta1"}
)

// LoadTemplates makes policies of Gatekeeper's ConstraintTemplates and of their constraints, decoded from YAML or JSON: one
// policy for each constraint, whose code is GK- and the constraint's name. They see what Gatekeeper would show them of an
// admission request, with the namespace but without an inventory. A rule that fails is not undefined, as it is there: it is
// a failure to evaluate the policy. The error is a [Problems].
func (*Loader) LoadTemplates(name string, objects ...map[string]any) (*Bundle, error) {
	l := &templates{
		source: name, kinds: map[string]*template{},
		bundle: &Bundle{Source: name, Modules: map[string]*ast.Module{}},
	}
	for i, obj := range objects {
		apiVersion, _ := obj["apiVersion"].(string)
		kind, _ := obj["kind"].(string)
		switch {
		case kind == templateKind && slices.Contains(templateVersions, apiVersion):
			l.template(obj)
		case kind == "" || !slices.Contains(constraintVersions, apiVersion):
			l.bad("", 0, "object %d (%s %s) is neither a %s (%s) nor a constraint (%s)", i, apiVersion, kind, templateKind, strings.Join(templateVersions, ", "), constraintVersions[0])
		}
	}
	// Constraints may stand before their templates.
	for _, obj := range objects {
		if v, _ := obj["apiVersion"].(string); slices.Contains(constraintVersions, v) && obj["kind"] != "" {
			l.constraint(obj)
		}
	}
	l.problems = append(l.problems, twice(&Source{Name: name}, l.bundle.Policies)...)
	if len(l.problems) > 0 {
		return nil, l.problems
	}
	slices.SortFunc(l.bundle.Policies, func(a, b *Policy) int { return strings.Compare(a.Code, b.Code) })
	return l.bundle, nil
}

// templates is one load.
type templates struct {
	source   string
	problems Problems
	bundle   *Bundle
	// kinds are the templates by the kind of their constraints; nil for one that has problems of its own.
	kinds map[string]*template
}

func (l *templates) bad(file string, line int, format string, args ...any) {
	l.problems = append(l.problems, Problem{l.source, file, line, fmt.Sprintf(format, args...)})
}

// template is what is read of a ConstraintTemplate.
type template struct {
	Metadata struct {
		Name        string            `json:"name"`
		Annotations map[string]string `json:"annotations"`
	} `json:"metadata"`
	Spec struct {
		CRD struct {
			Spec struct {
				Names struct {
					Kind string `json:"kind"`
				} `json:"names"`
				Validation struct {
					Schema map[string]any `json:"openAPIV3Schema"`
					// Legacy schemas need not name every field.
					Legacy bool `json:"legacySchema"`
				} `json:"validation"`
			} `json:"spec"`
		} `json:"crd"`
		Targets []target `json:"targets"`
	} `json:"spec"`

	program    *program
	operations []Operation
}

// target is a template's program, in one of two forms, and when it is asked.
type target struct {
	Target     string   `json:"target"`
	Rego       string   `json:"rego"`
	Libs       []string `json:"libs"`
	Operations []string `json:"operations"`
	Code       []struct {
		Engine string `json:"engine"`
		Source rego   `json:"source"`
	} `json:"code"`
}

// rego is the program of a template.
type rego struct {
	Version string   `json:"version"`
	Rego    string   `json:"rego"`
	Libs    []string `json:"libs"`
}

// template compiles a template, for its constraints to share.
func (l *templates) template(obj map[string]any) {
	t := &template{}
	err := readInto(obj, t)
	name, kind := t.Metadata.Name, t.Spec.CRD.Spec.Names.Kind
	lower := strings.ToLower(kind)
	file := "constrainttemplate/" + name
	_, again := l.kinds[kind]
	// Known from here on: its constraints need not be told that it is missing.
	l.kinds[kind] = nil
	switch {
	case err != nil:
		l.bad(file, 0, "%v", err)
		return
	case kind == "":
		l.bad(file, 0, "spec.crd.spec.names.kind: is missing; it is the kind of the template's constraints")
		return
	case again:
		l.bad(file, 0, "spec.crd.spec.names.kind: another template has the kind %s already", kind)
		return
	case name != lower:
		l.bad(file, 0, "metadata.name: %q; allowed: %q, which is the kind in lower case", name, lower)
		return
	}
	r, err := t.rego()
	if err != nil {
		l.bad(file, 0, "%v", err)
		return
	}
	if t.operations, err = t.Spec.Targets[0].operations(); err != nil {
		l.bad(file, 0, "%v", err)
	}
	if t.program = l.compile(file, r); t.program != nil {
		l.kinds[kind] = t
	}
}

// rego finds the program among the forms that a template may have it in.
func (t *template) rego() (*rego, error) {
	if n := len(t.Spec.Targets); n != 1 {
		return nil, fmt.Errorf("spec.targets: has %d targets; allowed: one, %s", n, gatekeeperTarget)
	}
	from := &t.Spec.Targets[0]
	if from.Target != gatekeeperTarget {
		return nil, fmt.Errorf("spec.targets[0].target: %q; allowed: %s", from.Target, gatekeeperTarget)
	}
	r := &rego{Rego: from.Rego, Libs: from.Libs}
	for i := range from.Code {
		c := &from.Code[i]
		if c.Engine != regoEngine {
			continue
		}
		if r.Rego != "" {
			return nil, errors.New("spec.targets[0]: has Rego twice; write it in one place")
		}
		r = &c.Source
	}
	switch {
	case r.Rego == "":
		return nil, errors.New("spec.targets[0]: has no Rego, the one language that Metamorph reads")
	case r.Version == "": // of the time before there were two
		r.Version = "v0"
	case r.Version != "v0" && r.Version != "v1":
		return nil, fmt.Errorf("spec.targets[0].code: the version %q of Rego; allowed: v0, v1", r.Version)
	}
	return r, nil
}

// operations are those that Gatekeeper's webhook would ask the template for.
func (t *target) operations() ([]Operation, error) {
	if len(t.Operations) == 0 {
		return []Operation{Create, Update}, nil
	}
	var out []Operation
	for _, o := range t.Operations {
		switch Operation(o) {
		case "*":
			return []Operation{Create, Update, Delete}, nil
		case Create, Update, Delete:
			out = append(out, Operation(o))
		default:
			return nil, fmt.Errorf("spec.targets[0].operations: %q; allowed: CREATE, UPDATE, DELETE, *", o)
		}
	}
	return out, nil
}

// compile compiles a template's program; nil if it cannot be.
func (l *templates) compile(file string, r *rego) *program {
	version := ast.RegoV0
	if r.Version == "v1" {
		version = ast.RegoV1
	}
	options := ast.ParserOptions{RegoVersion: version, Capabilities: capabilities(version)}
	before := len(l.problems)
	modules := map[string]*ast.Module{}
	if m := l.parse(file, r.Rego, options); m != nil {
		modules[file] = m
		l.violation(file, m)
	}
	for i, text := range r.Libs {
		f := fmt.Sprintf("%s/libs[%d]", file, i)
		m := l.parse(f, text, options)
		if m == nil {
			continue
		}
		modules[f] = m
		if path := m.Package.Path; len(path) < 2 || !path[1].Equal(ast.StringTerm("lib")) {
			l.bad(f, m.Package.Location.Row, "the package of a library must begin with lib; example: package lib.images")
		}
	}
	if len(l.problems) == before {
		for _, f := range slices.Sorted(maps.Keys(modules)) {
			l.foreign(f, modules)
		}
	}
	if len(l.problems) > before {
		return nil
	}
	// Not strict: what Gatekeeper compiles with an unused variable is to compile here, too.
	c := ast.NewCompiler().WithCapabilities(options.Capabilities).WithDefaultRegoVersion(version).WithSchemas(reviewSchema()).WithKeepModules(false)
	if c.Compile(modules); c.Failed() {
		l.problems = append(l.problems, problemsOf(&Source{Name: l.source}, c.Errors)...)
		return nil
	}
	maps.Copy(l.bundle.Modules, modules)
	return newProgram(c, "template", modules[file].Package.Path, []string{"violation"})
}

// parse parses one text of a template; nil if it cannot be.
func (l *templates) parse(file, text string, options ast.ParserOptions) *ast.Module {
	if len(text) > maxFile {
		l.bad(file, 0, "is too large: Rego has at most %d MiB", maxFile>>20)
		return nil
	}
	m, err := ast.ParseModuleWithOpts(file, text, options)
	if err != nil {
		l.problems = append(l.problems, problemsOf(&Source{Name: l.source}, err)...)
		return nil
	}
	if m == nil {
		l.bad(file, 0, "is empty")
	}
	return m
}

// foreign refuses references to data that is not of the template: to Rego it is only undefined, so the policy would find
// nothing.
func (l *templates) foreign(file string, modules map[string]*ast.Module) {
	seen := map[string]bool{}
	ast.WalkRefs(modules[file], func(r ast.Ref) bool {
		if !r[0].Equal(ast.DefaultRootDocument) {
			return false
		}
		for _, m := range modules {
			if r.HasPrefix(m.Package.Path) || len(r) > 1 && m.Package.Path.HasPrefix(r) {
				return false
			}
		}
		what := fmt.Sprintf("reads %s, which neither the template nor one of its libraries has", r)
		if len(r) > 1 && r[1].Equal(ast.StringTerm("inventory")) {
			what = "reads data.inventory: Metamorph keeps no inventory for Gatekeeper's templates; a policy of Metamorph's own can read data.cluster"
		}
		row := modules[file].Package.Location.Row
		if at := r[0].Location; at != nil {
			row = at.Row
		}
		if !seen[what] {
			l.bad(file, row, "%s", what)
		}
		seen[what] = true
		return false
	})
}

// violation refuses a program without the rule that is asked, or with one that is no set.
func (l *templates) violation(file string, m *ast.Module) {
	found := false
	for _, rule := range m.Rules {
		if rule.Head.Ref()[0].Value.Compare(ast.Var("violation")) != 0 {
			continue
		}
		found = true
		if rule.Head.RuleKind() != ast.MultiValue || len(rule.Head.Ref()) != 1 {
			l.bad(file, rule.Loc().Row, "violation must be a set of objects with msg: violation[{\"msg\": msg}] { … }")
		}
	}
	if !found {
		l.bad(file, m.Package.Location.Row, "has no rule violation")
	}
}

// reviewSchema is the schema of what policies of templates see. A field of an admission request that Metamorph does not know
// is then an error of the compilation, and not a policy that never finds anything.
func reviewSchema() *ast.SchemaSet {
	closed := func(properties map[string]any) map[string]any {
		return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	}
	text, anything := map[string]any{"type": "string"}, map[string]any{}
	texts := map[string]any{"type": "object", "additionalProperties": text}
	set := ast.NewSchemaSet()
	set.Put(ast.SchemaRootRef, closed(map[string]any{
		"parameters": anything,
		"review": closed(map[string]any{
			"kind":      closed(map[string]any{"group": text, "version": text, "kind": text}),
			"operation": text, "name": text, "namespace": text, "object": anything, "oldObject": anything, "dryRun": map[string]any{"type": "boolean"},
			"userInfo": closed(map[string]any{"username": text, "groups": map[string]any{"type": "array", "items": text}}),
			"namespaceObject": closed(map[string]any{
				"apiVersion": text, "kind": text, "metadata": closed(map[string]any{"name": text, "labels": texts, "annotations": texts}),
			}),
		}),
	}))
	return set
}

// constraint is what is read of a constraint.
type constraint struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		EnforcementAction string `json:"enforcementAction"`
		Match             struct {
			Kinds []struct {
				APIGroups []string `json:"apiGroups"`
				Kinds     []string `json:"kinds"`
			} `json:"kinds"`
			Namespaces         []string `json:"namespaces"`
			ExcludedNamespaces []string `json:"excludedNamespaces"`
		} `json:"match"`
		Parameters any `json:"parameters"`
	} `json:"spec"`
}

// enforcementActions are Gatekeeper's names of actions.
var enforcementActions = map[string]Action{"": Deny, "deny": Deny, "warn": Warn, "dryrun": Audit}

// noCode is what a code cannot hold.
var noCode = regexp.MustCompile(`[^A-Z0-9]+`)

// constraint makes a policy of a constraint.
func (l *templates) constraint(obj map[string]any) {
	var c constraint
	err := readInto(obj, &c)
	kind, _ := obj["kind"].(string)
	file := kind + "/" + c.Metadata.Name
	before := len(l.problems)
	l.unknown(file, obj)
	if err != nil {
		l.bad(file, 0, "%v", err)
		return
	}
	if c.Metadata.Name == "" {
		l.bad(file, 0, "metadata.name: is missing")
	}
	t, ok := l.kinds[kind]
	if !ok {
		l.bad(file, 0, "there is no %s whose constraints are of the kind %s", templateKind, kind)
	}
	action, ok := enforcementActions[c.Spec.EnforcementAction]
	if !ok {
		l.bad(file, 0, "spec.enforcementAction: %q; allowed: deny, warn, dryrun", c.Spec.EnforcementAction)
	}
	kinds, err := c.kinds()
	if err != nil {
		l.bad(file, 0, "%v", err)
	}
	for _, pattern := range slices.Concat(c.Spec.Match.Namespaces, c.Spec.Match.ExcludedNamespaces) {
		if _, err := path.Match(pattern, ""); err != nil {
			l.bad(file, 0, "spec.match: the glob %q cannot be read", pattern)
		}
	}
	if t == nil {
		return
	}
	parameters, err := t.parameters(c.Spec.Parameters)
	if err != nil {
		l.bad(file, 0, "spec.parameters: %v", err)
	}
	if len(l.problems) > before {
		return
	}
	title, why := t.words()
	p := &Policy{
		Code: "GK-" + strings.Trim(noCode.ReplaceAllString(strings.ToUpper(c.Metadata.Name), "-"), "-"), Name: c.Metadata.Name,
		Source: l.source, File: file, Title: title, Why: why, Severity: action,
		Match: Match{
			Kinds: kinds, Operations: t.operations, Roles: []string{AnyRole},
			Namespaces: c.Spec.Match.Namespaces, ExcludedNamespaces: c.Spec.Match.ExcludedNamespaces,
		},
		program: t.program.with(parameters),
	}
	l.bundle.Policies = append(l.bundle.Policies, p)
}

// unknown refuses fields that would have to be regarded and are not: a constraint without its selector is another one.
func (l *templates) unknown(file string, obj map[string]any) {
	check := func(at string, v any, allowed ...string) map[string]any {
		m, _ := v.(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(m)) {
			if !slices.Contains(allowed, k) {
				l.bad(file, 0, "%s.%s: Metamorph does not know it; allowed in %s: %s", at, k, at, strings.Join(allowed, ", "))
			}
		}
		return m
	}
	spec := check("spec", obj["spec"], "enforcementAction", "match", "parameters")
	match := check("spec.match", spec["match"], "kinds", "namespaces", "excludedNamespaces")
	kinds, _ := match["kinds"].([]any)
	for i, k := range kinds {
		check(fmt.Sprintf("spec.match.kinds[%d]", i), k, "apiGroups", "kinds")
	}
}

// kinds are those that the constraint matches. StatefulSets are all that policies are shown, so every kind is that one.
func (c *constraint) kinds() ([]string, error) {
	const all = "StatefulSet"
	if len(c.Spec.Match.Kinds) == 0 {
		return []string{all}, nil
	}
	var out []string
	for _, m := range c.Spec.Match.Kinds {
		apps := len(m.APIGroups) == 0 || slices.Contains(m.APIGroups, "*") || slices.Contains(m.APIGroups, "apps")
		names := m.Kinds
		if len(names) == 0 {
			names = []string{all}
		}
		for _, k := range names {
			if k == "*" {
				k = all
			}
			if (k != all || apps) && !slices.Contains(out, k) {
				out = append(out, k)
			}
		}
	}
	if len(out) == 0 {
		return nil, errors.New("spec.match.kinds: matches nothing that Metamorph knows; example: {apiGroups: [apps], kinds: [StatefulSet]}")
	}
	return out, nil
}

// words are the template's description: its first sentence, and all of it if there are more.
func (t *template) words() (title, why string) {
	all := strings.Join(strings.Fields(t.Metadata.Annotations["description"]), " ")
	if all == "" {
		return t.Spec.CRD.Spec.Names.Kind, ""
	}
	if first, _, more := strings.Cut(all, ". "); more {
		return first, all
	}
	return strings.TrimSuffix(all, "."), ""
}

// parameters are a constraint's, with the defaults that the API server would put in, once they agree with the schema.
func (t *template) parameters(value any) (ast.Value, error) {
	if schema := t.Spec.CRD.Spec.Validation.Schema; schema != nil {
		// The default of all parameters is one of spec, whose field they are.
		spec := map[string]any{}
		if value != nil {
			spec["parameters"] = value
		}
		setDefaults(map[string]any{"properties": map[string]any{"parameters": schema}}, spec)
		if value = spec["parameters"]; value != nil {
			p := Parameter{Schema: jsonSchema(schema, t.Spec.CRD.Spec.Validation.Legacy)}
			if err := p.check(value); err != nil {
				return nil, err
			}
		}
	}
	if value == nil {
		value = map[string]any{}
	}
	return ast.InterfaceToValue(value)
}

// setDefaults puts a schema's defaults where a value has nothing, as the API server does: below what is there.
func setDefaults(schema map[string]any, value any) {
	switch v := value.(type) {
	case map[string]any:
		properties, _ := schema["properties"].(map[string]any)
		for name, s := range properties {
			field, _ := s.(map[string]any)
			if _, ok := v[name]; !ok && field["default"] != nil {
				v[name] = clone(field["default"])
			}
			setDefaults(field, v[name])
		}
		others, _ := schema["additionalProperties"].(map[string]any)
		for name := range v {
			if _, ok := properties[name]; !ok {
				setDefaults(others, v[name])
			}
		}
	case []any:
		items, _ := schema["items"].(map[string]any)
		for i := range v {
			setDefaults(items, v[i])
		}
	}
}

// clone copies a JSON value, so that constraints do not share a default that further defaults are put into.
func clone(value any) any {
	switch v := value.(type) {
	case map[string]any:
		out := make(map[string]any, len(v))
		for k := range v {
			out[k] = clone(v[k])
		}
		return out
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = clone(v[i])
		}
		return out
	}
	return value
}

// jsonSchema makes JSON Schema of a schema as CRDs have it, which is nearly the same. Fields without a name in it, which the
// API server would drop, are refused, unless the schema is open.
func jsonSchema(schema map[string]any, open bool) map[string]any {
	out := maps.Clone(schema)
	each := func(key string) {
		if s, ok := schema[key].(map[string]any); ok {
			out[key] = jsonSchema(s, open)
		}
	}
	each("items")
	each("additionalProperties")
	if properties, ok := schema["properties"].(map[string]any); ok {
		fields := make(map[string]any, len(properties))
		for name, s := range properties {
			fields[name] = s
			if s, ok := s.(map[string]any); ok {
				fields[name] = jsonSchema(s, open)
			}
		}
		out["properties"] = fields
		if schema["additionalProperties"] == nil && schema["x-kubernetes-preserve-unknown-fields"] != true && !open {
			out["additionalProperties"] = false
		}
	}
	if kind, ok := schema["type"].(string); ok && schema["nullable"] == true {
		out["type"] = []any{kind, "null"}
	}
	// Bounds were excluded by a truth value beside them, once.
	for exclusive, bound := range map[string]string{"exclusiveMinimum": "minimum", "exclusiveMaximum": "maximum"} {
		if is, ok := schema[exclusive].(bool); ok {
			delete(out, exclusive)
			if is {
				out[exclusive] = schema[bound]
				delete(out, bound)
			}
		}
	}
	return out
}

// readInto reads a decoded object into a struct. Numbers stay as they were written.
func readInto(obj map[string]any, into any) error {
	raw, err := json.Marshal(obj)
	if err != nil {
		return err
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	return wrongType(dec.Decode(into))
}

// wrongType takes the names of Go types out of an error.
func wrongType(err error) error {
	var wrong *json.UnmarshalTypeError
	if errors.As(err, &wrong) {
		return fmt.Errorf("%s: a value of type %s does not belong there", wrong.Field, wrong.Value)
	}
	return err
}

// with is the program of a template for a constraint's parameters.
func (p *program) with(parameters ast.Value) *program {
	out := *p
	out.input = func(v *View) *ast.Term {
		if v.review == nil {
			v.review = ast.LazyObject(v.admission(v.input))
		}
		return ast.NewTerm(ast.LazyObject(map[string]any{"review": v.review, "parameters": parameters}))
	}
	if replacesInput(p.compiler) {
		out.input = func(v *View) *ast.Term {
			return ast.NewTerm(ast.MustInterfaceToValue(map[string]any{"review": v.admission(v.replaceable()), "parameters": parameters}))
		}
	}
	return &out
}

// admission is what policies of templates see of a view: the API server's admission request, as far as it is known. They
// share it, and the objects in it with all policies.
func (v *View) admission(input *ast.Term) map[string]any {
	obj, old := get(input.Value, "object"), get(input.Value, "oldObject")
	apiVersion, _ := get(obj, "apiVersion").(ast.String)
	group, version, ok := strings.Cut(string(apiVersion), "/")
	if !ok {
		group, version = "", group
	}
	operation := string(v.Operation)
	switch v.Operation {
	case Delete:
		old = obj
	case AuditRun:
		operation = "" // as in Gatekeeper's audits, where nobody does anything
	}
	if old == nil {
		old = ast.NullValue
	}
	user := get(input.Value, "request", "user")
	return map[string]any{
		"kind":      map[string]any{"group": group, "version": version, "kind": v.Kind},
		"operation": operation, "name": v.Name, "namespace": v.Namespace, "object": obj, "oldObject": old,
		"dryRun":          get(input.Value, "request", "dryRun"),
		"userInfo":        map[string]any{"username": get(user, "name"), "groups": get(user, "groups")},
		"namespaceObject": map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": get(input.Value, "namespace")},
	}
}
