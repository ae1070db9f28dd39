package manifest

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// ProfileLabel is the label that makes a ConfigMap a profile; its value is the profile's name.
const ProfileLabel = setting.Prefix + "profile"

// defaultNamespace is what kubectl takes when nobody says another.
const defaultNamespace = "default"

// Options say what an expansion without a cluster cannot know.
type Options struct {
	// Namespace of the objects that do not name one themselves; "" means default.
	Namespace string
	// ClusterUID is the UID of the namespace kube-system. Without it the cluster ids differ from those that the webhook
	// makes, and a warning says so.
	ClusterUID string
	// Version is Metamorph's own, for the annotation rendered-by.
	Version string
	// Explain asks for the provenance of every field.
	Explain bool
	// All asks for an outcome for StatefulSets that are not Metamorph's, too.
	All bool
}

// Namespace is what the manifests say of one.
type Namespace struct {
	Labels, Annotations map[string]string
}

// Outcome is what became of one StatefulSet that is Metamorph's.
type Outcome struct {
	// Where it stands: the document's place, and its item for a List.
	Where string
	// Document is its index, and Item that in a List; -1 if it is in none.
	Document, Item int
	// Name of the StatefulSet, and its namespace.
	Name, Namespace string
	// Output is nil if it was refused.
	Output *mutate.Output
	// Refused tells why, nil if it was not.
	Refused *mutate.Invalid
}

// Expand expands every StatefulSet in the documents, inside Lists too, and leaves everything else as it is. The
// Namespaces and the profile ConfigMaps among the documents give their defaults, wherever they stand. The outcomes are in
// the order of the documents; those that were refused are unchanged in the documents returned. The error is for
// documents that cannot be understood, not for refusals.
func Expand(docs []Document, o Options) ([]Document, []Outcome, error) {
	x := expander{Options: o}
	if x.Namespace == "" {
		x.Namespace = defaultNamespace
	}
	var err error
	if x.defaults, err = Learn(docs); err != nil {
		x.errs = append(x.errs, err)
	}
	out := make([]Document, len(docs))
	for i, d := range docs {
		out[i] = d
		x.document, x.item = i, -1
		if raw, changed := x.expand(d.Where(), d.JSON); changed {
			out[i].JSON, out[i].Text, out[i].YAML = raw, raw, false
		}
	}
	return out, x.outcomes, errors.Join(x.errs...)
}

type expander struct {
	Options

	defaults       Defaults
	document, item int
	outcomes       []Outcome
	errs           []error
}

// Defaults are what manifests say besides their StatefulSets.
type Defaults struct {
	// Namespaces by name, and Profiles: settings by name.
	Namespaces map[string]Namespace
	Profiles   map[string]map[string]string
}

// Learn collects the defaults in documents: Namespaces and profile ConfigMaps.
func Learn(docs []Document) (Defaults, error) {
	d := Defaults{Namespaces: map[string]Namespace{}, Profiles: map[string]map[string]string{}}
	var errs []error
	err := Each(docs, func(where string, _, _ int, raw []byte) error {
		if err := d.learn(raw); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", where, err))
		}
		return nil
	})
	return d, errors.Join(append(errs, err)...)
}

// Each calls f for every object in documents, those in Lists too; item is its index in a List, -1 if it is in none.
func Each(docs []Document, f func(where string, document, item int, raw []byte) error) error {
	for i, d := range docs {
		l, isList := asList(d.JSON)
		if !isList {
			if d.JSON != nil {
				if err := f(d.Where(), i, -1, d.JSON); err != nil {
					return err
				}
			}
			continue
		}
		for j, item := range l.items {
			if err := f(l.where(d.Where(), j), i, j, item); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *expander) fail(where string, err error) {
	x.errs = append(x.errs, fmt.Errorf("%s: %w", where, err))
}

// header is as much of an object as tells what it is.
type header struct {
	APIVersion string `json:"apiVersion"`
	Kind       string `json:"kind"`
}

// headerOf reads what an object is; nothing if it cannot be read, which is for others to complain of.
func headerOf(raw []byte) (h header) {
	if decode(raw, &h) != nil {
		return header{}
	}
	return h
}

// learn notes the defaults that an object gives to others.
func (d *Defaults) learn(raw []byte) error {
	h := headerOf(raw)
	if h.APIVersion != "v1" || h.Kind != "Namespace" && h.Kind != "ConfigMap" {
		return nil
	}
	var o struct {
		Metadata struct {
			Name        string            `json:"name"`
			Annotations map[string]string `json:"annotations"`
			Labels      map[string]string `json:"labels"`
		} `json:"metadata"`
		Data map[string]string `json:"data"`
	}
	if err := decode(raw, &o); err != nil {
		return fmt.Errorf("not a %s: %s", h.Kind, strings.TrimPrefix(err.Error(), "json: "))
	}
	if h.Kind == "Namespace" {
		d.Namespaces[o.Metadata.Name] = Namespace{o.Metadata.Labels, o.Metadata.Annotations}
	} else if profile, ok := o.Metadata.Labels[ProfileLabel]; ok {
		d.Profiles[profile] = o.Data
	}
	return nil
}

// expand returns the object expanded, if that changes it.
func (x *expander) expand(where string, raw []byte) ([]byte, bool) {
	if l, ok := asList(raw); ok {
		return x.expandList(where, l)
	}
	var h header
	if decode(raw, &h) != nil || !isStatefulSet(h) {
		return nil, false
	}
	name, namespace := identity(raw)
	if namespace == "" {
		namespace = x.Namespace
	}
	out, err := mutate.Expand(mutate.Input{
		Object:     raw,
		Namespace:  mutate.Namespace{Name: namespace, Annotations: x.defaults.Namespaces[namespace].Annotations},
		Profiles:   x.defaults.Profiles,
		ClusterUID: x.ClusterUID,
		Version:    x.Version,
		Explain:    x.Explain,
	})
	var invalid *mutate.Invalid
	switch {
	case errors.As(err, &invalid):
		x.outcomes = append(x.outcomes, Outcome{Where: where, Document: x.document, Item: x.item, Name: invalid.Name, Namespace: namespace, Refused: invalid})
		return nil, false
	case err != nil:
		x.fail(where, err)
		return nil, false
	case out.Role == "" && len(out.Operations) == 0 && !x.All:
		return nil, false
	}
	x.outcomes = append(x.outcomes, Outcome{Where: where, Document: x.document, Item: x.item, Name: name, Namespace: namespace, Output: out})
	if len(out.Operations) == 0 {
		return nil, false
	}
	expanded, err := encode(out.Object)
	if err != nil {
		x.fail(where, err)
		return nil, false
	}
	return expanded, true
}

// identity reads name and namespace; what is not a string is for the expansion to refuse.
func identity(raw []byte) (name, namespace string) {
	var o struct {
		Metadata struct {
			Name      any `json:"name"`
			Namespace any `json:"namespace"`
		} `json:"metadata"`
	}
	if decode(raw, &o) != nil {
		return "", ""
	}
	name, _ = o.Metadata.Name.(string)
	namespace, _ = o.Metadata.Namespace.(string)
	return name, namespace
}

func (x *expander) expandList(where string, l list) ([]byte, bool) {
	some := false
	for i, item := range l.items {
		x.item = i
		if raw, changed := x.expand(l.where(where, i), item); changed {
			l.items[i], some = raw, true
		}
	}
	if !some {
		return nil, false
	}
	raw, err := l.encode()
	if err != nil {
		x.fail(where, err)
		return nil, false
	}
	return raw, true
}

// isStatefulSet is true for versions of apps that no longer exist, and for a forgotten group, too: such an object is
// refused if it has Metamorph's annotations. Other projects' StatefulSets are none.
func isStatefulSet(h header) bool {
	group, _, has := strings.Cut(h.APIVersion, "/")
	return h.Kind == "StatefulSet" && (!has || group == "apps")
}

// list is a v1 List.
type list struct {
	fields map[string]json.RawMessage
	items  []json.RawMessage
}

// asList reads a List as kubectl makes it.
func asList(raw []byte) (list, bool) {
	var h header
	if decode(raw, &h) != nil || h.APIVersion != "v1" || h.Kind != "List" {
		return list{}, false
	}
	var l list
	if decode(raw, &l.fields) != nil || decode(l.fields["items"], &l.items) != nil {
		return list{}, false
	}
	return l, true
}

func (l list) where(of string, i int) string { return fmt.Sprintf("%s, items[%d]", of, i) }

func (l list) encode() ([]byte, error) {
	items, err := encode(l.items)
	if err != nil {
		return nil, err
	}
	l.fields["items"] = items
	return encode(l.fields)
}
