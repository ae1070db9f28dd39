package mutate

import (
	"fmt"
	"maps"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Inspection is what an expanded object says of itself.
type Inspection struct {
	// Managed is what [Managed] tells. Nothing else is read of an object that is not.
	Managed bool
	// Expanded tells that it was expanded.
	Expanded bool
	Role     setting.Role
	// Settings are the recorded ones, and Source is what users wrote: labels, our annotations and spec.
	Settings map[string]setting.Value
	Source   map[string]any
	// Config holds the lines of server.properties or zoo.cfg.
	Config map[string]string
}

// Managed tells that an object is Metamorph's: it has a role, or was expanded, and was not let go of. It reads annotations alone,
// where [Inspect] decodes all that they record.
func Managed(obj map[string]any) bool {
	return (annotation(obj, "role") != "" || annotation(obj, "source") != "") && annotation(obj, "managed") != "false"
}

// LetGo tells that Metamorph managed an object once: the id of the cluster is all that is left of it.
func LetGo(obj map[string]any) bool {
	md, _ := obj["metadata"].(map[string]any)
	notes, _ := md["annotations"].(map[string]any)
	return !Managed(obj) && notes[setting.Prefix+"cluster-id"] != nil
}

// Inspect reads what an object records. It never fails: what cannot be read is left out, and for [Expand] to complain of.
func Inspect(obj map[string]any) Inspection {
	if !Managed(obj) {
		return Inspection{}
	}
	source := annotation(obj, "source")
	in := Inspection{Managed: true, Expanded: source != "", Role: setting.Role(annotation(obj, "role"))}
	if tree, err := leaf.Decode([]byte(source)); err == nil {
		in.Source = tree
	}
	if values, err := setting.ParseValues([]byte(annotation(obj, "settings"))); err == nil {
		in.Settings = values
	}
	spec, _ := obj["spec"].(map[string]any)
	template, _ := spec["template"].(map[string]any)
	md, _ := template["metadata"].(map[string]any)
	notes, _ := md["annotations"].(map[string]any)
	for _, file := range []string{"server.properties", "zoo.cfg"} {
		if text, ok := notes[setting.Prefix+file].(string); ok {
			in.Config = map[string]string{}
			for _, l := range leaf.Lines(text) {
				in.Config[l.Key] = l.Value
			}
		}
	}
	return in
}

// Rescaled is an object with another number of replicas. It shares all else with the one that it was made of.
func Rescaled(obj map[string]any, replicas int64) map[string]any {
	was, _ := obj["spec"].(map[string]any)
	spec := maps.Clone(was)
	if spec == nil {
		spec = map[string]any{}
	}
	spec["replicas"] = replicas
	obj = maps.Clone(obj)
	obj["spec"] = spec
	return obj
}

// Annotated returns a copy of a source with annotations of ours set, and those with an empty value removed.
func Annotated(source map[string]any, annotations map[string]string) map[string]any {
	tree, _ := leaf.Copy(source).(map[string]any)
	if tree == nil {
		tree = map[string]any{}
	}
	for key, value := range annotations {
		p := annotationsPath.Child(setting.Prefix + key)
		if value == "" {
			leaf.Remove(tree, p)
		} else {
			leaf.Put(tree, p, value)
		}
	}
	return tree
}

// Revise expands an object as if its user had written source: for a creation from nothing, for an update of in.OldObject as
// a client would send the difference. In.Object gives only the name.
func Revise(in Input, source map[string]any) (*Output, error) {
	sent, err := leaf.Decode(in.Object)
	if err != nil {
		return nil, fmt.Errorf("the object is not JSON that can be read: %w", err)
	}
	md, _ := sent["metadata"].(map[string]any)
	var obj map[string]any
	if len(in.OldObject) == 0 {
		obj, _ = leaf.Copy(source).(map[string]any)
		if obj == nil {
			obj = map[string]any{}
		}
		own, _ := obj["metadata"].(map[string]any)
		if own == nil {
			own = map[string]any{}
			obj["metadata"] = own
		}
		for _, f := range []string{"name", "namespace"} {
			if v, ok := md[f]; ok {
				own[f] = v
			}
		}
		obj["apiVersion"], obj["kind"] = "apps/v1", "StatefulSet"
	} else {
		old, err := leaf.Decode(in.OldObject)
		if err != nil {
			return nil, fmt.Errorf("the old object is not JSON that can be read: %w", err)
		}
		// Without them every difference is its user's.
		if md, ok := old["metadata"].(map[string]any); ok {
			delete(md, "managedFields")
		}
		in.OldObject = leaf.AppendJSON(nil, old)
		obj, _ = leaf.Copy(old).(map[string]any)
		was, err := leaf.Decode([]byte(annotation(old, "source")))
		if err != nil {
			was = map[string]any{}
		}
		before, now := leaf.Of(was, foreign), leaf.Of(source, foreign)
		leaf.PutAll(obj, now, func(p leaf.Path) bool {
			v, _ := now.Get(p)
			old, had := before.Get(p)
			return !had || !leaf.Equal(old, v)
		})
		for _, p := range before.Paths() {
			if !now.Has(p) {
				leaf.Remove(obj, p)
			}
		}
	}
	in.Object, in.Typed = leaf.AppendJSON(nil, obj), false
	return Expand(in)
}

// Decode reads an object as [Expand] does: integers stay integers.
func Decode(raw []byte) (map[string]any, error) { return leaf.Decode(raw) }

// Encode is the JSON text of a decoded object.
func Encode(obj map[string]any) []byte { return leaf.AppendJSON(nil, obj) }

// Defaulted is a copy of an object with what the API server fills in.
func Defaulted(obj map[string]any) map[string]any {
	c, _ := leaf.Copy(obj).(map[string]any)
	apidefaults.Apply(c)
	return c
}
