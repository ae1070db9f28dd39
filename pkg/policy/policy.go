// Package policy is the policy engine: it loads Rego policies, compiles them once, and evaluates those that match an
// object into findings. It embeds OPA's compiler and evaluator, and knows nothing of Kafka: that is in the Rego.
//
// The way through it: a [Source] is compiled into a [Bundle]; bundles and a [Config] make a [Set], which an [Engine] holds
// and swaps as a whole; an evaluation of a [View] gives [Finding] values.
package policy

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// Action is what follows from a finding. Actions are ordered: a larger one is the more severe.
type Action int

// The actions.
const (
	// Off does not evaluate the policy.
	Off Action = iota
	// Audit reports the finding in audits and on the command line, and tells nobody at admission.
	Audit
	// Warn tells the user and lets the request pass.
	Warn
	// Deny refuses the request.
	Deny
)

var actionNames = []string{"off", "audit", "warn", "deny"}

func (a Action) String() string {
	if a < 0 || int(a) >= len(actionNames) {
		return fmt.Sprintf("Action(%d)", int(a))
	}
	return actionNames[a]
}

// ParseAction reads an action's name.
func ParseAction(text string) (Action, error) {
	if i := slices.Index(actionNames, text); i >= 0 {
		return Action(i), nil
	}
	return Off, fmt.Errorf("%q is not an action; allowed: %s", text, strings.Join(actionNames, ", "))
}

// MarshalText implements [encoding.TextMarshaler].
func (a Action) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (a *Action) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAction(string(text))
	return err
}

// Operation is what is being done with an object.
type Operation string

// The operations.
const (
	Create Operation = "CREATE"
	Update Operation = "UPDATE"
	Delete Operation = "DELETE"
	// Scale is a change of the number of nodes through the subresource scale.
	Scale Operation = "SCALE"
	// AuditRun looks at an object as it is stored. It matches every policy that matches Create or Update.
	AuditRun Operation = "AUDIT"
)

var operations = []Operation{Create, Update, Delete, Scale, AuditRun}

// Plain is the role, to match, of an object without one: a StatefulSet that nobody annotated.
const Plain = "plain"

// ErrorCode is the code of a policy that could not be evaluated.
const ErrorCode = "MM300"

// Match says what a policy looks at.
type Match struct {
	// Kinds of objects; default StatefulSet.
	Kinds []string `json:"kinds,omitempty"`
	// Operations; default CREATE and UPDATE, which include audits.
	Operations []Operation `json:"operations,omitempty"`
	// Roles; [Plain] stands for objects that are not managed, [AnyRole] for all. Default: every role but Plain.
	Roles []string `json:"roles,omitempty"`
	// Namespaces and ExcludedNamespaces are names or globs (team-*). Default: all, and none.
	Namespaces         []string `json:"namespaces,omitempty"`
	ExcludedNamespaces []string `json:"excludedNamespaces,omitempty"`
}

func (m *Match) namespace(name string) bool {
	return (len(m.Namespaces) == 0 || anyGlob(m.Namespaces, name)) && !anyGlob(m.ExcludedNamespaces, name)
}

func anyGlob(patterns []string, name string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { ok, _ := path.Match(p, name); return ok })
}

// Policy is one policy, as its METADATA describes it.
type Policy struct {
	// Code is the stable name, which messages end with.
	Code string `json:"code"`
	// Name is the last part of the Rego package.
	Name string `json:"name"`
	// Source that it was loaded from.
	Source string `json:"source"`
	// File and Line of its METADATA.
	File string `json:"file"`
	Line int    `json:"line"`

	// Title says in a few words what is wrong with an object that it finds.
	Title string `json:"title"`
	// Why says what happens to somebody who does it all the same.
	Why string `json:"why"`
	// Fix says in words what to do.
	Fix string `json:"fix"`
	// Severity is the action of deny and violation rules; warn rules warn at most.
	Severity Action `json:"severity"`
	// Warns tells that some of its rules warn at most.
	Warns bool `json:"warns,omitempty"`
	// Profiles replace the severity for objects of a profile.
	Profiles map[string]Action `json:"profiles,omitempty"`
	// OnError is the action if the policy cannot be evaluated; nil: what its findings have.
	OnError *Action `json:"onError,omitempty"`
	Match   Match   `json:"match"`
	// Parameters by name.
	Parameters map[string]Parameter `json:"parameters,omitempty"`

	program *program
}

// Parameter is one value that a policy can be tuned with, read in Rego as data.parameters.NAME.
type Parameter struct {
	// Description says what it means, with the unit.
	Description string `json:"description"`
	// Default is its value where the configuration has none.
	Default any `json:"default"`
	// Schema is the JSON Schema of the value, Description and Default included.
	Schema map[string]any `json:"schema"`
}

// Finding is one thing that a policy found in an object.
type Finding struct {
	// Code and Name of the policy; Title is its title.
	Code  string `json:"code"`
	Name  string `json:"policy"`
	Title string `json:"title,omitempty"`
	// Severity is what the policy asks for; Action is what follows once configuration, exceptions and the past of the object
	// have been regarded.
	Severity Action `json:"severity"`
	Action   Action `json:"action"`
	// Message says what is wrong, with the values.
	Message string `json:"message"`
	// Field is where, as Kubernetes writes it; empty if nowhere in particular.
	Field string `json:"field,omitempty"`
	// Annotation is the key, without prefix, of the annotation to change; empty if none.
	Annotation string `json:"annotation,omitempty"`
	// Fix is a value for it that would pass; empty if none is known.
	Fix string `json:"fix,omitempty"`
	// Error tells that this is no verdict: the policy could not be evaluated.
	Error bool `json:"error,omitempty"`
	// Policy is the code of the policy, also where Code says that it failed.
	Policy string `json:"-"`
	// Personal tells that the policy looks at who sends the request.
	Personal bool `json:"-"`
	// Exception is the one that lowered the action; nil if none did.
	Exception *Exception `json:"exception,omitempty"`
	// Known tells that the object had it before the request, which is why it does not deny.
	Known bool `json:"known,omitempty"`
}

// Same tells whether two findings are the same complaint.
func (f *Finding) Same(g *Finding) bool {
	return f.Code == g.Code && f.Field == g.Field && f.Annotation == g.Annotation && f.Message == g.Message
}

// Sort brings findings into the order in which people should read them: what denies first, then by code.
func Sort(findings []Finding) {
	slices.SortStableFunc(findings, func(a, b Finding) int {
		if a.Action != b.Action {
			return int(b.Action - a.Action)
		}
		return strings.Compare(a.Code+"\x00"+a.Field+"\x00"+a.Annotation+"\x00"+a.Message, b.Code+"\x00"+b.Field+"\x00"+b.Annotation+"\x00"+b.Message)
	})
}

// Worst is the largest action of findings; Off if there are none.
func Worst(findings []Finding) Action {
	worst := Off
	for i := range findings {
		worst = max(worst, findings[i].Action)
	}
	return worst
}
