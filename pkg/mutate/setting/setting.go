// Package setting is the frame in which Metamorph's settings stand: what a setting is, how its value is found in the
// layers (StatefulSet, Namespace, profile, rule), where it came from, and what it contributes to the rendered object.
// It knows nothing of Kafka; the settings themselves are in package settings.
package setting

import (
	"slices"
	"strings"
)

// Role is what a StatefulSet runs.
type Role string

// The roles.
const (
	Kafka     Role = "kafka"
	ZooKeeper Role = "zookeeper"
)

// Roles lists every role that can be written.
var Roles = []Role{Kafka, ZooKeeper}

// Setting is one annotation: its documentation, how it is read, what it is when nobody wrote it, and what it renders.
type Setting[T any] struct {
	// Key is the annotation's name without the prefix.
	Key string
	// Roles that have the setting; empty means all.
	Roles []Role
	// Doc says in a sentence or two what it does, with the unit.
	Doc string
	// Allowed says which values there are.
	Allowed string
	// Example is a value that is accepted.
	Example string
	// Rule says in words what it is when no layer has it.
	Rule string
	// Replaces names the Terraform module's variable that it takes the place of, if any.
	Replaces string
	// Fixed says, for a setting that cannot change after creation, what to do instead; Moves tells which changes are meant,
	// nil all.
	Fixed string
	Moves func(from, to T) bool
	// Own is true for what makes no sense as a default for many objects: only the StatefulSet may have it.
	Own bool
	// Internal settings are written by Metamorph only (as annotations where Written is set) and are recorded like the
	// others.
	Internal bool
	// Outside is true for a setting that no part of the pod template follows from.
	Outside bool
	// Properties are the broker's or server's own names for the setting: a line of config with one of them counts as
	// the annotation. FromProperty turns the line's value into the annotation's; nil takes it as it is.
	Properties   []string
	FromProperty func(property, value string) (string, error)

	// Parse reads a value. Its error says what is wrong with it, in a few words; the frame adds field, value, what is
	// allowed and the example.
	Parse func(text string) (T, error)
	// Format writes a value in its canonical form; Parse reads it back. Nil for settings of strings.
	Format func(T) string
	// Default is the rule. Nil: the zero value, formatted as "".
	Default func(r *Resolver) T
	// Adjust lowers a value from a Namespace or profile (never from the StatefulSet) to what this object can do, and
	// says so; an empty string means it stands.
	Adjust func(r *Resolver, v T) (T, string)
	// Check finds contradictions with other settings.
	Check func(r *Resolver, v T)
	// Render adds the setting's share to the object.
	Render func(d *Draft, v T)
}

// Info is what documentation, lookups and the resolver need to know of a setting, whatever its type.
type Info struct {
	Key, Doc, Allowed, Example, Rule, Replaces, Fixed string
	Roles                                             []Role
	Own, Internal, Outside                            bool
	Properties                                        []string
}

// For tells whether a role has the setting.
func (i Info) For(role Role) bool { return len(i.Roles) == 0 || slices.Contains(i.Roles, role) }

// Field is where a user writes it.
func (i Info) Field() string { return Annotation(i.Key) }

// Definition is a setting of any type.
type Definition interface {
	Info() Info
	// Valid tells what is wrong with a value on its own, nil when nothing is.
	Valid(text string) error
	// Fixes tells whether a change of its value is one that cannot be made after creation.
	Fixes(from, to string) bool
	resolve(r *Resolver)
	check(r *Resolver)
	render(d *Draft)
	fromProperty(property, value string) (string, error)
	canonical(text string) (string, error)
}

// Info implements Definition.
func (s *Setting[T]) Info() Info {
	return Info{
		Key: s.Key, Doc: s.Doc, Allowed: s.Allowed, Example: s.Example, Rule: s.Rule, Replaces: s.Replaces, Fixed: s.Fixed,
		Roles: s.Roles, Own: s.Own, Internal: s.Internal, Outside: s.Outside, Properties: s.Properties,
	}
}

// Valid implements Definition.
func (s *Setting[T]) Valid(text string) error { _, err := s.Parse(text); return err }

// Fixes implements Definition.
func (s *Setting[T]) Fixes(from, to string) bool {
	if s.Fixed == "" || from == to {
		return false
	}
	if s.Moves == nil {
		return true
	}
	// "" is the zero value of an optional setting.
	a, errA := s.Parse(from)
	b, errB := s.Parse(to)
	return (errA != nil && from != "") || (errB != nil && to != "") || s.Moves(a, b)
}

// Get returns the resolved value. Inside a Default, Adjust or Check it also records what the caller depends on.
func (s *Setting[T]) Get(r *Resolver) T {
	r.depend(s.Key)
	if e, ok := r.entries[s.Key]; ok && e.done {
		v, _ := e.typed.(T)
		return v
	}
	s.resolve(r)
	v, _ := r.entries[s.Key].typed.(T)
	return v
}

// Given tells whether a layer (not the rule) has the setting, without resolving it.
func (s *Setting[T]) Given(r *Resolver) bool {
	r.depend(s.Key)
	_, _, ok := r.lookup(s.Info(), s)
	return ok
}

func (s *Setting[T]) format(v T) string {
	if s.Format != nil {
		return s.Format(v)
	}
	if text, ok := any(v).(string); ok {
		return text
	}
	panic("setting " + s.Key + " has no Format")
}

func (s *Setting[T]) resolve(r *Resolver) {
	if _, ok := r.entries[s.Key]; ok {
		return
	}
	e := &entry{def: s}
	r.entries[s.Key] = e
	r.stack = append(r.stack, e)
	defer func() {
		r.stack = r.stack[:len(r.stack)-1]
		e.done = true
	}()
	info := s.Info()
	set := func(v T, from Origin) { e.typed, e.Text, e.Origin = v, s.format(v), from }
	rule := func() {
		var v T
		if s.Default != nil {
			v = s.Default(r)
		}
		set(v, Origin{Layer: Rule})
	}
	if rec, ok := r.keep(s.Key); ok {
		// A recorded value that cannot be read is never replaced in silence by what is the rule today.
		v, err := s.Parse(rec.Text)
		if err != nil && rec.Text != "" {
			r.Report(Problem{Code: Reserved, Field: Annotation("settings"), Got: Quote(s.Key), Reason: "has a recorded value that cannot be read: " + err.Error(), Allowed: "what Metamorph wrote"})
		}
		e.typed, e.Text, e.Origin, e.Of = v, rec.Text, rec.Origin, rec.Of
		return
	}
	layer, text, ok := r.lookup(info, s)
	if !ok {
		rule()
		return
	}
	v, err := s.Parse(text)
	if err != nil {
		r.Report(Problem{
			Code: BadValue, Field: layer.field(s.Key), Got: QuoteUnlessSecret(text), Reason: err.Error(), Allowed: s.Allowed, Example: s.Example,
		})
		// So that the other settings can still be judged in the same answer.
		rule()
		e.bad = true
		return
	}
	set(v, layer.Origin)
	if s.Adjust != nil && layer.Origin.Layer != OnObject {
		if w, why := s.Adjust(r, v); why != "" {
			r.Warn(Adjusted, s.Key+": "+why)
			set(w, Origin{Layer: Rule})
		}
	}
}

func (s *Setting[T]) check(r *Resolver) {
	e := r.entries[s.Key]
	if s.Check == nil || e == nil || e.bad {
		return
	}
	v, _ := e.typed.(T)
	s.Check(r, v)
}

func (s *Setting[T]) render(d *Draft) {
	if s.Render != nil {
		s.Render(d, s.Get(d.Resolver))
	}
}

func (s *Setting[T]) fromProperty(property, value string) (string, error) {
	if s.FromProperty == nil {
		return strings.TrimSpace(value), nil
	}
	return s.FromProperty(property, value)
}

// Canonical is the canonical form of a value.
func Canonical(d Definition, text string) (string, error) { return d.canonical(text) }

// FromProperty is the canonical value that a line of config gives the setting which it decides.
func FromProperty(d Definition, property, value string) (string, error) {
	text, err := d.fromProperty(property, value)
	if err != nil {
		return "", err
	}
	return d.canonical(text)
}

func (s *Setting[T]) canonical(text string) (string, error) {
	v, err := s.Parse(text)
	if err != nil {
		return "", err
	}
	return s.format(v), nil
}
