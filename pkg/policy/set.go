package policy

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/open-policy-agent/opa/v1/ast"
)

// Set is a compiled collection of policies with its configuration. It does not change.
type Set struct {
	// Policies in the order of their codes.
	Policies []*Policy
	// Warnings are what is wrong with the configuration and does not keep it from working.
	Warnings []Problem

	config *Config
	index  map[key][]*entry
	// parameters of every policy by its code.
	parameters map[string]ast.Value
}

// AnyRole stands, among the roles of a match, for all of them and for objects that are not managed.
const AnyRole = "*"

type key struct {
	kind      string
	operation Operation
	role      string
}

// entry is a policy as it is configured.
type entry struct {
	*Policy

	tuning     Tuning
	exceptions []*Exception
	parameters ast.Value
}

// NewSet puts bundles and configurations together. The error is a [Problems].
func NewSet(bundles []*Bundle, configs ...*Config) (*Set, error) {
	s := &Set{config: merge(configs), index: map[key][]*entry{}, parameters: map[string]ast.Value{}}
	var problems Problems
	codes := map[string]*Policy{}
	for _, b := range bundles {
		for _, p := range b.Policies {
			if q := codes[p.Code]; q != nil {
				problems = append(problems, Problem{p.Source, p.File, p.Line, fmt.Sprintf("the code %s is that of %s (%s) already", p.Code, q.File, q.Source)})
				continue
			}
			codes[p.Code] = p
			s.Policies = append(s.Policies, p)
		}
	}
	slices.SortFunc(s.Policies, func(a, b *Policy) int { return strings.Compare(a.Code, b.Code) })
	for _, p := range s.Policies {
		e := &entry{Policy: p}
		for _, name := range []string{p.Name, p.Code} { // the code wins
			if t, ok := s.config.Policies[name]; ok {
				e.tuning = t
			}
		}
		for i := range s.config.Exceptions {
			if x := &s.config.Exceptions[i]; x.Policy == p.Code || x.Policy == p.Name {
				e.exceptions = append(e.exceptions, x)
			}
		}
		problems = append(problems, e.setParameters()...)
		s.parameters[p.Code] = e.parameters
		s.add(e)
	}
	s.Warnings = s.Unknown(s.config)
	if len(problems) > 0 {
		return nil, problems
	}
	return s, nil
}

// Unknown is what a configuration says of policies that there are not, or that are more than one.
func (s *Set) Unknown(c *Config) []Problem {
	named := map[string]int{}
	for _, p := range s.Policies {
		named[p.Code]++
		if p.Name != p.Code {
			named[p.Name]++
		}
	}
	var out []Problem
	look := func(at, name string) {
		switch named[name] {
		case 0:
			out = append(out, Problem{Source: "configuration", Message: at + ": there is no policy " + name})
		case 1:
		default:
			out = append(out, Problem{Source: "configuration", Message: at + ": several policies have the name " + name + ", and it means all of them; take the code"})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Policies)) {
		look("policies["+name+"]", name)
	}
	for i := range c.Exceptions {
		look(fmt.Sprintf("exceptions[%d]", i), c.Exceptions[i].Policy)
	}
	return out
}

// Expired are the exceptions that are over: what they covered is found again, and whoever wonders why should read it.
func (s *Set) Expired(now time.Time) []Problem {
	var out []Problem
	for i := range s.config.Exceptions {
		if x := &s.config.Exceptions[i]; !now.Before(x.Expires.Time) {
			out = append(out, Problem{Source: "configuration", Message: fmt.Sprintf("exceptions[%d]: the exception from %s expired on %s", i, x.Policy, x.Expires.Format(time.DateOnly))})
		}
	}
	return out
}

func (s *Set) add(e *entry) {
	matched := map[Operation]bool{}
	for _, o := range e.Match.Operations {
		matched[o] = true
		if o == Create || o == Update {
			matched[AuditRun] = true
		}
	}
	roles := e.Match.Roles
	switch {
	case slices.Contains(roles, AnyRole):
		roles = []string{"", Plain}
	case len(roles) == 0:
		roles = []string{""}
	}
	for _, kind := range e.Match.Kinds {
		for o := range matched {
			for _, role := range roles {
				k := key{kind, o, role}
				s.index[k] = append(s.index[k], e)
			}
		}
	}
}

func (e *entry) setParameters() []Problem {
	var problems []Problem
	values := make(map[string]any, len(e.Parameters))
	for name, p := range e.Parameters {
		values[name] = p.Default
	}
	for _, name := range slices.Sorted(maps.Keys(e.tuning.Parameters)) {
		at := fmt.Sprintf("policies[%s].parameters[%s]: ", e.Code, name)
		p, ok := e.Parameters[name]
		if !ok {
			allowed := strings.Join(slices.Sorted(maps.Keys(e.Parameters)), ", ")
			if allowed == "" {
				allowed = "none"
			}
			problems = append(problems, Problem{Source: "configuration", Message: at + "there is no such parameter; allowed: " + allowed})
			continue
		}
		if err := p.check(e.tuning.Parameters[name]); err != nil {
			problems = append(problems, Problem{Source: "configuration", Message: at + err.Error()})
			continue
		}
		values[name] = e.tuning.Parameters[name]
	}
	v, err := normalJSON(values)
	if err == nil {
		e.parameters, err = ast.InterfaceToValue(v)
	}
	if err != nil {
		problems = append(problems, Problem{Source: "configuration", Message: "policies[" + e.Code + "].parameters: " + err.Error()})
	}
	return problems
}

// matching calls f for every policy that looks at what the view shows.
func (s *Set) matching(v *View, f func(*entry)) {
	roles := [2]string{v.Role, ""}
	some := roles[:]
	if v.Role == Plain {
		some = roles[:1]
	}
	for _, role := range some {
		for _, e := range s.index[key{v.Kind, v.Operation, role}] {
			if e.Match.namespace(v.Namespace) {
				f(e)
			}
		}
	}
}

// actions are what follows from a finding for the view, and from a failure to find out.
func (e *entry) actions(v *View) (action, onError Action) {
	action = e.Severity
	if a, ok := e.Profiles[v.Profile]; ok {
		action = a
	}
	if e.tuning.Action != nil {
		action = *e.tuning.Action
	}
	if a, ok := e.tuning.Profiles[v.Profile]; ok {
		action = a
	}
	if a := e.tuning.namespace(v.Namespace); a != nil {
		action = *a
	}
	switch {
	case e.tuning.OnError != nil:
		onError = *e.tuning.OnError
	case e.OnError != nil:
		onError = min(*e.OnError, action)
	default:
		onError = min(action, e.program.most()) // what only warns does not deny because it fails
	}
	return action, onError
}
