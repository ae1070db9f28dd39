package policy

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/topdown"
)

// DefaultBudget is how long one policy may take. A policy takes some ten microseconds, so this is for those that would not end;
// it is generous because it is wall-clock time, and a process that gets no processor must not refuse good manifests. The API
// server waits 5 seconds for the webhook, and cancellation comes late inside a builtin function.
const DefaultBudget = 500 * time.Millisecond

// aloneBudget is that of a policy which is asked by itself, after asking it together with others has failed.
const aloneBudget = DefaultBudget / 4

// Options of an evaluation. The zero value is what the webhook uses.
type Options struct {
	// Inventory is data.cluster; nil is one that knows nothing.
	Inventory *Inventory
	// Budget for each policy; 0 means [DefaultBudget].
	Budget time.Duration
	// Tracer is told every step, for coverage; nil is told nothing.
	Tracer topdown.QueryTracer
	// Naive switches OPA's optimisations off, rule indexing and early exit, to compare decisions with.
	Naive bool
	// Failed, if not nil, is told the details of a policy that could not be evaluated. They may hold values of the object, so
	// they are for nobody who may not read it.
	Failed func(p *Policy, err error)
	// Only evaluates the policies of these codes; nil means all. Skip leaves some out, whatever Only says.
	Only, Skip map[string]bool
}

// Evaluate asks every policy that matches. A policy that cannot be evaluated, for whatever reason, is a finding too. The
// findings are sorted.
func (s *Set) Evaluate(ctx context.Context, v *View, o Options) []Finding {
	if o.Budget <= 0 {
		o.Budget = DefaultBudget
	}
	run := &run{ctx: ctx, view: v, options: o, documents: &documents{parameters: s.parameters, inventory: o.Inventory}}
	defer run.end()
	run.ask(run.asked(s))
	Sort(run.findings)
	return run.findings
}

// most is the largest action of a program's results.
func (p *program) most() Action {
	m := Off
	for i := range p.rules {
		m = max(m, p.rules[i].most)
	}
	return m
}

// run is one evaluation of a set.
type run struct {
	ctx       context.Context //nolint:containedctx // it lives no longer than the call that it was given to
	view      *View
	options   Options
	documents *documents
	findings  []Finding

	cancel topdown.Cancel
	timer  *time.Timer
	stop   func() bool
}

// question is a policy that applies, and what follows from its findings and its failure.
type question struct {
	*entry

	action, onError Action
}

// asked are the policies that apply.
func (r *run) asked(s *Set) []question {
	var out []question
	s.matching(r.view, func(e *entry) {
		if r.options.Only != nil && !r.options.Only[e.Code] || r.options.Skip[e.Code] {
			return
		}
		if action, onError := e.actions(r.view); action != Off {
			out = append(out, question{e, action, onError})
		}
	})
	// Those of a source stand together.
	slices.SortStableFunc(out, func(a, b question) int { return strings.Compare(a.Source, b.Source) })
	return out
}

// together is how many policies one query asks at most: what the query itself costs, as much as a small policy, is paid once.
// Every further one makes OPA's recursion deeper.
const together = 32

// ask asks policies of one source in one query, as many as go together. If that fails, each is asked by itself, so that one
// which fails, or takes too long, takes no other with it.
func (r *run) ask(all []question) {
	for len(all) > 0 {
		n := 1
		for n < len(all) && n < together && all[0].program.input == nil && all[n].program.input == nil && all[n].program.compiler == all[0].program.compiler && all[n].program.plain == all[0].program.plain {
			n++
		}
		some := all[:n]
		all = all[n:]
		first := len(r.findings)
		if n > 1 {
			if r.evaluate(some) == nil {
				continue
			}
			r.findings = r.findings[:first]
			// One of them may be endless, and what is left of the request is for all others.
			r.options.Budget = min(r.options.Budget, aloneBudget)
		}
		for i := range some {
			first := len(r.findings)
			if err := r.evaluate(some[i : i+1]); err != nil {
				// What it found before it failed is not all.
				r.findings = append(r.findings[:first], r.failed(&some[i], err))
				r.except(&some[i], first)
			}
		}
	}
}

// failed is the finding for a policy that could not be evaluated.
func (r *run) failed(q *question, err error) Finding {
	if r.options.Failed != nil {
		r.options.Failed(q.Policy, err)
	}
	return Finding{
		Code: ErrorCode, Name: q.Name, Title: "a policy could not be evaluated", Severity: q.onError, Action: q.onError, Error: true,
		Policy: q.Code, Message: "the policy " + q.Code + " (" + q.Name + ") could not be evaluated: " + summary(err),
	}
}

// except lowers the action of findings, from the first one on, that an exception covers.
func (r *run) except(q *question, first int) {
	for i := first; i < len(r.findings); i++ {
		for _, x := range q.exceptions {
			if x.covers(q.Policy, r.view) {
				r.findings[i].Action, r.findings[i].Exception = min(r.findings[i].Action, Audit), x
				break
			}
		}
	}
}

// evaluate asks policies in one query. An error is that of any of them.
func (r *run) evaluate(all []question) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &panicError{p, debug.Stack()}
		}
	}()
	if err := r.ctx.Err(); err != nil {
		return err
	}
	r.arm()
	program := all[0].program
	body, input := program.body, r.view.input
	if program.input != nil {
		input = program.input(r.view)
	}
	if len(all) > 1 {
		body = make(ast.Body, 0, len(all)+4)
		for i := range all {
			body = append(body, all[i].program.body...)
		}
	}
	q := topdown.NewQuery(body).
		WithCompiler(program.compiler).
		WithStore(r.documents).
		WithInput(input).
		WithCancel(r.cancel).
		WithTime(r.view.Now).
		WithStrictBuiltinErrors(true).
		WithIndexing(!r.options.Naive && !program.plain).
		WithEarlyExit(!r.options.Naive)
	if r.options.Tracer != nil {
		q = q.WithQueryTracer(r.options.Tracer)
	}
	answered := false
	err = q.Iter(r.ctx, func(answer topdown.QueryResult) error {
		answered = true
		for i := range all {
			first := len(r.findings)
			if err := r.answer(&all[i], answer); err != nil {
				return err
			}
			r.except(&all[i], first)
		}
		return nil
	})
	if err == nil && !answered {
		err = errors.New("it is undefined")
	}
	return err
}

// answer reads what one policy found.
func (r *run) answer(q *question, answer topdown.QueryResult) error {
	for i := range q.program.rules {
		rule := &q.program.rules[i]
		term := answer[rule.v]
		if term == nil {
			return fmt.Errorf("%s is undefined", rule.name)
		}
		results, ok := term.Value.(ast.Set)
		if !ok {
			return fmt.Errorf("%s is no set", rule.name)
		}
		if results.Len() == 0 {
			continue
		}
		if err := r.collect(q.entry, rule, q.action, results); err != nil {
			return err
		}
	}
	return nil
}

func (r *run) collect(e *entry, rule *entrypoint, action Action, results ast.Set) error {
	return results.Iter(func(t *ast.Term) error {
		f := Finding{Code: e.Code, Policy: e.Code, Personal: e.program.personal, Name: e.Name, Title: e.Title, Severity: min(e.Severity, rule.most), Action: min(action, rule.most)}
		switch x := t.Value.(type) {
		case ast.String:
			f.Message = string(x)
		case ast.Object:
			var err error
			x.Foreach(func(k, v *ast.Term) {
				key, _ := k.Value.(ast.String)
				text, isText := v.Value.(ast.String)
				into := map[ast.String]*string{"msg": &f.Message, "field": &f.Field, "annotation": &f.Annotation, "fix": &f.Fix}[key]
				switch {
				case into == nil: // conftest's and Gatekeeper's policies have details of their own
				case !isText:
					err = fmt.Errorf("%s: the result's %s is no string", rule.name, string(key))
				default:
					*into = string(text)
				}
			})
			if err != nil {
				return err
			}
		default:
			return fmt.Errorf("%s: a result is a %s; allowed: a string, or an object with msg", rule.name, ast.ValueName(t.Value))
		}
		if f.Message == "" {
			return fmt.Errorf("%s: a result has no msg", rule.name)
		}
		r.findings = append(r.findings, f)
		return nil
	})
}

// arm starts the budget of the next policy. One timer and one flag serve a whole run, as long as it does not go off.
func (r *run) arm() {
	if r.cancel == nil || r.cancel.Cancelled() {
		r.end()
		cancel := topdown.NewCancel()
		r.cancel = cancel
		r.timer = time.AfterFunc(r.options.Budget, cancel.Cancel)
		r.stop = context.AfterFunc(r.ctx, cancel.Cancel)
		return
	}
	r.timer.Reset(r.options.Budget)
}

func (r *run) end() {
	if r.timer != nil {
		r.timer.Stop()
		r.stop()
	}
}

type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.value, e.stack) }

// summary tells what failed and where, without values, which may be anybody's secrets.
func summary(err error) string {
	var panicked *panicError
	var failed *topdown.Error
	switch {
	case errors.As(err, &panicked):
		return "OPA panicked"
	case topdown.IsCancel(err):
		return "it took too long"
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return "the request ended before"
	case errors.As(err, &failed):
		what := map[string]string{
			topdown.BuiltinErr: "a builtin function failed", topdown.TypeErr: "a builtin function got another type",
			topdown.ConflictErr: "rules contradict each other",
		}[failed.Code]
		if what == "" {
			what = strings.TrimPrefix(failed.Code, "eval_")
		}
		if failed.Location != nil {
			what += fmt.Sprintf(" (%s:%d)", failed.Location.File, failed.Location.Row)
		}
		return what
	}
	return err.Error()
}
