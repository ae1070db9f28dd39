// Package source keeps the policies in force as their sources are: the built-in library, folders, ConfigMaps. A source that
// cannot be used keeps its last good state, and says what is wrong with it.
package source

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"maps"
	"path"
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
	// Policies are the codes in force from this source, of an earlier state of it if it is not ready.
	Policies []string `json:"policies,omitempty"`
	// Configuration tells that the source's configuration is in force.
	Configuration bool `json:"configuration,omitempty"`
	// Problems are what is wrong.
	Problems []policy.Problem `json:"problems,omitempty"`
	// Warnings do not keep the source from working.
	Warnings []policy.Problem `json:"warnings,omitempty"`
	// Digest identifies what was read.
	Digest string `json:"digest"`
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
	bundle *policy.Bundle // last good; nil if there are no policies
	config *policy.Config // last good; nil if there is none
	status Status
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
// wrong with it, a [policy.Problems]; then the source's last good state stays in force.
func (m *Manager) Put(name string, files map[string]string) error {
	digest := digestOf(files)
	m.mu.Lock()
	defer m.mu.Unlock()
	old := m.sources[name]
	if old != nil && old.status.Digest == digest {
		return problems(old.status.Problems)
	}
	next := &state{status: Status{Digest: digest, Ready: true}}
	fail := func(err error) error {
		kept := &state{}
		if old != nil {
			*kept = *old
		}
		kept.status = describe(kept)
		kept.status.Digest, kept.status.Ready, kept.status.Problems = digest, false, list(name, err)
		m.set(name, kept)
		return problems(kept.status.Problems)
	}
	rego := map[string]string{}
	for file, text := range files {
		if path.Ext(file) == ".rego" {
			rego[file] = text
		}
	}
	var errs policy.Problems
	if len(rego) > 0 {
		b, err := m.loader.Load(&policy.Source{Name: name, Files: rego})
		if err != nil {
			errs = append(errs, list(name, err)...)
		}
		next.bundle = b
	}
	if text, ok := files[ConfigFile]; ok {
		c, err := policy.ParseConfig(name, ConfigFile, []byte(text))
		if err != nil {
			errs = append(errs, list(name, err)...)
		}
		next.config = c
	}
	switch {
	case len(errs) > 0:
		return fail(errs)
	case next.bundle == nil && next.config == nil:
		return fail(policy.Problems{{Source: name, Message: "holds neither a .rego file nor " + ConfigFile}})
	}
	set, err := m.assemble(name, next)
	if err != nil {
		return fail(err)
	}
	digest, next.status = next.status.Digest, describe(next)
	next.status.Digest, next.status.Ready, next.status.Warnings = digest, true, set.Warnings
	m.engine.Use(set)
	m.set(name, next)
	return nil
}

// Remove takes a source out of force.
func (m *Manager) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if _, ok := m.sources[name]; !ok {
		return nil
	}
	// Without the source there are fewer codes, and tunings for what is gone are only a warning. A parameter that another
	// source's configuration sets, of a policy that is now another source's, may yet not fit.
	set, err := m.assemble(name, nil)
	if err != nil {
		return err
	}
	delete(m.sources, name)
	m.engine.Use(set)
	return nil
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
func (m *Manager) Len() int { return len(m.engine.Set().Policies) }

// Names lists the sources.
func (m *Manager) Names() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Sorted(maps.Keys(m.sources))
}

func (m *Manager) set(name string, s *state) {
	m.sources[name] = s
	if m.changed != nil {
		m.changed(name, s.status)
	}
}

// assemble makes the set with one source replaced, or left out if it is nil. Sources count in the order of their names.
func (m *Manager) assemble(name string, with *state) (*policy.Set, error) {
	bundles, configs := slices.Clone(m.builtin), []*policy.Config{}
	all := maps.Clone(m.sources)
	delete(all, name)
	if with != nil {
		all[name] = with
	}
	for _, n := range slices.Sorted(maps.Keys(all)) {
		if b := all[n].bundle; b != nil {
			bundles = append(bundles, b)
		}
		if c := all[n].config; c != nil {
			configs = append(configs, c)
		}
	}
	return policy.NewSet(bundles, configs...)
}

func describe(s *state) Status {
	out := Status{Configuration: s.config != nil}
	if s.bundle != nil {
		for _, p := range s.bundle.Policies {
			out.Policies = append(out.Policies, p.Code)
		}
	}
	return out
}

func list(name string, err error) policy.Problems {
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
