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
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"

	sigsjson "sigs.k8s.io/json"
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

// Put sets a leaf in an object, making what is missing on the way: maps, and entries of keyed lists at the end of
// their list.
func Put(root map[string]any, p Path, v any) { edit(root, p.Segments(), "", v, false) }

// Remove takes a leaf out of an object, and the maps and lists which that leaves empty.
func Remove(root map[string]any, p Path) { edit(root, p.Segments(), "", nil, true) }

// edit changes what lies at the segments below node (named field in its parent) and returns the node that is to stand
// in its place; nil when nothing remains.
func edit(node any, segments []string, field string, v any, remove bool) any {
	if len(segments) == 0 {
		if remove {
			return nil
		}
		return v
	}
	s := segments[0]
	if strings.HasPrefix(s, "#") {
		if text, ok := node.(string); ok || files[field] {
			return editFile(text, s[1:], v, remove)
		}
		return editList(node, field, s[1:], segments[1:], v, remove)
	}
	m, _ := node.(map[string]any)
	if m == nil {
		if remove {
			return node
		}
		m = map[string]any{}
	}
	if s == Handler {
		for _, k := range handlers {
			delete(m, k)
		}
		if h, ok := v.(map[string]any); ok && !remove {
			for k, x := range h {
				m[k] = x
			}
		}
	} else {
		old, had := m[s]
		if remove && !had {
			return node
		}
		if n := edit(old, segments[1:], s, v, remove); n == nil && remove {
			delete(m, s)
		} else {
			m[s] = n
		}
	}
	if len(m) == 0 && remove {
		return nil
	}
	return m
}

func editList(node any, field, key string, rest []string, v any, remove bool) any {
	entries, _ := node.([]any)
	l := lists[field]
	if b, ok := v.(batch); ok && key == "" {
		return mergeEntries(entries, l, b)
	}
	at := slices.IndexFunc(entries, func(e any) bool { k, ok := keyOf(l, e); return ok && k == key })
	switch {
	case at < 0 && remove:
		return node
	case at < 0 && len(rest) == 0:
		return append(entries, v)
	case at < 0:
		e := map[string]any{}
		if field == "volumeClaimTemplates" {
			e["metadata"] = map[string]any{"name": key}
		} else {
			e["name"] = key
		}
		return append(entries, edit(e, rest, "", v, false))
	}
	n := edit(entries[at], rest, "", v, remove)
	if n == nil || (remove && onlyKey(n, key)) {
		entries = slices.Delete(slices.Clone(entries), at, at+1)
		if len(entries) == 0 {
			return nil
		}
		return entries
	}
	entries[at] = n
	return entries
}

// mergeEntries puts entries of a list of units in the place of those that have their key, or at its end.
func mergeEntries(entries []any, l list, b batch) []any {
	at := make(map[string]int, len(entries)+len(b.keys))
	for i, e := range entries {
		if k, ok := keyOf(l, e); ok {
			if _, twice := at[k]; !twice {
				at[k] = i
			}
		}
	}
	for i, k := range b.keys {
		if j, ok := at[k]; ok {
			entries[j] = b.entries[i]
			continue
		}
		at[k] = len(entries)
		entries = append(entries, b.entries[i])
	}
	return entries
}

// onlyKey tells whether an entry holds nothing but its name any more.
func onlyKey(e any, key string) bool {
	m, ok := e.(map[string]any)
	if !ok || len(m) != 1 {
		return false
	}
	if md, ok := m["metadata"].(map[string]any); ok {
		m = md
	}
	return len(m) == 1 && m["name"] == key
}

// Line is one setting of a projected configuration file.
type Line struct{ Key, Value string }

// Lines takes a rendered file apart: key=value, one a line.
func Lines(text string) []Line {
	var out []Line
	for l := range strings.Lines(text) {
		l = strings.TrimSuffix(l, "\n")
		if k, v, ok := strings.Cut(l, "="); ok {
			out = append(out, Line{k, v})
		}
	}
	return out
}

func editFile(text, key string, v any, remove bool) any {
	lines := Lines(text)
	at := slices.IndexFunc(lines, func(l Line) bool { return l.Key == key })
	value, _ := v.(string)
	switch {
	case at >= 0 && remove:
		lines = slices.Delete(lines, at, at+1)
	case at >= 0:
		lines[at].Value = value
	case !remove:
		lines = append(lines, Line{key, value})
	}
	if len(lines) == 0 {
		return nil
	}
	return writeLines(lines)
}

// PutAll puts every leaf of a set for which want is true (nil: all) into an object, in order. The values are not copied.
func PutAll(root map[string]any, s *Set, want func(Path) bool) {
	// The lines of one file stand together: they are put at once, or a file would be read again for every line.
	var file Path
	var lines []Line
	// So do the entries of one list: they are put at once, or it would be searched again for every entry.
	var in Path
	var keys []string
	var entries []any
	flush := func() {
		if len(lines) > 0 {
			segments := file.Segments()
			edit(root, segments, "", mergeLines(lookup(root, segments), lines), false)
			lines = lines[:0]
		}
		if len(entries) > 0 {
			segments := append(in.Segments(), "#")
			edit(root, segments, "", batch{keys, entries}, false)
			keys, entries = nil, nil
		}
	}
	for _, p := range s.paths {
		if want != nil && !want(p) {
			continue
		}
		if f, key, ok := p.line(); ok {
			if f != file || len(entries) > 0 {
				flush()
				file = f
			}
			text, _ := s.values[p].(string)
			lines = append(lines, Line{key, text})
			continue
		}
		if list, key, ok := p.entry(); ok {
			if list != in || len(lines) > 0 {
				flush()
				in = list
			}
			keys, entries = append(keys, key), append(entries, s.values[p])
			continue
		}
		flush()
		Put(root, p, s.values[p])
	}
	flush()
}

// batch are entries of one list of units, with their keys.
type batch struct {
	keys    []string
	entries []any
}

// entry takes the path of an entry of a list of units apart.
func (p Path) entry() (list Path, key string, ok bool) {
	i := strings.LastIndex(string(p), sep+"#")
	if i < 0 {
		return "", "", false
	}
	list = p[:i]
	return list, string(p[i+2:]), lists[string(list[strings.LastIndexByte(string(list), 0)+1:])].unit
}

// line takes the path of a file's line apart.
func (p Path) line() (file Path, key string, ok bool) {
	i := strings.LastIndex(string(p), sep+"#")
	if i < 0 {
		return "", "", false
	}
	file = p[:i]
	if !files[string(file[strings.LastIndexByte(string(file), 0)+1:])] {
		return "", "", false
	}
	return file, string(p[i+2:]), true
}

func lookup(root map[string]any, segments []string) any {
	var v any = root
	for _, s := range segments {
		m, _ := v.(map[string]any)
		v = m[s]
	}
	return v
}

func mergeLines(old any, put []Line) string {
	text, _ := old.(string)
	lines := Lines(text)
	at := make(map[string]int, len(lines)+len(put))
	for i, l := range lines {
		at[l.Key] = i
	}
	for _, l := range put {
		if i, ok := at[l.Key]; ok {
			lines[i].Value = l.Value
			continue
		}
		at[l.Key] = len(lines)
		lines = append(lines, l)
	}
	return writeLines(lines)
}

func writeLines(lines []Line) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(l.Key)
		b.WriteByte('=')
		b.WriteString(l.Value)
		b.WriteByte('\n')
	}
	return b.String()
}

// Overlay puts a tree's values over an object's: maps are merged, everything else is replaced. Absent values are left out,
// also those deep inside. It is PutAll for an object whose lists are all absent, without taking the tree apart.
func Overlay(obj, tree map[string]any) {
	for k, v := range tree {
		if m, ok := v.(map[string]any); ok {
			if old, ok := obj[k].(map[string]any); ok && len(m) > 0 {
				Overlay(old, m)
				continue
			}
		}
		if v = compact(v, k); v != nil {
			obj[k] = v
		}
	}
}

// compact takes absent values out of a value, in place, and returns nil if it is absent itself. What stands in a unit is
// left as it is: there an empty value is a choice (emptyDir: {}).
func compact(v any, field string) any {
	if Absent(v) {
		return nil
	}
	switch x := v.(type) {
	case map[string]any:
		if units[field] {
			return v
		}
		for k, e := range x {
			if compact(e, k) == nil {
				delete(x, k)
			}
		}
		if len(x) == 0 {
			return nil
		}
	case []any:
		if l, ok := lists[field]; ok && !l.unit {
			for _, e := range x {
				compact(e, "")
			}
		}
	}
	return v
}

// Build makes an object of a set's leaves. The result shares no memory with the set.
func Build(s *Set) map[string]any {
	root := map[string]any{}
	PutAll(root, s, nil)
	c, _ := Copy(root).(map[string]any)
	return c
}

// Copy copies a JSON value deeply.
func Copy(v any) any {
	switch x := v.(type) {
	case map[string]any:
		c := make(map[string]any, len(x))
		for k, e := range x {
			c[k] = Copy(e)
		}
		return c
	case []any:
		c := make([]any, len(x))
		for i, e := range x {
			c[i] = Copy(e)
		}
		return c
	}
	return v
}

// Decode reads a JSON object without losing a number: integers stay integers, and a number that neither int64 nor
// float64 holds exactly keeps its text.
func Decode(raw []byte) (map[string]any, error) {
	var v map[string]any
	if err := sigsjson.UnmarshalCaseSensitivePreserveInts(raw, &v); err != nil {
		return nil, err
	}
	if v == nil {
		return nil, errors.New("null instead of an object")
	}
	if !fractions(v) {
		return v, nil
	}
	// What is no int64 may not be a float64 either.
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	v = nil
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	numbers(v)
	return v, nil
}

// fractions tells whether there is a number that is not an int64.
func fractions(v any) bool {
	switch x := v.(type) {
	case map[string]any:
		for _, e := range x {
			if fractions(e) {
				return true
			}
		}
	case []any:
		return slices.ContainsFunc(x, fractions)
	case float64:
		return true
	}
	return false
}

func numbers(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			switch e.(type) {
			case map[string]any, []any:
				numbers(e)
			case json.Number:
				x[k] = numbers(e)
			}
		}
	case []any:
		for i, e := range x {
			x[i] = numbers(e)
		}
	case json.Number:
		if i, err := strconv.ParseInt(string(x), 10, 64); err == nil && string(x) != "-0" {
			return i
		}
		f, err := strconv.ParseFloat(string(x), 64)
		if err == nil {
			if text, err := json.Marshal(f); err == nil && string(text) == string(x) {
				return f
			}
		}
		return x
	}
	return v
}

func sortedKeys(m map[string]any) []string { return sortInto(make([]string, 0, len(m)), m) }

func sortInto(keys []string, m map[string]any) []string {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// Reorder brings the entries of keyed lists below node into the order that they have in like; entries that like does not
// have stay behind them, in their own order. Field is node's name in its parent.
func Reorder(node, like any, field string) {
	switch x := node.(type) {
	case map[string]any:
		y, ok := like.(map[string]any)
		if !ok {
			return
		}
		for k, v := range x {
			Reorder(v, y[k], k)
		}
	case []any:
		l, ok := lists[field]
		y, is := like.([]any)
		if !ok || !is {
			return
		}
		at := map[string]int{}
		for i, e := range y {
			if k, ok := keyOf(l, e); ok {
				at[k] = i
			}
		}
		place := func(e any) int {
			if k, ok := keyOf(l, e); ok {
				if i, ok := at[k]; ok {
					return i
				}
			}
			return len(y)
		}
		slices.SortStableFunc(x, func(a, b any) int { return place(a) - place(b) })
		if l.unit {
			return
		}
		for _, e := range x {
			if i := place(e); i < len(y) {
				Reorder(e, y[i], "")
			}
		}
	}
}
