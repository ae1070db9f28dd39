package setting

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
)

// Source is the kind of layer that a value came from.
type Source string

// The layers in order of precedence.
const (
	OnObject  Source = "annotation" // the StatefulSet's own annotation, or a line of its config
	Namespace Source = "namespace"  // the Namespace's annotation
	Profile   Source = "profile"    // the profile
	Rule      Source = "rule"       // the built-in rule
	Spec      Source = "spec"       // a field of the spec (replicas)
)

// Origin tells where a value came from.
type Origin struct {
	Layer Source
	// Name is the profile's, for a profile.
	Name string
}

func (o Origin) String() string {
	if o.Name != "" {
		return string(o.Layer) + " " + o.Name
	}
	return string(o.Layer)
}

func parseOrigin(s string) Origin {
	layer, name, _ := strings.Cut(s, " ")
	return Origin{Layer: Source(layer), Name: name}
}

// Value is a resolved setting as it is recorded: its canonical text, where it came from, and what a rule derived it from.
type Value struct {
	Text   string
	Origin Origin
	Of     []string
}

type value struct {
	Value string   `json:"value"`
	From  string   `json:"from"`
	Of    []string `json:"of,omitempty"`
}

// AppendValues appends the settings for which keep is true (nil: all) as JSON, sorted:
// {"heap":{"value":"1Gi","from":"rule","of":["memory"]}}.
func AppendValues(b []byte, values map[string]Value, keep func(key string) bool) []byte {
	keys := make([]string, 0, len(values))
	for k := range values {
		if keep == nil || keep(k) {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	b = append(b, '{')
	for i, k := range keys {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(leaf.AppendJSON(b, k), ':')
		b = appendValue(b, values[k])
	}
	return append(b, '}')
}

// MarshalJSON writes {"value":"1Gi","from":"rule","of":["memory"]}.
func (v Value) MarshalJSON() ([]byte, error) { return appendValue(nil, v), nil }

func appendValue(b []byte, v Value) []byte {
	b = leaf.AppendJSON(append(b, `{"value":`...), v.Text)
	b = leaf.AppendJSON(append(b, `,"from":`...), v.Origin.String())
	for i, of := range v.Of {
		if i == 0 {
			b = append(b, `,"of":[`...)
		} else {
			b = append(b, ',')
		}
		b = leaf.AppendJSON(b, of)
	}
	if len(v.Of) > 0 {
		b = append(b, ']')
	}
	return append(b, '}')
}

// UnmarshalJSON reads what MarshalJSON writes.
func (v *Value) UnmarshalJSON(raw []byte) error {
	var x value
	if err := json.Unmarshal(raw, &x); err != nil {
		return err
	}
	*v = Value{Text: x.Value, Origin: parseOrigin(x.From), Of: x.Of}
	return nil
}

// ParseValues reads what AppendValues writes, in one pass.
func ParseValues(raw []byte) (map[string]Value, error) {
	var all map[string]value
	if err := json.Unmarshal(raw, &all); err != nil {
		return nil, err
	}
	out := make(map[string]Value, len(all))
	for k, v := range all {
		out[k] = Value{Text: v.Value, Origin: parseOrigin(v.From), Of: v.Of}
	}
	return out, nil
}

// Layer is one place that settings are written in.
type Layer struct {
	Origin Origin
	// Values by key, without prefix.
	Values map[string]string
	// Fields are where the values of a layer stand that is neither annotations nor a profile.
	Fields map[string]string
	// Config is the parsed config of this layer: a line there counts as the setting that has it as a property.
	Config map[string]string
}

func (l *Layer) field(key string) string {
	if _, ok := l.Values[key]; !ok {
		key = "config"
	}
	if f, ok := l.Fields[key]; ok {
		return f
	}
	switch l.Origin.Layer {
	case Namespace:
		return "namespace " + l.Origin.Name + ": " + Annotation(key)
	case Profile:
		return "profile " + l.Origin.Name + ": data[" + key + "]"
	}
	return Annotation(key)
}

type entry struct {
	Value
	def   Definition
	typed any
	done  bool
	bad   bool
}

// Facts are what the settings are derived from besides each other.
type Facts struct {
	Name, Namespace string
	// Replicas is the number of nodes: spec.replicas.
	Replicas int
	// ClusterUID tells one Kubernetes cluster from another: the UID of its namespace kube-system.
	ClusterUID string
}

// Resolver finds the value of every setting of one object.
type Resolver struct {
	Role  Role
	Facts Facts

	all      []Definition
	layers   []*Layer
	recorded map[string]Value
	redo     func(key string, v Value) bool
	entries  map[string]*entry
	stack    []*entry
	problems []Problem
	warnings []Warning
}

// NewResolver makes a resolver of the settings in all over layers in order of precedence. Settings in recorded keep their
// value unless redo says that they are to be resolved anew; both may be nil.
func NewResolver(all []Definition, role Role, facts Facts, layers []*Layer, recorded map[string]Value, redo func(string, Value) bool) *Resolver {
	return &Resolver{all: all, Role: role, Facts: facts, layers: layers, recorded: recorded, redo: redo, entries: make(map[string]*entry, len(all))}
}

// Resolve resolves, then checks, every setting that the role has.
func (r *Resolver) Resolve() {
	for _, d := range r.all {
		if d.Info().For(r.Role) {
			d.resolve(r)
		}
	}
	for _, d := range r.all {
		if d.Info().For(r.Role) {
			d.check(r)
		}
	}
}

// Values returns every resolved setting.
func (r *Resolver) Values() map[string]Value {
	out := make(map[string]Value, len(r.entries))
	for k, e := range r.entries {
		out[k] = e.Value
	}
	return out
}

// Text returns a resolved setting's canonical text.
func (r *Resolver) Text(key string) string {
	if e, ok := r.entries[key]; ok {
		return e.Text
	}
	return ""
}

// Problems lists what was found, in order.
func (r *Resolver) Problems() []Problem { return r.problems }

// Warnings lists what the user should know of.
func (r *Resolver) Warnings() []Warning { return r.warnings }

// Report adds a problem.
func (r *Resolver) Report(p Problem) { r.problems = append(r.problems, p) }

// Conflict reports that a setting and another one contradict each other; example is a value, or another setting, that
// would not.
func (r *Resolver) Conflict(key, other, example, format string, args ...any) {
	field := Annotation(key)
	reason := fmt.Sprintf(format, args...)
	allowed := ""
	if e := r.entries[key]; e != nil {
		field, allowed = r.FieldOf(key), e.def.Info().Allowed
		reason = Quote(e.Text) + " " + reason
	}
	if e := r.entries[other]; e != nil {
		reason += fmt.Sprintf("; %s is %s (from %s)", other, Quote(e.Text), r.describe(e))
	}
	r.Report(Problem{Code: Contradiction, Field: field, Reason: reason, Allowed: allowed, Example: example})
}

func (r *Resolver) describe(e *entry) string {
	switch {
	case e.Origin.Layer == Rule && len(e.Of) > 0:
		return "the rule on " + strings.Join(e.Of, ", ")
	case e.Origin.Layer == Rule:
		return "the built-in rule"
	}
	return e.Origin.String()
}

// FieldOf is where the value of a setting was written, or could be.
func (r *Resolver) FieldOf(key string) string {
	if e := r.entries[key]; e != nil {
		for _, l := range r.layers {
			if l.Origin == e.Origin {
				return l.field(key)
			}
		}
	}
	return Annotation(key)
}

// Warn adds a warning.
func (r *Resolver) Warn(c Code, text string) {
	r.warnings = append(r.warnings, Warning{Code: c, Text: text})
}

// OnObject tells whether the StatefulSet's own annotations have a setting.
func (r *Resolver) OnObject(key string) bool {
	r.depend(key)
	for _, l := range r.layers {
		if _, ok := l.Values[key]; ok && l.Origin.Layer == OnObject {
			return true
		}
	}
	return false
}

// Recorded returns the text that a setting had before this change; "" if it had none.
func (r *Resolver) Recorded(key string) string { return r.recorded[key].Text }

// Replicas returns the node count and records that the caller depends on it.
func (r *Resolver) Replicas() int { r.depend("replicas"); return r.Facts.Replicas }

// depend records that the setting being resolved was derived from key.
func (r *Resolver) depend(key string) {
	if len(r.stack) == 0 {
		return
	}
	top := r.stack[len(r.stack)-1]
	if i, ok := slices.BinarySearch(top.Of, key); !ok && top.def.Info().Key != key {
		top.Of = slices.Insert(top.Of, i, key)
	}
}

func (r *Resolver) keep(key string) (Value, bool) {
	v, ok := r.recorded[key]
	if !ok || (r.redo != nil && r.redo(key, v)) {
		return Value{}, false
	}
	return v, true
}

// lookup finds the highest layer that has the setting.
func (r *Resolver) lookup(info Info, d Definition) (*Layer, string, bool) {
	if info.Internal {
		return nil, "", false
	}
	for _, l := range r.layers {
		if info.Own && l.Origin.Layer != OnObject {
			continue
		}
		if v, ok := l.Values[info.Key]; ok {
			return l, v, true
		}
		for _, p := range info.Properties {
			line, ok := l.Config[p]
			if !ok {
				continue
			}
			if v, err := d.fromProperty(p, line); err == nil {
				return l, v, true
			}
		}
	}
	return nil, "", false
}

// ByKey returns the resolved value of a setting that the caller cannot name as a variable, because the two are derived
// from each other and Go refuses to initialise variables in a circle. It panics if there is no such setting of type T.
func ByKey[T any](r *Resolver, key string) T { return find[T](r, key).Get(r) }

// Given tells whether a layer (not the rule) has the setting; see ByKey.
func Given[T any](r *Resolver, key string) bool { return find[T](r, key).Given(r) }

func find[T any](r *Resolver, key string) *Setting[T] {
	for _, d := range r.all {
		if s, ok := d.(*Setting[T]); ok && s.Key == key {
			return s
		}
	}
	panic("no setting " + key)
}
