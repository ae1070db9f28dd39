// Package policytest tests policies: the fixtures beside them, which are expanded and judged as in a cluster, and their
// Rego unit tests, with coverage.
package policytest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/cover"
	"github.com/open-policy-agent/opa/v1/storage"
	"github.com/open-policy-agent/opa/v1/storage/inmem"
	"github.com/open-policy-agent/opa/v1/tester"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

// FixturesFile is the name of the file with a policy's cases.
const FixturesFile = "fixtures.yaml"

// Result is how one test ended.
type Result struct {
	// Name is POLICY/CASE, or the name of a Rego test.
	Name string `json:"name"`
	// File it is from.
	File string `json:"file"`
	// Failure says what is wrong; empty if nothing is.
	Failure string        `json:"failure,omitempty"`
	Took    time.Duration `json:"-"`
}

// Coverage is how much of a file was evaluated.
type Coverage struct {
	File    string  `json:"file"`
	Percent float64 `json:"percent"`
	// Missed are the lines that were not.
	Missed []int `json:"missed,omitempty"`
}

// Report is the outcome of a run.
type Report struct {
	Results  []Result   `json:"results"`
	Coverage []Coverage `json:"coverage"`
}

// Failed counts the tests that failed.
func (r *Report) Failed() int {
	n := 0
	for _, t := range r.Results {
		if t.Failure != "" {
			n++
		}
	}
	return n
}

// Runner runs tests.
type Runner struct {
	Loader *policy.Loader
	// Builtin lets the folder use Metamorph's own codes.
	Builtin bool
	// Evaluate holds decisions against another way to get them, if not nil: it is called for every case.
	Evaluate func(ctx context.Context, r *review.Reviewer, req *review.Request) error
}

// Run tests the policies in a folder: one below it for each, or the folder itself. The error is for a folder that cannot be
// tested at all; a [policy.Problems] if the policies cannot be loaded.
func (t *Runner) Run(ctx context.Context, fsys fs.FS, name string) (*Report, error) {
	src, cases, err := Read(fsys, name)
	if err != nil {
		return nil, err
	}
	src.Builtin = t.Builtin
	if t.Builtin && t.Loader.Libraries != nil {
		for file := range t.Loader.Libraries.Files {
			delete(src.Files, file)
		}
	}
	bundle, err := t.Loader.Load(src)
	if err != nil {
		return nil, err
	}
	if len(bundle.Policies) == 0 {
		return nil, fmt.Errorf("%s: there is no policy in this folder", name)
	}
	report := &Report{}
	coverage := cover.New()
	for _, p := range bundle.Policies {
		t.fixtures(ctx, report, coverage, bundle, p, cases[path.Dir(p.File)])
	}
	for dir := range cases {
		if !slices.ContainsFunc(bundle.Policies, func(p *policy.Policy) bool { return path.Dir(p.File) == dir }) {
			report.Results = append(report.Results, Result{Name: dir, File: path.Join(dir, FixturesFile), Failure: "there is no policy beside these fixtures"})
		}
	}
	if err := t.rego(ctx, report, coverage, bundle); err != nil {
		return nil, err
	}
	slices.SortStableFunc(report.Results, func(a, b Result) int { return strings.Compare(a.File, b.File) })
	modules := maps.Clone(bundle.Modules)
	if t.Builtin {
		libraries, err := t.libraries()
		if err != nil {
			return nil, err
		}
		maps.Copy(modules, libraries)
	}
	measured := coverage.Report(modules)
	for file, c := range measured.Files {
		if strings.HasSuffix(file, "_test.rego") || modules[file] == nil {
			continue
		}
		m := Coverage{File: file, Percent: c.Coverage}
		for _, r := range c.NotCovered {
			for row := r.Start.Row; row <= r.End.Row; row++ {
				m.Missed = append(m.Missed, row)
			}
		}
		report.Coverage = append(report.Coverage, m)
	}
	slices.SortFunc(report.Coverage, func(a, b Coverage) int { return strings.Compare(a.File, b.File) })
	return report, nil
}

// Read collects the Rego and the fixtures of a folder, and of the folders in it. Cases are by folder.
func Read(fsys fs.FS, name string) (*policy.Source, map[string][]Case, error) {
	src := &policy.Source{Name: name, Files: map[string]string{}}
	cases := map[string][]Case{}
	err := fs.WalkDir(fsys, ".", func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		at := path.Join(name, file)
		switch {
		case path.Ext(file) == ".rego":
			text, err := fs.ReadFile(fsys, file)
			if err != nil {
				return err
			}
			src.Files[at] = string(text)
		case path.Base(file) == FixturesFile:
			text, err := fs.ReadFile(fsys, file)
			if err != nil {
				return err
			}
			some, err := ParseCases(text)
			if err != nil {
				return fmt.Errorf("%s: %w", at, err)
			}
			cases[path.Dir(at)] = some
		}
		return nil
	})
	return src, cases, err
}

// fixtures runs the cases of one policy.
func (t *Runner) fixtures(ctx context.Context, report *Report, coverage *cover.Cover, bundle *policy.Bundle, p *policy.Policy, cases []Case) {
	dir := path.Dir(p.File)
	file := path.Join(dir, FixturesFile)
	found := map[bool]int{}
	for i := range cases {
		c := &cases[i]
		found[c.Expect == "allow"]++
		start := time.Now()
		r := Result{Name: p.Name + "/" + c.Name, File: file}
		if err := t.run(ctx, coverage, bundle, p, c); err != nil {
			r.Failure = err.Error()
		}
		r.Took = time.Since(start)
		report.Results = append(report.Results, r)
	}
	if hasRegoTest(bundle, p) && len(cases) == 0 {
		return
	}
	for allowed, what := range map[bool]string{false: "finds something in", true: "allows"} {
		if found[allowed] == 0 {
			report.Results = append(report.Results, Result{Name: p.Name, File: file, Failure: "there is no case that the policy " + what})
		}
	}
}

// hasRegoTest tells whether a policy has unit tests in Rego, which may take the place of fixtures.
func hasRegoTest(bundle *policy.Bundle, p *policy.Policy) bool {
	for file := range bundle.Modules {
		if strings.HasSuffix(file, "_test.rego") && path.Dir(file) == path.Dir(p.File) {
			return true
		}
	}
	return false
}

func (t *Runner) run(ctx context.Context, coverage *cover.Cover, bundle *policy.Bundle, p *policy.Policy, c *Case) error {
	req, inventory, err := c.Request()
	if err != nil {
		return err
	}
	set, err := policy.NewSet([]*policy.Bundle{bundle}, &policy.Config{Policies: map[string]policy.Tuning{p.Code: {Parameters: c.Parameters}}})
	if err != nil {
		return err
	}
	engine := &policy.Engine{Inventory: inventory}
	engine.Use(set)
	var failure error
	reviewer := &review.Reviewer{Engine: engine, Version: "v0.0.0-test", Options: policy.Options{
		Only: map[string]bool{p.Code: true}, Failed: func(_ *policy.Policy, err error) { failure = err },
		// A test may take longer than a request may.
		Budget: 5 * time.Second,
	}}
	if t.Evaluate != nil {
		if err := t.Evaluate(ctx, reviewer, req); err != nil {
			return err
		}
	}
	reviewer.Options.Tracer = coverage
	findings := reviewer.Review(ctx, req)
	if failure != nil {
		return fmt.Errorf("the policy could not be evaluated: %w", failure)
	}
	return c.compare(findings)
}

// rego runs the unit tests in *_test.rego.
func (t *Runner) rego(ctx context.Context, report *Report, coverage *cover.Cover, bundle *policy.Bundle) error {
	modules := map[string]*ast.Module{}
	tests := false
	for file, m := range bundle.Modules {
		modules[file] = m.Copy() // the compiler of the tests rewrites them
		tests = tests || strings.HasSuffix(file, "_test.rego")
	}
	if !tests {
		return nil
	}
	libraries, err := t.libraries()
	if err != nil {
		return err
	}
	for file, m := range libraries {
		modules["library/"+file] = m
	}
	store := inmem.New()
	txn, err := store.NewTransaction(ctx, storage.TransactionParams{})
	if err != nil {
		return err
	}
	defer store.Abort(ctx, txn)
	results, err := tester.NewRunner().
		SetCompiler(ast.NewCompiler().WithCapabilities(policy.Capabilities())).
		SetStore(store).SetModules(modules).SetCoverageQueryTracer(coverage).RaiseBuiltinErrors(true).SetTimeout(10*time.Second).
		RunTests(ctx, txn)
	if err != nil {
		return err
	}
	for r := range results {
		one := Result{Name: strings.TrimPrefix(r.Package, "data.") + "." + r.Name, Took: r.Duration}
		if r.Location != nil {
			one.File = r.Location.File
		}
		switch {
		case r.Error != nil:
			one.Failure = r.Error.Error()
		case r.Fail:
			one.Failure = "is false or undefined"
		}
		report.Results = append(report.Results, one)
	}
	return nil
}

// libraries are the parsed libraries by file.
func (t *Runner) libraries() (map[string]*ast.Module, error) {
	out := map[string]*ast.Module{}
	if t.Loader.Libraries == nil {
		return out, nil
	}
	for file, text := range t.Loader.Libraries.Files {
		m, err := ast.ParseModuleWithOpts(file, text, ast.ParserOptions{ProcessAnnotation: true, RegoVersion: ast.RegoV1})
		if err != nil {
			return nil, err
		}
		out[file] = m
	}
	return out, nil
}

var errNoCase = errors.New("holds no case")

// ParseCases reads a fixtures file: a list of cases.
func ParseCases(text []byte) ([]Case, error) {
	var cases []Case
	if err := unmarshalStrict(text, &cases); err != nil {
		return nil, err
	}
	if len(cases) == 0 {
		return nil, errNoCase
	}
	seen := map[string]bool{}
	for i := range cases {
		c := &cases[i]
		switch {
		case c.Name == "":
			return nil, fmt.Errorf("[%d]: name is missing", i)
		case seen[c.Name]:
			return nil, fmt.Errorf("%s: the name is there twice", c.Name)
		case !slices.Contains([]string{"deny", "warn", "audit", "allow"}, c.Expect):
			return nil, fmt.Errorf("%s: expect: %q; allowed: deny, warn, audit, allow", c.Name, c.Expect)
		}
		seen[c.Name] = true
	}
	return cases, nil
}

// decode is an object with integers that stay integers.
func decode(v any) (map[string]any, error) {
	raw, err := json.Marshal(v)
	if err != nil {
		return nil, err
	}
	return mutate.Decode(raw)
}
