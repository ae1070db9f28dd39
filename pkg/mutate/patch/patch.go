// Package patch makes the JSON Patch (RFC 6902) that turns one JSON object into another.
//
// The operations are mattbaird/jsonpatch's, its own comparison is not used: for lists it yields patches that make another
// object than asked for, it loses integers above 2^53, and the order of its operations is random. Here objects are
// walked in the order of their keys, a list that only grew at its end is added to, any other changed list is replaced
// whole, and where one replacement is shorter than the operations below it, it takes their place. So the same pair
// always gives the same patch.
package patch

import (
	"bytes"
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
	ops, _ := object(nil, 0, "", from, to)
	return ops
}

// object appends the operations for two objects at a path, and adds the length of their JSON text to size.
func object(ops []Operation, size int, at string, from, to map[string]any) ([]Operation, int) {
	start, before := len(ops), size
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
	for _, k := range keys {
		old, had := from[k]
		v, has := to[k]
		path := at + "/" + escape(k)
		switch {
		case !has:
			ops, size = push(ops, size, jsonpatch.NewPatch("remove", path, nil))
		case !had:
			ops, size = push(ops, size, jsonpatch.NewPatch("add", path, v))
		default:
			ops, size = value(ops, size, path, old, v)
		}
	}
	if len(ops)-start > 1 && at != "" {
		if whole := jsonpatch.NewPatch("replace", at, to); length(whole) < size-before {
			return push(ops[:start], before, whole)
		}
	}
	return ops, size
}

func value(ops []Operation, size int, at string, old, v any) ([]Operation, int) {
	switch x := v.(type) {
	case map[string]any:
		if o, ok := old.(map[string]any); ok && len(o) > 0 {
			return object(ops, size, at, o, x)
		}
	case []any:
		o, ok := old.([]any)
		if ok && len(o) > 0 && len(x) > len(o) && leaf.Equal(o, x[:len(o)]) {
			start, before := len(ops), size
			for _, e := range x[len(o):] {
				ops, size = push(ops, size, jsonpatch.NewPatch("add", at+"/-", e))
			}
			if whole := jsonpatch.NewPatch("replace", at, v); length(whole) < size-before {
				return push(ops[:start], before, whole)
			}
			return ops, size
		}
	}
	if leaf.Equal(old, v) {
		return ops, size
	}
	return push(ops, size, jsonpatch.NewPatch("replace", at, v))
}

func push(ops []Operation, size int, op Operation) ([]Operation, int) {
	return append(ops, op), size + length(op)
}

// Marshal writes a patch as JSON; null for none. The library's own marshalling does not escape paths.
func Marshal(ops []Operation) ([]byte, error) {
	if len(ops) == 0 {
		return nil, nil
	}
	var b bytes.Buffer
	n := 2
	for _, op := range ops {
		n += length(op)
	}
	b.Grow(n)
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	b.WriteByte('[')
	for i, op := range ops {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(`{"op":"` + op.Operation + `","path":`)
		if err := encode(enc, &b, op.Path); err != nil {
			return nil, err
		}
		if op.Operation != "remove" {
			b.WriteString(`,"value":`)
			if err := encode(enc, &b, op.Value); err != nil {
				return nil, err
			}
		}
		b.WriteByte('}')
	}
	b.WriteByte(']')
	return b.Bytes(), nil
}

// encode writes a value without the line break that an Encoder ends it with.
func encode(enc *json.Encoder, b *bytes.Buffer, v any) error {
	if err := enc.Encode(v); err != nil {
		return err
	}
	b.Truncate(b.Len() - 1)
	return nil
}

func escape(key string) string {
	if !strings.ContainsAny(key, "~/") {
		return key
	}
	return strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1")
}

// length estimates the operation's JSON text, exactly but for characters that JSON escapes in more than one byte.
func length(op Operation) int {
	n := len(`{"op":"","path":""},`) + len(op.Operation) + len(op.Path)
	if op.Operation != "remove" {
		n += len(`,"value":`) + width(op.Value)
	}
	return n
}

func width(v any) int {
	switch x := v.(type) {
	case nil:
		return 4
	case string:
		return len(x) + 2 + strings.Count(x, `"`) + strings.Count(x, "\n") + strings.Count(x, `\`)
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
