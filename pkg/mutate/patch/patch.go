// Package patch makes the JSON Patch (RFC 6902) that turns one JSON object into another.
//
// The operations are mattbaird/jsonpatch's, its own comparison is not used: for lists it yields patches that make another
// object than asked for, it loses integers above 2^53, and the order of its operations is random. Here objects are
// walked in the order of their keys, a list that only grew at its end is added to, any other changed list is replaced
// whole, and where one replacement is shorter than the operations below it, it takes their place. So the same pair
// always gives the same patch.
package patch

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/mattbaird/jsonpatch"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
)

// Operation is one operation of a patch.
type Operation = jsonpatch.JsonPatchOperation

// Create returns the operations that turn from into to; none if they are equal. The values are to's own.
func Create(from, to map[string]any) []Operation {
	var w writer
	w.object("", from, to)
	return w.ops
}

// writer collects operations and the length of their JSON text.
type writer struct {
	ops  []Operation
	size int
}

func (w *writer) push(op Operation, width int) {
	w.ops = append(w.ops, op)
	w.size += head(op) + width
}

// object writes what turns one object into another, and returns the length of the other's JSON text.
func (w *writer) object(at string, from, to map[string]any) int {
	start, before := len(w.ops), w.size
	keys := make([]string, 0, len(from)+len(to))
	for k := range from {
		keys = append(keys, k)
	}
	for k := range to {
		if _, ok := from[k]; !ok {
			keys = append(keys, k)
		}
	}
	slices.Sort(keys)
	total := 2
	for _, k := range keys {
		old, had := from[k]
		v, has := to[k]
		path := at + "/" + escape(k)
		switch {
		case !has:
			w.push(jsonpatch.NewPatch("remove", path, nil), 0)
			continue
		case !had:
			n := width(v)
			w.push(jsonpatch.NewPatch("add", path, v), n)
			total += n
		default:
			total += w.value(path, old, v)
		}
		total += len(k) + 4
	}
	if at != "" {
		w.shorten(start, before, jsonpatch.NewPatch("replace", at, to), total)
	}
	return total
}

// shorten puts one operation in the place of all since start, if that makes the patch shorter.
func (w *writer) shorten(start, before int, whole Operation, width int) {
	if len(w.ops)-start > 1 && head(whole)+width < w.size-before {
		w.ops, w.size = w.ops[:start], before
		w.push(whole, width)
	}
}

// value writes what turns one value into another, and returns the length of the other's JSON text.
func (w *writer) value(at string, old, v any) int {
	switch x := v.(type) {
	case map[string]any:
		if o, ok := old.(map[string]any); ok && len(o) > 0 {
			return w.object(at, o, x)
		}
	case []any:
		o, ok := old.([]any)
		if ok && len(o) > 0 && len(x) > len(o) && leaf.Equal(o, x[:len(o)]) {
			start, before := len(w.ops), w.size
			for _, e := range x[len(o):] {
				w.push(jsonpatch.NewPatch("add", at+"/-", e), width(e))
			}
			n := width(v)
			w.shorten(start, before, jsonpatch.NewPatch("replace", at, v), n)
			return n
		}
	}
	n := width(v)
	if !leaf.Equal(old, v) {
		w.push(jsonpatch.NewPatch("replace", at, v), n)
	}
	return n
}

// Marshal writes a patch as JSON; nil for none. The library's own marshalling does not escape paths.
func Marshal(ops []Operation) []byte {
	if len(ops) == 0 {
		return nil
	}
	// What a three-line manifest becomes has some 20 KiB.
	b := append(make([]byte, 0, 24<<10), '[')
	for i, op := range ops {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `{"op":"`+op.Operation+`","path":`...)
		b = leaf.AppendJSON(b, op.Path)
		if op.Operation != "remove" {
			b = append(b, `,"value":`...)
			b = leaf.AppendJSON(b, op.Value)
		}
		b = append(b, '}')
	}
	return append(b, ']')
}

func escape(key string) string {
	if !strings.ContainsAny(key, "~/") {
		return key
	}
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

// head is the length of an operation's JSON text without its value.
func head(op Operation) int {
	n := len(`{"op":"","path":""},`) + len(op.Operation) + len(op.Path)
	if op.Operation != "remove" {
		n += len(`,"value":`)
	}
	return n
}

// width is the length of a value's JSON text, escapes aside: they are the same ones whichever way a value is sent.
func width(v any) int {
	switch x := v.(type) {
	case nil:
		return 4
	case string:
		return len(x) + 2
	case bool:
		return 5
	case map[string]any:
		n := 2
		for k, e := range x {
			n += len(k) + 4 + width(e)
		}
		return n
	case []any:
		n := 2
		for _, e := range x {
			n += 1 + width(e)
		}
		return n
	case int64:
		n := 1
		for ; x > 9 || x < -9; x /= 10 {
			n++
		}
		return n
	case float64:
		text, _ := json.Marshal(x)
		return len(text)
	case json.Number:
		return len(x)
	}
	return 8
}
