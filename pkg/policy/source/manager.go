// Package source keeps the policies in force as their sources are: the built-in library, folders, ConfigMaps. A source that
// cannot be used keeps its last good state, and says what is wrong with it.
package source

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"path"
	"reflect"
	"slices"
	"sync"

	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

// ConfigFile is the name of a source's file that tunes policies; see [policy.Config].
const ConfigFile = "config.yaml"

// Status is how a source is.
type Status struct {
	// Ready tells that the source is in force as it was last read.
	Ready bool `json:"ready"`
	// Policies are the codes in force from this source: of an earlier state of it if it is not ready, and none if this process
	// has seen no good one.
	Policies []string `json:"policies,omitempty"`
	// Configuration tells that the source's configuration is in force.
	Configuration bool `json:"configuration,omitempty"`
	// Problems are what is wrong.
	Problems []policy.Problem `json:"problems,omitempty"`
	// Warnings do not keep the source from working.
	Warnings []policy.Problem `json:"warnings,omitempty"`
	// Digest identifies what was read.
	Digest string `json:"digest"`

	// waiting tells that it is refused because of others.
	waiting bool
}

// Manager holds the sources, and puts what they amount to into an engine. It is safe for concurrent use.
type Manager struct {
	engine *policy.Engine
	loader *policy.Loader
	// changed is told of every status that is new, with the lock held; nil is told nothing.
	changed func(name string, s Status)

	mu      sync.Mutex
	builtin []*policy.Bundle
	sources map[string]*state
}

// state is one source.
type state struct {
	// good is what is in force of it; empty if nothing is.
	good parts
	// next was read and is in order by itself, but does not go together with the others; nil if there is none such.
	next   *parts
	status Status
}

// parts are what a source consists of; each may be nil.
type parts struct {
	bundle *policy.Bundle
	config *policy.Config
}

// NewManager starts with the built-in sources, which must be without fault, and puts them in force.
func NewManager(engine *policy.Engine, loader *policy.Loader, changed func(name string, s Status), builtin ...*policy.Source) (*Manager, error) {
	m := &Manager{engine: engine, loader: loader, changed: changed, sources: map[string]*state{}}
	for _, src := range builtin {
		b, err := loader.Load(src)
		if err != nil {
			return nil, err
		}
		m.builtin = append(m.builtin, b)
	}
	set, err := policy.NewSet(m.builtin)
	if err != nil {
		return nil, err
	}
	engine.Use(set)
	return m, nil
}

// Put reads a source anew: Rego files, and config.yaml. What has not changed is not compiled again. The error is what is
// wrong with it, a [policy.Problems]; then the source's last good state stays in force. A source that is refused because of
// another one is tried again whenever another one changes.
func (m *Manager) Put(name string, files map[string]string) error {
	digest := digestOf(files)
	m.mu.Lock()
	defer m.mu.Unlock()
	s := m.sources[name]
	if s != nil && s.status.Digest == digest {
		return problems(s.status.Problems)
	}
	if s == nil {
		s = &state{}
		m.sources[name] = s
	}
	next, err := m.read(name, files)
	s.next = next
	m.settle(name, digest, list(name, err))
	return problems(s.status.Problems)
}

// read compiles a source by itself.
func (m *Manager) read(name string, files map[string]string) (*parts, error) {
	rego := map[string]string{}
	for file, text := range files {
		if path.Ext(file) == ".rego" {
			rego[file] = text
		}
	}
	var next parts
	var errs policy.Problems
	if len(rego) > 0 {
		b, err := m.loader.Load(&policy.Source{Name: name, Files: rego})
		errs = append(errs, list(name, err)...)
		next.bundle = b
	}
	if text, ok := files[ConfigFile]; ok {
		c, err := policy.ParseConfig(name, ConfigFile, []byte(text))
		errs = append(errs, list(name, err)...)
		next.config = c
	}
	switch {
	case len(errs) > 0:
		return nil, errs
	case next.bundle == nil && next.config == nil:
		return nil, policy.Problems{{Source: name, Message: "holds neither a .rego file nor " + ConfigFile}}
	}
	return &next, nil
}

// Remove takes a source out of force.
func (m *Manager) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	s, ok := m.sources[name]
	if !ok {
		return nil
	}
	delete(m.sources, name)
	if _, err := m.assemble("", nil); err != nil {
		m.sources[name] = s // another source's tuning does not fit without it
		return err
	}
	m.settle("", "", nil)
	return nil
}

// settle puts in force what goes together, and tells of every source how it is then. One source was just read, as digest and
// with problems of its own; "" if none was.
func (m *Manager) settle(read, digest string, own policy.Problems) {
	refused := map[string]policy.Problems{}
	for changed := true; changed; {
		changed = false
		for _, name := range slices.Sorted(maps.Keys(m.sources)) {
			s := m.sources[name]
			if s.next == nil {
				continue
			}
			if _, err := m.assemble(name, s.next); err != nil {
				refused[name] = list(name, err)
				continue
			}
			s.good, s.next, changed = *s.next, nil, true
			delete(refused, name)
		}
	}
	set, err := m.assemble("", nil)
	if err == nil { // it always is: every part was assembled with the others
		m.engine.Use(set)
	}
	for _, name := range slices.Sorted(maps.Keys(m.sources)) {
		s := m.sources[name]
		now := Status{Digest: s.status.Digest, Problems: s.status.Problems, Configuration: s.good.config != nil}
		if name == read {
			now.Digest, now.Problems = digest, own
		}
		if ps, ok := refused[name]; ok {
			now.Problems = ps
		} else if name != read && s.next == nil && s.status.waiting {
			now.Problems = nil
		}
		_, now.waiting = refused[name]
		now.Problems = few(now.Problems)
		now.Ready = len(now.Problems) == 0
		if s.good.bundle != nil {
			for _, p := range s.good.bundle.Policies {
				now.Policies = append(now.Policies, p.Code)
			}
		}
		if s.good.config != nil && set != nil {
			now.Warnings = few(set.Unknown(s.good.config))
		}
		if !reflect.DeepEqual(s.status, now) {
			s.status = now
			if m.changed != nil {
				m.changed(name, now)
			}
		}
	}
}

// maxProblems is how many problems a status lists: it is written on the ConfigMap, whose annotations have bounds.
const maxProblems = 20

func few(ps []policy.Problem) []policy.Problem {
	if len(ps) <= maxProblems {
		return ps
	}
	more := policy.Problem{Source: ps[0].Source, Message: fmt.Sprintf("and %d more", len(ps)-maxProblems)}
	return append(slices.Clone(ps[:maxProblems]), more)
}

// Statuses returns how every source is, by name.
func (m *Manager) Statuses() map[string]Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]Status, len(m.sources))
	for name, s := range m.sources {
		out[name] = s.status
	}
	return out
}

// Len is how many policies are in force.
func (m *Manager) Len() int { return len(m.engine.Set().Policies) } // without the lock, so that changed may ask

// assemble makes the set of what is good, with other parts for one source; "" for none. Sources count in the order of their
// names.
func (m *Manager) assemble(name string, with *parts) (*policy.Set, error) {
	bundles, configs := slices.Clone(m.builtin), []*policy.Config{}
	for _, n := range slices.Sorted(maps.Keys(m.sources)) {
		p := m.sources[n].good
		if n == name {
			p = *with
		}
		if p.bundle != nil {
			bundles = append(bundles, p.bundle)
		}
		if p.config != nil {
			configs = append(configs, p.config)
		}
	}
	return policy.NewSet(bundles, configs...)
}

func list(name string, err error) policy.Problems {
	if err == nil {
		return nil
	}
	var ps policy.Problems
	if errors.As(err, &ps) {
		return ps
	}
	return policy.Problems{{Source: name, Message: err.Error()}}
}

func problems(ps []policy.Problem) error {
	if len(ps) == 0 {
		return nil
	}
	return policy.Problems(ps)
}

// digestOf identifies files by their contents.
func digestOf(files map[string]string) string {
	h := sha256.New()
	enc := json.NewEncoder(h)
	for _, f := range slices.SortedFunc(maps.Keys(files), cmp.Compare[string]) {
		_ = enc.Encode([2]string{f, files[f]}) // of strings, into a hash
	}
	return hex.EncodeToString(h.Sum(nil)[:8])
}
