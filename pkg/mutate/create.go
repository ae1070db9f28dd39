package mutate

import (
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/runtime"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// create expands an object that was never expanded before.
func (x *expansion) create() *Output {
	x.checkKeys(false)
	incoming := leaves(x.obj)
	source := x.source(incoming)
	r := x.resolve(source, nil, nil, replicas(x.obj))
	tree := renderTree(r)
	obj, _ := leaf.Copy(x.obj).(map[string]any)
	if bare(incoming) {
		x.checkName(r)
		leaf.Overlay(obj, tree)
	} else {
		rendered := leaf.Of(tree, nil)
		x.checkSpec(r, source, incoming, rendered)
		fit(rendered, incoming, r.Role)
		leaf.PutAll(obj, rendered, func(p leaf.Path) bool { return !incoming.Has(p) })
	}
	if len(x.problems) > 0 {
		return nil
	}
	x.warnings = append(x.warnings, settings.Advise(r)...)
	values := r.Values()
	x.record(obj, source, values)
	recordInTemplate(obj, values)
	out := &Output{Object: obj, Settings: values, Source: leaf.Build(source)}
	if x.in.Explain {
		out.Fields = explain(r, source, incoming, obj)
	}
	return out
}

// bare tells whether nobody wrote anything that a rendered field could meet: annotations and the number of nodes only.
func bare(incoming *leaf.Set) bool {
	for _, p := range incoming.Paths() {
		if !p.Under(annotationsPath) && p != replicasPath {
			return false
		}
	}
	return true
}

// renderTree returns what the settings ask for, as raw JSON.
func renderTree(r *setting.Resolver) map[string]any {
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(settings.Render(r, nil))
	if err != nil {
		panic(err) // our own types, without a value that JSON does not have
	}
	delete(tree, "status")
	return tree
}

// render returns the leaves of it.
func render(r *setting.Resolver) *leaf.Set { return leaf.Of(renderTree(r), nil) }

// leaves takes an object apart as the API server would show it: defaults and empty values are no leaves, quantities are
// in their canonical form. Of the annotations only those that users write for us count.
func leaves(obj map[string]any) *leaf.Set { return leaf.Of(normal(obj), foreign) }

func normal(obj map[string]any) map[string]any {
	md, _ := obj["metadata"].(map[string]any)
	n := map[string]any{
		"metadata": leaf.Copy(map[string]any{"labels": md["labels"], "annotations": md["annotations"]}),
		"spec":     leaf.Copy(obj["spec"]),
	}
	apidefaults.Apply(n)
	apidefaults.Prune(n)
	return n
}

// foreign tells annotations that are not settings: other people's, and those that Metamorph writes.
func foreign(name string) bool {
	key, ours := strings.CutPrefix(name, setting.Prefix)
	return !ours || slices.Contains(settings.Written, key)
}

var (
	annotationsPath = leaf.Join("metadata", "annotations")
	labelsPath      = leaf.Join("metadata", "labels")
	replicasPath    = leaf.Join("spec", "replicas")
	templatePath    = leaf.Join("spec", "template")
	templateNotes   = leaf.Join("spec", "template", "metadata", "annotations")
	// templateSettingsPath is where the template keeps the settings that it was rendered from.
	templateSettingsPath = templateNotes.Child(setting.Prefix + "settings")
)

// ourLabel tells the labels that Metamorph writes.
func ourLabel(p leaf.Path) bool {
	return strings.HasPrefix(string(p), string(labelsPath)+"\x00"+setting.Prefix)
}

// source picks what users wrote out of an object's leaves: what some client of the API server owns. Fields that other
// webhooks and policies put in have no owner. Our own settings count whoever wrote them: they are instructions. Without
// managedFields (offline) everything counts.
func (x *expansion) source(incoming *leaf.Set) *leaf.Set {
	owners := x.owners(x.obj)
	source := leaf.NewSet()
	for _, p := range incoming.Paths() {
		if ourLabel(p) {
			continue
		}
		if owners == nil || p.Under(annotationsPath) || owners.Own(p) {
			v, _ := incoming.Get(p)
			source.Put(p, v)
		}
	}
	return source
}

func (x *expansion) owners(obj map[string]any) *leaf.Owners {
	o, err := leaf.OwnersOf(obj)
	if err != nil {
		x.report(setting.Problem{Code: setting.Malformed, Field: "metadata.managedFields", Reason: err.Error()})
	}
	return o
}

// replicas reads spec.replicas; the API server's default is 1.
func replicas(obj map[string]any) int {
	spec, _ := obj["spec"].(map[string]any)
	if n, ok := spec["replicas"].(int64); ok {
		return int(n)
	}
	return 1
}

func (x *expansion) resolve(source *leaf.Set, recorded map[string]setting.Value, redo func(string, setting.Value) bool, nodes int) *setting.Resolver {
	var profile *setting.Value
	if v, ok := recorded["profile"]; ok && (redo == nil || !redo("profile", v)) {
		profile = &v
	}
	facts := setting.Facts{Name: x.name, Namespace: x.in.Namespace.Name, Replicas: nodes, ClusterUID: x.in.ClusterUID}
	r := setting.NewResolver(settings.All, x.role, facts, x.layers(source, profile), recorded, redo)
	r.Resolve()
	x.problems = append(x.problems, r.Problems()...)
	x.warnings = append(x.warnings, r.Warnings()...)
	return r
}

// record writes the source, the settings and the version as annotations of the object.
func (x *expansion) record(obj map[string]any, source *leaf.Set, values map[string]setting.Value) {
	put := func(key, value string) { leaf.Put(obj, annotationsPath.Child(setting.Prefix+key), value) }
	put("source", text(leaf.Build(source)))
	put("settings", settingsText(values, nil))
	put("rendered-by", x.in.Version)
}

// recordInTemplate writes the settings that the template was rendered from into it, so that a rollback of the template
// brings them back.
func recordInTemplate(obj map[string]any, values map[string]setting.Value) {
	inside := func(key string) bool {
		d, ok := settings.Lookup(key)
		return ok && !d.Info().Outside
	}
	leaf.Put(obj, templateSettingsPath, settingsText(values, inside))
}

func settingsText(values map[string]setting.Value, keep func(string) bool) string {
	return string(setting.AppendValues(make([]byte, 0, 4096), values, keep))
}

// text is the JSON of a raw JSON value.
func text(v any) string { return string(leaf.AppendJSON(make([]byte, 0, 512), v)) }
