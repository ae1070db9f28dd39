package policy

import (
	"errors"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/agnivade/levenshtein"
	"github.com/open-policy-agent/opa/v1/ast"
)

// Source is a set of files that is compiled together: the built-in library, a folder, a ConfigMap.
type Source struct {
	// Name says where the files are from, for messages: builtin, a folder's path, configmap NAME.
	Name string
	// Files are the Rego files by path. Those that end in _test.rego are for tests only.
	Files map[string]string
	// Builtin sources may use Metamorph's own codes.
	Builtin bool
}

// Problem is one thing that is wrong with a source.
type Problem struct {
	Source  string `json:"source"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Message string `json:"message"`
}

func (p Problem) Error() string {
	switch {
	case p.File == "":
		return p.Source + ": " + p.Message
	case p.Line == 0:
		return p.File + ": " + p.Message
	}
	return fmt.Sprintf("%s:%d: %s", p.File, p.Line, p.Message)
}

// Problems is the error of a source that cannot be used.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.Error()
	}
	return strings.Join(lines, "\n")
}

// Limits of a source. A ConfigMap holds 1 MiB; a folder that is larger than this is another kind of folder.
const (
	maxFile   = 1 << 20
	maxSource = 16 << 20
)

// Bundle is a compiled source.
type Bundle struct {
	// Source is the source's name.
	Source string
	// Policies in the order of their codes.
	Policies []*Policy
	// Modules are the parsed files, tests included, as the test runner and coverage take them.
	Modules map[string]*ast.Module
}

// program is what is evaluated for a policy.
type program struct {
	compiler *ast.Compiler
	// body binds every entrypoint's set to the variable of the same place in rules.
	body  ast.Body
	rules []entrypoint
	// input makes of a view what the policy takes for its input; nil takes the view's own. It is where policies written
	// for other engines differ.
	input func(*View) *ast.Term
	// plain is evaluated without rule indexing.
	plain bool
	// personal looks at who sends the request, so what it finds is the request's doing and not the object's.
	personal bool
}

type entrypoint struct {
	name string
	v    ast.Var
	// most is the largest action of its results.
	most Action
}

// Loader compiles sources.
type Loader struct {
	// Libraries are Rego packages that every source may import, and none may add to.
	Libraries *Source
	// Kinds and Roles are what policies can be matched by; nil checks nothing. [Plain] and [AnyRole] are always among the roles.
	Kinds, Roles []string
	// Schema is the JSON Schema of the input, decoded; a reference to a field that it does not have is then an error of the
	// compilation. Nil checks nothing.
	Schema any
}

// Load compiles a source. The error is a [Problems] with everything that is wrong with it.
func (l *Loader) Load(src *Source) (*Bundle, error) {
	modules, problems := parse(src)
	var libraries map[string]*ast.Module
	if l.Libraries != nil {
		var more []Problem
		libraries, more = parse(l.Libraries)
		problems = append(problems, more...)
		for _, file := range slices.Sorted(maps.Keys(modules)) {
			for _, lib := range libraries {
				if lib.Package.Path.HasPrefix(modules[file].Package.Path) || modules[file].Package.Path.HasPrefix(lib.Package.Path) {
					problems = append(problems, Problem{src.Name, file, modules[file].Package.Location.Row, "the package " + strings.TrimPrefix(modules[file].Package.Path.String(), "data.") + " is Metamorph's own; take another name"})
				}
			}
		}
	}
	if len(problems) > 0 {
		return nil, Problems(problems)
	}
	all := map[string]*ast.Module{}
	for file, m := range modules {
		if !isTest(file) {
			all[file] = withOwnParameters(m)
		}
	}
	for file, m := range libraries {
		if !isTest(file) {
			all["library/"+file] = m
		}
	}
	c := ast.NewCompiler().WithCapabilities(Capabilities()).WithStrict(true).WithKeepModules(false)
	if l.Schema != nil {
		schemas := ast.NewSchemaSet()
		schemas.Put(ast.SchemaRootRef, l.Schema)
		c = c.WithSchemas(schemas).WithUseTypeCheckAnnotations(true)
	}
	if c.Compile(all); c.Failed() {
		return nil, problemsOf(src, c.Errors)
	}
	replaced := replacesInput(c)
	// Helpers are in any file of the source.
	forgiving, personal := false, false
	for file, m := range c.Modules {
		if !src.Builtin && !strings.HasPrefix(file, "library/") {
			forgiving, personal = forgiving || forgives(m), personal || readsUser(m)
		}
	}
	b := &Bundle{Source: src.Name, Modules: modules}
	for _, file := range slices.Sorted(maps.Keys(modules)) {
		if isTest(file) {
			continue
		}
		p, more := l.policy(src, c, file, modules)
		problems = append(problems, more...)
		if p != nil {
			if replaced {
				p.program.input = (*View).replaceable
			}
			p.program.plain = forgiving
			p.program.personal = personal || readsUser(c.Modules[file])
			b.Policies = append(b.Policies, p)
		}
	}
	problems = append(problems, twice(src, b.Policies)...)
	if len(problems) > 0 {
		return nil, Problems(problems)
	}
	slices.SortFunc(b.Policies, func(a, b *Policy) int { return strings.Compare(a.Code, b.Code) })
	return b, nil
}

// readsUser tells whether a module looks at who sends the request.
func readsUser(m *ast.Module) bool {
	found := false
	ast.WalkRefs(m, func(r ast.Ref) bool {
		found = found || r.HasPrefix(userRef)
		return found
	})
	return found
}

var userRef = ast.Ref{ast.InputRootDocument, ast.StringTerm("request"), ast.StringTerm("user")}

// forgives tells whether OPA's rule index may pass over a rule of the module that would fail: of a text that is to start
// with something, or to match a glob, it asks the value itself, and takes a number for a text that does not.
func forgives(m *ast.Module) bool {
	found := false
	ast.WalkExprs(m, func(e *ast.Expr) bool {
		if e.IsCall() {
			switch e.Operator().String() {
			case "startswith", "endswith", "glob.match", "strings.any_prefix_match", "strings.any_suffix_match":
				found = true
			}
		}
		return found
	})
	return found
}

// withOwnParameters is a module in which data.parameters is data.parameters[CODE], for a policy: so several policies can be
// asked in one query.
func withOwnParameters(m *ast.Module) *ast.Module {
	code := codeOf(m)
	if code == "" {
		return m
	}
	out, err := ast.TransformRefs(m.Copy(), func(r ast.Ref) (ast.Value, error) {
		if !r.HasPrefix(parametersRef) {
			return r, nil
		}
		own := make(ast.Ref, 0, len(r)+1)
		own = append(append(own, r[:2]...), ast.StringTerm(code))
		return append(own, r[2:]...), nil
	})
	if own, ok := out.(*ast.Module); ok && err == nil {
		return own
	}
	return m // nothing above fails
}

var parametersRef = ast.Ref{ast.DefaultRootDocument, ast.StringTerm("parameters")}

// replacesInput tells whether a rule replaces the input or a part of it: with input… as ….
func replacesInput(c *ast.Compiler) bool {
	found := false
	for _, m := range c.Modules {
		ast.WalkWiths(m, func(w *ast.With) bool {
			ref, ok := w.Target.Value.(ast.Ref)
			found = found || ok && ref[0].Equal(ast.InputRootDocument)
			return found
		})
	}
	return found
}

func twice(src *Source, policies []*Policy) []Problem {
	var problems []Problem
	codes := map[string]*Policy{}
	for _, p := range policies {
		if q := codes[p.Code]; q != nil {
			problems = append(problems, Problem{src.Name, p.File, p.Line, "the code " + p.Code + " is that of " + q.File + " already"})
		}
		codes[p.Code] = p
	}
	return problems
}

func isTest(file string) bool { return strings.HasSuffix(file, "_test.rego") }

func parse(src *Source) (map[string]*ast.Module, []Problem) {
	modules, problems := map[string]*ast.Module{}, []Problem(nil)
	size := 0
	for _, file := range slices.Sorted(maps.Keys(src.Files)) {
		text := src.Files[file]
		if path.Ext(file) != ".rego" {
			continue
		}
		if size += len(text); len(text) > maxFile || size > maxSource {
			return nil, append(problems, Problem{src.Name, file, 0, fmt.Sprintf("is too large: a file has at most %d MiB, and all files together %d", maxFile>>20, maxSource>>20)})
		}
		m, err := ast.ParseModuleWithOpts(file, text, ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1, Capabilities: Capabilities()})
		switch {
		case err != nil:
			problems = append(problems, problemsOf(src, err)...)
		case m == nil:
			problems = append(problems, Problem{src.Name, file, 0, "is empty"})
		default:
			modules[file] = m
		}
	}
	if len(modules) == 0 && len(problems) == 0 {
		problems = append(problems, Problem{Source: src.Name, Message: "holds no .rego file"})
	}
	return modules, problems
}

func problemsOf(src *Source, err error) Problems {
	var list ast.Errors
	var one *ast.Error
	switch {
	case errors.As(err, &list):
	case errors.As(err, &one):
		list = ast.Errors{one}
	default:
		return Problems{{Source: src.Name, Message: err.Error()}}
	}
	out := make(Problems, len(list))
	for i, e := range list {
		// Details hold the line's text, with a mark; a message is one line.
		p := Problem{Source: src.Name, Message: e.Code + ": " + e.Message}
		if e.Location != nil {
			p.File, p.Line = e.Location.File, e.Location.Row
		}
		out[i] = p
	}
	return out
}

// entrypoints are the rules that are asked: conftest's names, with or without a suffix.
var entrypoints = regexp.MustCompile(`^(deny|violation|warn)(_[A-Za-z0-9_]+)?$`)

// policy makes a policy of a file; nil if the file is a library.
func (l *Loader) policy(src *Source, c *ast.Compiler, file string, modules map[string]*ast.Module) (*Policy, []Problem) {
	mod := modules[file]
	p, problems := describe(src, mod)
	if p != nil {
		problems = append(problems, l.unmatched(src, p)...)
	}
	bad := func(row int, format string, args ...any) {
		problems = append(problems, Problem{src.Name, file, row, fmt.Sprintf(format, args...)})
	}
	names := map[string]bool{}
	var unknown []*ast.Rule
	for _, rule := range c.Modules[file].Rules {
		name := string(rule.Head.Ref()[0].Value.(ast.Var))
		if !entrypoints.MatchString(name) {
			if len(c.Graph.Dependents(rule)) == 0 && !rule.Default {
				unknown = append(unknown, rule)
			}
			continue
		}
		names[name] = true
		if rule.Head.RuleKind() != ast.MultiValue || len(rule.Head.Ref()) != 1 {
			bad(rule.Loc().Row, "%s must be a set of messages: %s contains msg if { … }", name, name)
		}
	}
	if p == nil {
		if len(names) > 0 && len(problems) == 0 {
			bad(mod.Package.Location.Row, "has the rule %s and no METADATA with custom.code: say before the package what the policy is", slices.Sorted(maps.Keys(names))[0])
		}
		return nil, problems
	}
	if len(names) == 0 {
		hint := ""
		for _, r := range unknown {
			hint = "; " + string(r.Head.Ref()[0].Value.(ast.Var)) + " is none"
		}
		bad(mod.Package.Location.Row, "has no rule deny, violation or warn, with or without a _suffix%s", hint)
	} else {
		for _, r := range unknown {
			name := string(r.Head.Ref()[0].Value.(ast.Var))
			// A misspelt rule would be a policy that never finds anything.
			bad(r.Loc().Row, "the rule %s is used by nothing%s", name, meant(name))
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	for name := range names {
		p.Warns = p.Warns || strings.HasPrefix(name, "warn")
	}
	p.program = newProgram(c, p.Code, mod.Package.Path, slices.Sorted(maps.Keys(names)))
	return p, nil
}

// unmatched finds what a policy is to match and nothing ever is.
func (l *Loader) unmatched(src *Source, p *Policy) (problems []Problem) {
	look := func(what string, values, allowed []string) {
		for _, v := range values {
			if allowed != nil && !slices.Contains(allowed, v) {
				problems = append(problems, Problem{src.Name, p.File, p.Line, fmt.Sprintf("METADATA: custom.match.%s: %q; allowed: %s", what, v, strings.Join(allowed, ", "))})
			}
		}
	}
	look("kinds", p.Match.Kinds, l.Kinds)
	if l.Roles != nil {
		look("roles", p.Match.Roles, append(slices.Clone(l.Roles), Plain, AnyRole))
	}
	return problems
}

func meant(name string) string {
	for _, n := range []string{"deny", "violation", "warn"} {
		if levenshtein.ComputeDistance(strings.ToLower(name), n) <= 2 {
			return "; did you mean " + n + "?"
		}
	}
	return ""
}

func newProgram(c *ast.Compiler, code string, pkg ast.Ref, names []string) *program {
	p := &program{compiler: c}
	for i, name := range names {
		e := entrypoint{name: name, v: ast.Var(fmt.Sprintf("__%s_%d__", code, i)), most: Deny}
		if strings.HasPrefix(name, "warn") {
			e.most = Warn
		}
		p.rules = append(p.rules, e)
		p.body = append(p.body, ast.Equality.Expr(ast.NewTerm(e.v), ast.NewTerm(pkg.Append(ast.StringTerm(name)))))
		p.body[i].Index = i
	}
	return p
}
