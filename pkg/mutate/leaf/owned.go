package leaf

import (
	"fmt"
	"slices"
	"strings"
)

// Owners tells which leaves some manager owns according to an object's managedFields: those a client of the API server
// wrote. Fields that webhooks and admission policies put in have no owner.
type Owners struct {
	paths map[Path]bool // every owned path and all that leads to one
	atoms []Path        // owned as a whole: what lies below belongs to the owner too
}

// atomic are the fields that server-side apply owns as a whole although their parts are leaves here.
var atomic = map[string]bool{"nodeSelector": true, "selector": true, "volumeClaimTemplates": true}

// beforeFirstApply is the manager that the API server makes up when the first server-side apply meets an object whose
// managedFields were cleared. It owns everything, whoever wrote it.
const beforeFirstApply = "before-first-apply"

// OwnersOf reads metadata.managedFields; nil when the object has none, and then nothing is known. Entries of
// subresources (status, scale) are left out.
func OwnersOf(obj map[string]any) (*Owners, error) {
	md, _ := obj["metadata"].(map[string]any)
	entries, _ := md["managedFields"].([]any)
	if len(entries) == 0 {
		return nil, nil
	}
	o := &Owners{paths: make(map[Path]bool, 64)}
	for i, e := range entries {
		m, _ := e.(map[string]any)
		sub, _ := m["subresource"].(string)
		if sub != "" || m["fieldsV1"] == nil || m["manager"] == beforeFirstApply {
			continue
		}
		fields, ok := m["fieldsV1"].(map[string]any)
		if !ok {
			return nil, fmt.Errorf("metadata.managedFields[%d].fieldsV1: is no object", i)
		}
		if err := o.add(fields, "", ""); err != nil {
			return nil, fmt.Errorf("metadata.managedFields[%d].fieldsV1: %w", i, err)
		}
	}
	return o, nil
}

// add notes the fields below a path; field is the name of the path's last one. The form is that of FieldsV1: f:NAME is a
// field, k:{KEYS} an entry of a keyed list, "." the node itself; v:VALUE and i:INDEX are entries of other lists, which are
// leaves as a whole.
func (o *Owners) add(fields map[string]any, at Path, field string) error {
	for k, v := range fields {
		kind, name, ok := strings.Cut(k, ":")
		below, is := v.(map[string]any)
		if (!ok && k != ".") || !is {
			return fmt.Errorf("%q is no part of it", k)
		}
		var next Path
		var nextField string
		switch kind {
		case "f":
			nextField = name
			if hasHandler(field) && slices.Contains(handlers, name) {
				name = Handler
			}
			next = at.Child(name)
		case "k":
			key, err := ownedKey(lists[field], name)
			if err != nil {
				return err
			}
			next = at.Child("#" + key)
		case ".", "v", "i":
			continue
		default:
			return fmt.Errorf("%q is no part of it", k)
		}
		o.paths[next] = true
		// A rendered file has one owner, and its lines are leaves here.
		if atomic[nextField] || files[nextField] {
			o.atoms = append(o.atoms, next)
			continue
		}
		if err := o.add(below, next, nextField); err != nil {
			return err
		}
	}
	return nil
}

// ownedKey reads {"containerPort":9092,"protocol":"TCP"}: its fields are sorted by name, ours stand in the list's own order.
func ownedKey(l list, text string) (string, error) {
	m, err := Decode([]byte(text))
	if err != nil {
		return "", fmt.Errorf("the key %q: %w", text, err)
	}
	parts := make([]string, 0, len(l.keys))
	for _, k := range l.keys {
		if s, ok := scalar(m[k]); ok {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, "|"), nil
}

// Own tells whether some manager owns the leaf, or part of it.
func (o *Owners) Own(p Path) bool {
	if o.paths[p] {
		return true
	}
	for _, a := range o.atoms {
		if p.Under(a) {
			return true
		}
	}
	return false
}
