package policy

import (
	"context"
	"strconv"
	"sync"

	"github.com/open-policy-agent/opa/v1/ast"
	"github.com/open-policy-agent/opa/v1/storage"
)

// Inventory is what policies see of the rest of the cluster: data.cluster[kind][name], and for kinds in namespaces
// data.cluster[kind][namespace][name]. It is safe for concurrent use, and empty when it is zero.
type Inventory struct {
	mu    sync.RWMutex
	kinds map[string]*shelf
}

// shelf holds the objects of a kind.
type shelf struct {
	// objects by namespace and name; the namespace is empty for kinds of the cluster.
	objects map[string]map[string]*ast.Term
	// whole is all of them as policies see it; nil when it has to be made.
	whole ast.Value
	// partial tells that there are more, so that policies must not see it yet.
	partial bool
}

// Put adds an object, or replaces it. Namespace is empty for a kind of the cluster. The caller must not change the object
// afterwards.
func (i *Inventory) Put(kind, namespace, name string, obj map[string]any) error {
	v, err := ast.InterfaceToValue(obj)
	if err != nil {
		return err
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.shelf(kind)
	if s.objects[namespace] == nil {
		s.objects[namespace] = map[string]*ast.Term{}
	}
	s.objects[namespace][name] = ast.NewTerm(v)
	s.whole = nil
	return nil
}

// Remove takes an object out.
func (i *Inventory) Remove(kind, namespace, name string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	s := i.kinds[kind]
	if s == nil {
		return // and stays unknown
	}
	delete(s.objects[namespace], name)
	if len(s.objects[namespace]) == 0 {
		delete(s.objects, namespace)
	}
	s.whole = nil
}

// Know tells policies that a kind is looked at, although there may be no object of it. A kind that nobody knows of is
// undefined to policies, and not empty: offline, they cannot conclude that a StorageClass does not exist.
func (i *Inventory) Know(kinds ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, k := range kinds {
		i.shelf(k).partial = false
	}
}

// Await keeps kinds unknown to policies, whatever is put into them, until Know: a part of a kind is worse than nothing of it.
func (i *Inventory) Await(kinds ...string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, k := range kinds {
		i.shelf(k).partial = true
	}
}

// Len is the number of objects.
func (i *Inventory) Len() int {
	i.mu.RLock()
	defer i.mu.RUnlock()
	n := 0
	for _, s := range i.kinds {
		for _, m := range s.objects {
			n += len(m)
		}
	}
	return n
}

// shelf needs the lock.
func (i *Inventory) shelf(kind string) *shelf {
	if i.kinds == nil {
		i.kinds = map[string]*shelf{}
	}
	s := i.kinds[kind]
	if s == nil {
		s = &shelf{objects: map[string]map[string]*ast.Term{}}
		i.kinds[kind] = s
	}
	return s
}

// find reads a path below data.cluster; nil if there is nothing.
func (i *Inventory) find(path []string) ast.Value {
	if i == nil {
		if len(path) == 0 {
			return ast.NewObject()
		}
		return nil
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	if len(path) == 0 {
		out := ast.NewObject()
		for kind, s := range i.kinds {
			if !s.partial {
				out.Insert(ast.StringTerm(kind), ast.NewTerm(s.all()))
			}
		}
		return out
	}
	s := i.kinds[path[0]]
	if s == nil || s.partial {
		return nil
	}
	var v ast.Value
	var rest []string
	switch _, global := s.objects[""]; {
	case len(path) == 1:
		return s.all()
	case global:
		t := s.objects[""][path[1]]
		if t == nil {
			return nil
		}
		v, rest = t.Value, path[2:]
	case len(path) == 2:
		m := s.objects[path[1]]
		if m == nil {
			return nil
		}
		return objectOf(m)
	default:
		t := s.objects[path[1]][path[2]]
		if t == nil {
			return nil
		}
		v, rest = t.Value, path[3:]
	}
	return descend(v, rest)
}

// descend follows a path as OPA writes it: the index of a list is a text too.
func descend(v ast.Value, path []string) ast.Value {
	for _, p := range path {
		list, ok := v.(*ast.Array)
		if !ok {
			if v = get(v, p); v == nil {
				return nil
			}
			continue
		}
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || n >= list.Len() {
			return nil
		}
		v = list.Elem(n).Value
	}
	return v
}

func (s *shelf) all() ast.Value {
	if s.whole == nil {
		if m, global := s.objects[""]; global {
			s.whole = objectOf(m)
		} else {
			out := ast.NewObject()
			for ns, m := range s.objects {
				out.Insert(ast.StringTerm(ns), ast.NewTerm(objectOf(m)))
			}
			s.whole = out
		}
	}
	return s.whole
}

func objectOf(m map[string]*ast.Term) ast.Value {
	items := make([][2]*ast.Term, 0, len(m))
	for k, v := range m {
		items = append(items, ast.Item(ast.StringTerm(k), v))
	}
	return ast.NewObject(items...)
}

// documents is what policies read under data besides rules.
type documents struct {
	storage.Store // panics for everything that an evaluation has no business with

	// parameters are the values of all policies by code.
	parameters map[string]ast.Value
	inventory  *Inventory
}

// Read implements [storage.Store].
func (d *documents) Read(_ context.Context, _ storage.Transaction, path storage.Path) (any, error) {
	var v ast.Value
	switch {
	case len(path) == 0:
		v = ast.NewObject(item("cluster", d.inventory.find(nil)))
	case path[0] == "parameters" && len(path) > 1:
		v = descend(d.parameters[path[1]], path[2:])
	case path[0] == "cluster":
		v = d.inventory.find(path[1:])
	}
	if v == nil {
		return nil, errNotFound
	}
	return v, nil
}

var errNotFound = &storage.Error{Code: storage.NotFoundErr, Message: "there is no such document"}
