package apidefaults

import (
	"encoding/json"
	"strconv"

	"k8s.io/apimachinery/pkg/api/resource"
)

type object = map[string]any

// kind is the shape of the JSON value that a node describes.
type kind uint8

const (
	scalar     kind = iota // string, number or bool
	structure              // an object with fields
	list                   // a list of elem
	freeForm               // an object whose keys and values are the user's own
	quantity               // a resource.Quantity
	quantities             // a map of resource.Quantity, rounded up to milli units
)

// node describes one field, or the elements of one list. A nil node is a field that the table does not name.
type node struct {
	name string
	kind kind

	fields []*node // of a structure, in the order in which they are filled
	byName map[string]*node
	elem   *node // of a list

	// def is the default; derive computes it from the fields beside this one, nil meaning that there is none.
	def    any
	derive func(beside object) any
	// when says whether the fields of a structure get their defaults, given the fields beside it.
	when func(beside object) bool

	fill        bool // Apply writes the default; if not, it is only what the server leaves out or writes by itself
	always      bool // Apply creates the structure if it is missing
	overwrites  bool // the server writes the default over whatever is there
	zeroIsUnset bool // "" and 0 count as missing: the server's type has no pointer here
	meaningful  bool // being there means something, even when empty
	original    bool // filled from the field that copies it: to Prune, only the copy is the default
}

func (n *node) field(name string) *node {
	if n == nil {
		return nil
	}
	return n.byName[name]
}

func (n *node) apply(obj object) {
	for _, f := range n.fields {
		v := obj[f.name]
		if f.overwrites || f.unset(v) {
			if d := f.defaultBeside(obj); f.fill && d != nil {
				v = d
				obj[f.name] = v
			} else if f.always {
				v = object{}
				obj[f.name] = v
			}
		}
		switch f.kind {
		case structure:
			if m, ok := v.(object); ok && m != nil && (f.when == nil || f.when(obj)) {
				f.apply(m)
			}
		case list:
			elems, _ := v.([]any)
			for _, e := range elems {
				if m, ok := e.(object); ok && m != nil {
					f.elem.apply(m)
				}
			}
		case quantity:
			canonicalise(obj, f.name, false)
		case quantities:
			m, _ := v.(object)
			for k := range m {
				canonicalise(m, k, true)
			}
		}
	}
}

func (n *node) prune(obj object) {
	for k, v := range obj {
		f := n.field(k)
		if f != nil {
			switch f.kind {
			case structure:
				if m, ok := v.(object); ok {
					f.prune(m)
				}
			case list:
				elems, _ := v.([]any)
				for _, e := range elems {
					if m, ok := e.(object); ok {
						f.elem.prune(m)
					}
				}
			case quantity:
				canonicalise(obj, k, false)
				v = obj[k]
			case quantities:
				m, _ := v.(object)
				for name := range m {
					canonicalise(m, name, true)
				}
			}
		}
		if f.isDefault(v, obj) {
			delete(obj, k)
		}
	}
}

// isDefault reports whether v says no more at this place than its absence would. It changes nothing.
func (n *node) isDefault(v any, beside object) bool {
	if v == nil {
		return true
	}
	if n == nil {
		// Of a field that we do not know, an empty object may well be a choice, as in emptyDir: {}.
		return isEmpty(v) && !isObject(v)
	}
	if n.original {
		return isEmpty(v)
	}
	if d := n.defaultBeside(beside); d != nil {
		if m, ok := v.(object); ok && n.kind == structure {
			return isObject(d) && n.onlyDefaults(m)
		}
		if n.kind == quantity {
			v = canonical(v, false)
		}
		return equalScalar(v, d) || n.zeroIsUnset && n.unset(v)
	}
	if n.meaningful {
		return false
	}
	if m, ok := v.(object); ok && n.kind == structure {
		return n.onlyDefaults(m)
	}
	return isEmpty(v)
}

func (n *node) onlyDefaults(obj object) bool {
	for k, v := range obj {
		if !n.field(k).isDefault(v, obj) {
			return false
		}
	}
	return true
}

func (n *node) defaultBeside(beside object) any {
	if n.derive != nil {
		return n.derive(beside)
	}
	return n.def
}

func (n *node) unset(v any) bool {
	return v == nil || n.zeroIsUnset && (v == "" || equalScalar(v, int64(0)))
}

func isObject(v any) bool {
	_, ok := v.(object)
	return ok
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case nil:
		return true
	case string:
		return v == ""
	case object:
		return len(v) == 0
	case []any:
		return len(v) == 0
	}
	return false
}

// equalScalar compares a value with a default of the table. Decoders differ in the types that they use for numbers.
func equalScalar(v, d any) bool {
	want, isNumber := d.(int64)
	if !isNumber {
		switch v.(type) {
		case object, []any: // not comparable
			return false
		}
		return v == d
	}
	switch v := v.(type) {
	case int64:
		return v == want
	case float64:
		return v == float64(want)
	case int:
		return int64(v) == want
	case int32:
		return int64(v) == want
	case json.Number:
		return v.String() == strconv.FormatInt(want, 10)
	}
	return false
}

func canonicalise(obj object, name string, roundUp bool) {
	v, ok := obj[name]
	if !ok || v == nil {
		return
	}
	switch v.(type) {
	case object, []any: // no quantity, and not comparable
		return
	}
	if c := canonical(v, roundUp); c != v {
		obj[name] = c
	}
}

// canonical returns a quantity as the API server writes it, or v itself if it is no quantity: to refuse it is for the
// server's validation.
func canonical(v any, roundUp bool) any {
	var s string
	switch v := v.(type) {
	case string:
		s = v
	case int64:
		s = strconv.FormatInt(v, 10)
	case int:
		s = strconv.Itoa(v)
	case float64:
		s = strconv.FormatFloat(v, 'f', -1, 64)
	case json.Number:
		s = v.String()
	default:
		return v
	}
	q, err := resource.ParseQuantity(s)
	if err != nil {
		return v
	}
	if roundUp {
		// The server's own limit, see SetDefaults_ResourceList in Kubernetes.
		q.RoundUp(resource.Milli)
	}
	return q.String()
}
