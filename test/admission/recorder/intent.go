package recorder

import (
	"encoding/json"
	"fmt"
	"strings"
)

// Owned returns those fields of an object that some manager owns, by its managedFields: what users and their tools
// wrote, without what webhooks and policies added. Ownership of subresources is left out. Nil: the object has no
// managedFields. It is written without the library that servers and clients use for this, as a second opinion.
func Owned(object map[string]any) (map[string]any, error) {
	metadata, _ := object["metadata"].(map[string]any)
	entries, _ := metadata["managedFields"].([]any)
	if len(entries) == 0 {
		return nil, nil
	}
	union := map[string]any{}
	for _, e := range entries {
		entry, _ := e.(map[string]any)
		if entry["subresource"] != nil {
			continue
		}
		fields, _ := entry["fieldsV1"].(map[string]any)
		merge(union, fields)
	}
	owned, err := extract(object, union)
	if err != nil {
		return nil, err
	}
	m, _ := owned.(map[string]any)
	return m, nil
}

// Written keeps of an object what a user may write into a manifest: labels, annotations and spec. What kubectl notes for
// itself is left out.
func Written(object map[string]any) map[string]any {
	kept := map[string]any{}
	if spec, ok := object["spec"]; ok {
		kept["spec"] = spec
	}
	metadata, _ := object["metadata"].(map[string]any)
	for _, name := range []string{"labels", "annotations"} {
		if m, ok := metadata[name].(map[string]any); ok {
			delete(m, "kubectl.kubernetes.io/last-applied-configuration")
			if len(m) > 0 {
				kept[name] = m
			}
		}
	}
	return kept
}

func merge(into, from map[string]any) {
	for k, v := range from {
		sub, _ := v.(map[string]any)
		have, ok := into[k].(map[string]any)
		if !ok {
			have = map[string]any{}
			into[k] = have
		}
		merge(have, sub)
	}
}

// extract picks from a value what a tree in the notation of FieldsV1 names: f:FIELD, k:{KEYS}, v:VALUE, and "." for
// the value itself. Without children, all of the value is meant.
func extract(value any, fields map[string]any) (any, error) {
	if len(fields) == 0 {
		return value, nil
	}
	switch value := value.(type) {
	case map[string]any:
		picked := map[string]any{}
		for k, sub := range fields {
			name, ok := strings.CutPrefix(k, "f:")
			v, exists := value[name]
			if !ok || !exists {
				continue
			}
			p, err := extract(v, sub.(map[string]any))
			if err != nil {
				return nil, err
			}
			picked[name] = p
		}
		return picked, nil
	case []any:
		picked := []any{}
		for _, elem := range value {
			for k, sub := range fields {
				matches, err := names(k, elem)
				if err != nil {
					return nil, err
				}
				if !matches {
					continue
				}
				p, err := extract(elem, sub.(map[string]any))
				if err != nil {
					return nil, err
				}
				picked = append(picked, p)
			}
		}
		return picked, nil
	}
	return value, nil
}

// names reports whether the path element k means this element of a list.
func names(k string, elem any) (bool, error) {
	text, isKey := strings.CutPrefix(k, "k:")
	if !isKey {
		var isValue bool
		if text, isValue = strings.CutPrefix(k, "v:"); !isValue {
			return false, nil
		}
	}
	var want any
	if err := json.Unmarshal([]byte(text), &want); err != nil {
		return false, fmt.Errorf("path element %s: %w", k, err)
	}
	if !isKey {
		return want == elem, nil
	}
	m, _ := elem.(map[string]any)
	for name, v := range want.(map[string]any) {
		if m[name] != v {
			return false, nil
		}
	}
	return true, nil
}
