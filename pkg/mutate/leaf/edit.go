package leaf

import (
	"slices"
	"strings"
)

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
