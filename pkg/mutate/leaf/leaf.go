// Package leaf compares and edits Kubernetes objects as leaves: path and value, on raw JSON.
//
// Raw JSON, because a typed round trip deletes fields newer than the Go types it was compiled with. Leaves, because
// three parties write one object (its user, Metamorph, other webhooks), and only a unit that has exactly one author
// can be attributed, kept or withdrawn.
//
// Lists are addressed by the keys that server-side apply uses (containers by name, mounts by path and so on). Every
// other list, and a list that holds one key twice, is a single leaf. So is every entry of a list that is a union (an env
// entry, a volume), and so is a probe's or a lifecycle hook's handler: a new member displaces the old one.
package leaf

import (
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Path is a leaf's address: segments joined by a NUL byte. A segment is a field name; "#" and the key's values joined
// by "|" for an entry of a keyed list; or Handler.
type Path string

const sep = "\x00"

// Handler is the last segment of the one leaf that holds a probe's or a hook's handler, whichever kind it is.
const Handler = "<handler>"

// Join builds a path from its segments.
func Join(segments ...string) Path { return Path(strings.Join(segments, sep)) }

// Segments takes a path apart.
func (p Path) Segments() []string { return strings.Split(string(p), sep) }

// Child is the path one segment below p.
func (p Path) Child(segment string) Path {
	if p == "" {
		return Path(segment)
	}
	return p + sep + Path(segment)
}

// Under tells whether p is q or lies below it.
func (p Path) Under(q Path) bool {
	return p == q || (len(p) > len(q) && strings.HasPrefix(string(p), string(q)) && p[len(q)] == 0)
}

// String prints a path as Kubernetes prints fields: spec.template.spec.containers[kafka].env[TZ],
// metadata.annotations[metamorph.dev/heap].
func (p Path) String() string {
	var b strings.Builder
	for i, s := range p.Segments() {
		switch {
		case s == Handler:
			continue
		case strings.HasPrefix(s, "#"):
			b.WriteString("[" + s[1:] + "]")
		case strings.ContainsAny(s, "./"):
			b.WriteString("[" + s + "]")
		default:
			if i > 0 {
				b.WriteByte('.')
			}
			b.WriteString(s)
		}
	}
	return b.String()
}

// List describes a list that has keys.
type list struct {
	keys []string // fields that make an entry's key; a dot descends
	unit bool     // an entry is one leaf
}

// lists are the pod template's lists with listMapKeys in the OpenAPI schema, and the claim templates: atomic for
// server-side apply, but a user who writes one more claim must not lose the rendered one.
var lists = map[string]list{
	"containers":                {keys: []string{"name"}},
	"initContainers":            {keys: []string{"name"}},
	"volumeClaimTemplates":      {keys: []string{"metadata.name"}},
	"env":                       {keys: []string{"name"}, unit: true},
	"volumes":                   {keys: []string{"name"}, unit: true},
	"volumeMounts":              {keys: []string{"mountPath"}, unit: true},
	"volumeDevices":             {keys: []string{"devicePath"}, unit: true},
	"ports":                     {keys: []string{"containerPort", "protocol"}, unit: true},
	"topologySpreadConstraints": {keys: []string{"topologyKey", "whenUnsatisfiable"}, unit: true},
	"imagePullSecrets":          {keys: []string{"name"}, unit: true},
	"hostAliases":               {keys: []string{"ip"}, unit: true},
}

// units are maps that are one leaf: their fields only mean something together.
var units = map[string]bool{
	"nodeAffinity": true, "podAffinity": true, "podAntiAffinity": true,
	"capabilities": true, "seccompProfile": true, "appArmorProfile": true,
}

var handlers = []string{"exec", "grpc", "httpGet", "sleep", "tcpSocket"}

func hasHandler(field string) bool {
	return strings.HasSuffix(field, "Probe") || field == "preStop" || field == "postStart"
}

// files are the pod template's annotations that hold a rendered configuration file of key=value lines, each line a leaf.
var files = map[string]bool{"metamorph.dev/server.properties": true, "metamorph.dev/zoo.cfg": true}

// Absent tells whether v counts as not written: null, "", {} and [].
func Absent(v any) bool {
	switch x := v.(type) {
	case nil:
		return true
	case string:
		return x == ""
	case map[string]any:
		return len(x) == 0
	case []any:
		return len(x) == 0
	}
	return false
}

// Set is a set of leaves in the order in which the object holds them: maps by key, lists as they stand.
type Set struct {
	paths  []Path
	values map[Path]any
}

// NewSet makes an empty set.
func NewSet() *Set { return &Set{values: map[Path]any{}} }

// Put adds a leaf or replaces its value.
func (s *Set) Put(p Path, v any) {
	if _, ok := s.values[p]; !ok {
		s.paths = append(s.paths, p)
	}
	s.values[p] = v
}

// Drop removes a leaf.
func (s *Set) Drop(p Path) {
	if _, ok := s.values[p]; ok {
		delete(s.values, p)
		s.paths = slices.DeleteFunc(s.paths, func(q Path) bool { return q == p })
	}
}

// Get returns a leaf's value.
func (s *Set) Get(p Path) (any, bool) { v, ok := s.values[p]; return v, ok }

// Has tells whether the leaf is in the set.
func (s *Set) Has(p Path) bool { _, ok := s.values[p]; return ok }

// Paths lists the leaves in order. The caller must not change it.
func (s *Set) Paths() []Path { return s.paths }

// Len counts the leaves.
func (s *Set) Len() int { return len(s.paths) }

// Clone copies the set (not the values, which nobody may change).
func (s *Set) Clone() *Set {
	c := &Set{paths: slices.Clone(s.paths), values: make(map[Path]any, len(s.values))}
	for k, v := range s.values {
		c.values[k] = v
	}
	return c
}

// Equal compares two leaf values.
func Equal(a, b any) bool {
	switch x := a.(type) {
	case string:
		y, ok := b.(string)
		return ok && x == y
	case int64:
		switch y := b.(type) {
		case int64:
			return x == y
		case float64:
			return exact(x, y)
		}
		return false
	case bool:
		y, ok := b.(bool)
		return ok && x == y
	case float64:
		if y, ok := b.(int64); ok {
			return exact(y, x)
		}
		y, ok := b.(float64)
		return ok && x == y
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for k, v := range x {
			w, ok := y[k]
			if !ok || !Equal(v, w) {
				return false
			}
		}
		return true
	case []any:
		y, ok := b.([]any)
		if !ok || len(x) != len(y) {
			return false
		}
		for i := range x {
			if !Equal(x[i], y[i]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(a, b)
}

// exact tells whether the two are the same number; a float near 2^63 equals several integers for Go.
func exact(i int64, f float64) bool {
	const limit = 1 << 53
	return i <= limit && i >= -limit && float64(i) == f
}

// Of takes the labels, annotations and spec of an object apart. Absent values are no leaves. Annotations for which
// skip returns true are left out; a nil skip keeps all.
func Of(obj map[string]any, skip func(annotation string) bool) *Set {
	// An expanded StatefulSet has some 250 leaves, an annotated one hardly any.
	size := 32
	if spec, _ := obj["spec"].(map[string]any); spec["volumeClaimTemplates"] != nil {
		size = 320
	}
	s := &Set{paths: make([]Path, 0, size), values: make(map[Path]any, size)}
	if md, ok := obj["metadata"].(map[string]any); ok {
		if a, ok := md["annotations"].(map[string]any); ok {
			at := Join("metadata", "annotations")
			for _, k := range sortedKeys(a) {
				// An empty annotation is a value: for one of ours it is a bad one, to be refused.
				if a[k] != nil && (skip == nil || !skip(k)) {
					s.Put(at.Child(k), a[k])
				}
			}
		}
		flatten(md["labels"], Join("metadata", "labels"), "labels", s)
	}
	flatten(obj["spec"], Join("spec"), "spec", s)
	return s
}

func flatten(v any, at Path, field string, out *Set) {
	// An empty class is a choice: no dynamic provisioning.
	if Absent(v) && (v == nil || field != "storageClassName") {
		return
	}
	switch x := v.(type) {
	case map[string]any:
		if units[field] {
			break
		}
		probe := hasHandler(field)
		if probe {
			if h := handlerOf(x); h != nil {
				out.Put(at.Child(Handler), h)
			}
		}
		isAnnotations := field == "annotations"
		for _, k := range sortedKeys(x) {
			if probe && slices.Contains(handlers, k) {
				continue
			}
			if text, ok := x[k].(string); ok && isAnnotations && files[k] {
				for _, line := range Lines(text) {
					out.Put(at.Child(k).Child("#"+line.Key), line.Value)
				}
				continue
			}
			flatten(x[k], at.Child(k), k, out)
		}
		return
	case []any:
		l, ok := lists[field]
		keys, distinct := keysOf(l, x)
		if !ok || !distinct {
			break
		}
		for i, e := range x {
			p := at.Child("#" + keys[i])
			if l.unit {
				out.Put(p, e)
				continue
			}
			// The key alone makes an entry exist, with or without other fields.
			flatten(e, p, "", out)
		}
		return
	}
	out.Put(at, v)
}

func handlerOf(m map[string]any) map[string]any {
	var h map[string]any
	for _, k := range handlers {
		if v, ok := m[k]; ok && v != nil {
			if h == nil {
				h = map[string]any{}
			}
			h[k] = v
		}
	}
	return h
}

func keyOf(l list, e any) (string, bool) {
	m, ok := e.(map[string]any)
	if !ok {
		return "", false
	}
	if len(l.keys) == 1 && !strings.Contains(l.keys[0], ".") {
		return scalar(m[l.keys[0]])
	}
	parts := make([]string, 0, len(l.keys))
	for _, k := range l.keys {
		var v any = m
		for _, f := range strings.Split(k, ".") {
			mm, _ := v.(map[string]any)
			v = mm[f]
		}
		if v == nil && k == "protocol" {
			v = "TCP"
		}
		s, ok := scalar(v)
		if !ok {
			return "", false
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, "|"), true
}

func scalar(v any) (string, bool) {
	switch x := v.(type) {
	case string:
		return x, x != ""
	case int64:
		return strconv.FormatInt(x, 10), true
	case float64, json.Number:
		return fmt.Sprint(x), true
	}
	return "", false
}

// keysOf returns the entries' keys, and whether every entry has one of its own.
func keysOf(l list, entries []any) ([]string, bool) {
	if l.keys == nil {
		return nil, false
	}
	keys := make([]string, len(entries))
	seen := make(map[string]bool, len(entries))
	for i, e := range entries {
		k, ok := keyOf(l, e)
		if !ok || seen[k] {
			return nil, false
		}
		keys[i], seen[k] = k, true
	}
	return keys, true
}

func sortedKeys(m map[string]any) []string { return sortInto(make([]string, 0, len(m)), m) }

func sortInto(keys []string, m map[string]any) []string {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
