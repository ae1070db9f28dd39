package policy

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// Config tunes policies: what follows from their findings, and who is exempt.
type Config struct {
	// Policies by code or name.
	Policies map[string]Tuning `yaml:"policies" json:"policies,omitempty"`
	// Exceptions exempt objects from policies for a time.
	Exceptions []Exception `yaml:"exceptions" json:"exceptions,omitempty"`
}

// Tuning changes one policy. The most particular action holds: that of the namespace, of the profile, then the general one,
// then what the policy itself says.
type Tuning struct {
	Action *Action `yaml:"action" json:"action,omitempty"`
	// Profiles are actions by the name of the object's profile.
	Profiles map[string]Action `yaml:"profiles" json:"profiles,omitempty"`
	// Namespaces are actions by name or glob; of several globs the longest counts.
	Namespaces map[string]Action `yaml:"namespaces" json:"namespaces,omitempty"`
	// OnError is the action if the policy cannot be evaluated.
	OnError *Action `yaml:"onError" json:"onError,omitempty"`
	// Parameters by name.
	Parameters map[string]any `yaml:"parameters" json:"parameters,omitempty"`
}

// Exception exempts objects from a policy until a day. Audits report what it covers.
type Exception struct {
	// Policy is a code or a name.
	Policy string `yaml:"policy" json:"policy"`
	// Namespace is a name or glob; empty means all.
	Namespace string `yaml:"namespace" json:"namespace,omitempty"`
	// Object is the StatefulSet's name, or a glob; empty means all.
	Object string `yaml:"object" json:"object,omitempty"`
	// Reason says why; it is required.
	Reason string `yaml:"reason" json:"reason"`
	// Expires is the first moment without the exception, as a date (UTC) or RFC 3339; it is required.
	Expires Moment `yaml:"expires" json:"expires"`
}

// Moment is a point in time that may be written as a date.
type Moment struct{ time.Time }

// UnmarshalText implements [encoding.TextUnmarshaler].
func (m *Moment) UnmarshalText(text []byte) error {
	for _, layout := range []string{time.DateOnly, time.RFC3339} {
		if t, err := time.Parse(layout, string(text)); err == nil {
			m.Time = t
			return nil
		}
	}
	return fmt.Errorf("%q is not a date; example: 2027-01-31", text)
}

// UnmarshalYAML implements [yaml.Unmarshaler]: a date without quotes is one to YAML, too.
func (m *Moment) UnmarshalYAML(n *yaml.Node) error {
	if err := m.UnmarshalText([]byte(n.Value)); err != nil {
		return fmt.Errorf("line %d: %w", n.Line, err)
	}
	return nil
}

func (e *Exception) covers(p *Policy, v *View) bool {
	matches := func(pattern, name string) bool { ok, _ := path.Match(pattern, name); return pattern == "" || ok }
	return (e.Policy == p.Code || e.Policy == p.Name) && matches(e.Namespace, v.Namespace) && matches(e.Object, v.Name) && v.Now.Before(e.Expires.Time)
}

// yamlLine finds the line in an error of the YAML library.
var yamlLine = regexp.MustCompile(`line (\d+): `)

// ParseConfig reads a configuration. The error is a [Problems]; file is its name in them.
func ParseConfig(source, file string, text []byte) (*Config, error) {
	bad := func(line int, message string) error { return Problems{{source, file, line, message}} }
	if len(text) > maxFile {
		return nil, bad(0, fmt.Sprintf("is too large: a configuration has at most %d MiB", maxFile>>20))
	}
	var c Config
	dec := yaml.NewDecoder(bytes.NewReader(text))
	dec.KnownFields(true)
	if err := dec.Decode(&c); err != nil && !errors.Is(err, io.EOF) {
		var many *yaml.TypeError
		lines := []string{strings.TrimPrefix(err.Error(), "yaml: ")}
		if errors.As(err, &many) {
			lines = many.Errors
		}
		var problems Problems
		for _, l := range lines {
			p := Problem{Source: source, File: file, Message: readable(l)}
			if m := yamlLine.FindStringSubmatch(l); m != nil {
				p.Line, _ = strconv.Atoi(m[1])
				p.Message = readable(strings.Replace(l, m[0], "", 1))
			}
			problems = append(problems, p)
		}
		return nil, problems
	}
	if err := dec.Decode(new(any)); !errors.Is(err, io.EOF) {
		return nil, bad(0, "holds more than one document; write one")
	}
	var problems Problems
	for i, e := range c.Exceptions {
		for _, p := range e.problems() {
			problems = append(problems, Problem{source, file, 0, fmt.Sprintf("exceptions[%d]: %s", i, p)})
		}
	}
	for _, name := range slices.Sorted(maps.Keys(c.Policies)) {
		for pattern := range c.Policies[name].Namespaces {
			if _, err := path.Match(pattern, ""); err != nil {
				problems = append(problems, Problem{source, file, 0, fmt.Sprintf("policies[%s].namespaces: the glob %q cannot be read", name, pattern)})
			}
		}
	}
	if len(problems) > 0 {
		return nil, problems
	}
	return &c, nil
}

// readable takes the names of Go types out of a message.
func readable(text string) string {
	text = strings.NewReplacer(" in type policy.Config", "; allowed: policies, exceptions", " in type policy.Tuning", "; allowed: action, profiles, namespaces, onError, parameters",
		" in type policy.Exception", "; allowed: policy, namespace, object, reason, expires").Replace(text)
	text, _, _ = strings.Cut(text, " into policy.")
	return text
}

func (e *Exception) problems() (out []string) {
	if e.Policy == "" {
		out = append(out, "policy is missing: the code or the name of one")
	}
	if e.Reason == "" {
		out = append(out, "reason is missing: who reads this in a year wants to know")
	}
	if e.Expires.IsZero() {
		out = append(out, "expires is missing; example: 2027-01-31")
	}
	for _, pattern := range []string{e.Namespace, e.Object} {
		if _, err := path.Match(pattern, ""); err != nil {
			out = append(out, fmt.Sprintf("the glob %q cannot be read", pattern))
		}
	}
	return out
}

// merge puts configurations together: later ones win, policy by policy; exceptions add up.
func merge(configs []*Config) *Config {
	out := &Config{Policies: map[string]Tuning{}}
	for _, c := range configs {
		maps.Copy(out.Policies, c.Policies)
		out.Exceptions = append(out.Exceptions, c.Exceptions...)
	}
	return out
}

// namespace is the action for a namespace; nil if there is none in particular.
func (t *Tuning) namespace(name string) *Action {
	if len(t.Namespaces) == 0 {
		return nil
	}
	if a, ok := t.Namespaces[name]; ok {
		return &a
	}
	best, found := "", (*Action)(nil)
	for _, pattern := range slices.Sorted(maps.Keys(t.Namespaces)) {
		if ok, _ := path.Match(pattern, name); ok && len(pattern) > len(best) {
			a := t.Namespaces[pattern]
			best, found = pattern, &a
		}
	}
	return found
}
