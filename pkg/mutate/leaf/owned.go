package leaf

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
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
	o := &Owners{paths: map[Path]bool{}}
	for i, e := range entries {
		m, _ := e.(map[string]any)
		sub, _ := m["subresource"].(string)
		if sub != "" || m["fieldsV1"] == nil || m["manager"] == beforeFirstApply {
			continue
		}
		raw, err := json.Marshal(m["fieldsV1"])
		if err != nil {
			return nil, fmt.Errorf("metadata.managedFields[%d]: %w", i, err)
		}
		var s fieldpath.Set
		if err := s.FromJSON(bytes.NewReader(raw)); err != nil {
			return nil, fmt.Errorf("metadata.managedFields[%d].fieldsV1: %w", i, err)
		}
		s.Iterate(func(p fieldpath.Path) { o.add(p) })
	}
	return o, nil
}

func (o *Owners) add(p fieldpath.Path) {
	var at Path
	field := ""
	for _, e := range p {
		switch {
		case e.FieldName != nil:
			s := *e.FieldName
			if hasHandler(field) && slices.Contains(handlers, s) {
				s = Handler
			}
			at, field = at.Child(s), s
		case e.Key != nil:
			// Field ownership sorts a key's fields by name; ours stand in the list's own order.
			l := lists[field]
			parts := make([]string, 0, len(*e.Key))
			for _, k := range l.keys {
				for _, f := range *e.Key {
					if f.Name == k {
						parts = append(parts, fmt.Sprint(f.Value.Unstructured()))
					}
				}
			}
			at, field = at.Child("#"+strings.Join(parts, "|")), ""
		default:
			return
		}
		o.paths[at] = true
		if atomic[field] {
			o.atoms = append(o.atoms, at)
			return
		}
	}
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
