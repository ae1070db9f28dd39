package policy

import (
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/distribution/reference"
	"github.com/open-policy-agent/opa/v1/ast"
	"k8s.io/apimachinery/pkg/api/resource"
)

// View is what policies see of one object and of what is done with it, converted once. The policy-input reference
// documents it; [InputSchema] is its schema.
type View struct {
	// What policies are matched by.
	Kind, Role, Profile, Namespace, Name string
	Operation                            Operation
	// Now is the time that expiries are held against.
	Now time.Time

	input *ast.Term
	// whole is the input as an ordinary value, and review what Gatekeeper's policies see; nil until a policy needs them.
	whole  *ast.Term
	review ast.Value
}

// replaceable is the input for policies that replace a part of it (with input.replicas as 1). OPA copies an ordinary value
// before it does so; of a lazy one it would change what all other policies see.
func (v *View) replaceable() *ast.Term {
	if v.whole == nil {
		input, _ := v.input.Value.(ast.Object)
		// What is forced is converted to its leaves.
		all, _ := input.Map(func(k, v *ast.Term) (*ast.Term, *ast.Term, error) { return k, v, nil })
		v.whole = ast.NewTerm(all)
	}
	return v.whole
}

// Input is what a view is made of. Everything but Object is optional.
type Input struct {
	Operation Operation
	// Role is the object's; empty for one that is not managed.
	Role    string
	Profile string
	// Object is the object as it would be stored, with the API's defaults; for a deletion the stored one.
	Object map[string]any
	// OldObject is the stored one.
	OldObject map[string]any
	// Source holds what users wrote.
	Source map[string]any
	// Settings and OldSettings are the resolved ones of both objects.
	Settings, OldSettings map[string]Setting
	// Config and OldConfig are the lines of the main configuration file of both objects.
	Config, OldConfig map[string]string
	Namespace         Namespace
	User              User
	DryRun            bool
	Now               time.Time
}

// Setting is a resolved setting.
type Setting struct {
	Value string
	// From says where it was written: annotation, spec, namespace NAME, profile NAME, rule.
	From string
	// Of are the settings that a rule derived it from.
	Of []string
}

// Namespace is the object's.
type Namespace struct {
	Name                string
	Labels, Annotations map[string]string
}

// User sent the request.
type User struct {
	Name   string
	Groups []string
}

// NewView prepares a view. It keeps the input's objects, and converts of them what policies look at, when they do: a policy
// sees a few fields of some hundred. So a view serves one goroutine.
func NewView(in Input) *View {
	md, _ := in.Object["metadata"].(map[string]any)
	v := &View{
		Role: in.Role, Profile: in.Profile, Namespace: in.Namespace.Name, Operation: in.Operation, Now: in.Now,
	}
	v.Kind, _ = in.Object["kind"].(string)
	v.Name, _ = md["name"].(string)
	if v.Role == "" {
		v.Role = Plain
	}
	spec, _ := in.Object["spec"].(map[string]any)
	template, _ := spec["template"].(map[string]any)
	pod, _ := template["spec"].(map[string]any)
	groups := make([]any, len(in.User.Groups))
	for i, g := range in.User.Groups {
		groups[i] = g
	}
	// All of it is one lazy object: an ordinary one would convert its values in order to hash them.
	input := map[string]any{
		"object":   slim(in.Object),
		"source":   object(in.Source),
		"settings": settings(in.Settings),
		"config":   texts(in.Config),
		"role":     v.Role, "profile": v.Profile,
		"replicas":  replicas(in.Object),
		"now":       in.Now.Unix(),
		"namespace": map[string]any{"name": in.Namespace.Name, "labels": texts(in.Namespace.Labels), "annotations": texts(in.Namespace.Annotations)},
		"request": map[string]any{
			"operation": string(in.Operation), "dryRun": in.DryRun, "name": v.Name, "user": map[string]any{"name": in.User.Name, "groups": groups},
		},
		"pod":        object(pod),
		"containers": containers(pod),
		"volumes":    byName(pod["volumes"]),
		"claims":     claims(spec["volumeClaimTemplates"]),
	}
	if in.OldObject != nil {
		input["oldObject"], input["oldSettings"] = slim(in.OldObject), settings(in.OldSettings)
		input["oldConfig"], input["oldReplicas"] = texts(in.OldConfig), replicas(in.OldObject)
	}
	v.input = ast.NewTerm(ast.LazyObject(input))
	return v
}

// object is a map that is never nil, which would be null.
func object(m map[string]any) map[string]any {
	if m == nil {
		return map[string]any{}
	}
	return m
}

func item(k string, v ast.Value) [2]*ast.Term { return ast.Item(ast.InternedTerm(k), ast.NewTerm(v)) }

// slim leaves out what says nothing about the object and may be large: who wrote which field, and the copy of the manifest
// that kubectl keeps.
func slim(obj map[string]any) map[string]any {
	md, ok := obj["metadata"].(map[string]any)
	if !ok {
		return obj
	}
	md = maps.Clone(md)
	delete(md, "managedFields")
	const last = "kubectl.kubernetes.io/last-applied-configuration"
	if a, ok := md["annotations"].(map[string]any); ok && a[last] != nil {
		a = maps.Clone(a)
		delete(a, last)
		md["annotations"] = a
	}
	obj = maps.Clone(obj)
	obj["metadata"] = md
	return obj
}

func get(v ast.Value, path ...string) ast.Value {
	for _, p := range path {
		o, ok := v.(ast.Object)
		if !ok {
			return nil
		}
		t := o.Get(ast.InternedTerm(p))
		if t == nil {
			return nil
		}
		v = t.Value
	}
	return v
}

func texts(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

func settings(m map[string]Setting) map[string]any {
	out := make(map[string]any, len(m))
	for k, s := range m {
		out[k] = map[string]any{"value": s.Value, "from": s.From, "of": s.Of}
	}
	return out
}

// replicas is the number of pods; the API's default is 1.
func replicas(obj map[string]any) any {
	spec, _ := obj["spec"].(map[string]any)
	switch n := spec["replicas"].(type) {
	case int64, float64:
		return n
	}
	return int64(1)
}

// named calls f for the entries of a list that have a name.
func named(list any, f func(name string, entry map[string]any)) {
	all, _ := list.([]any)
	for _, r := range all {
		entry, _ := r.(map[string]any)
		if name, ok := entry["name"].(string); ok {
			f(name, entry)
		}
	}
}

// byName makes an object of a list whose entries have names; those without are left out.
func byName(list any) map[string]any {
	out := map[string]any{}
	named(list, func(name string, entry map[string]any) { out[name] = entry })
	return out
}

// containers are the containers by name, each with what is tedious to find out in Rego.
func containers(pod map[string]any) map[string]any {
	out := map[string]any{}
	for _, list := range []string{"initContainers", "containers"} {
		named(pod[list], func(name string, c map[string]any) {
			image, _ := c["image"].(string)
			res, _ := c["resources"].(map[string]any)
			out[name] = map[string]any{
				"init":     list == "initContainers",
				"image":    imageOf(image),
				"env":      env(c["env"]),
				"args":     slices.Concat(textsOf(c["command"]), textsOf(c["args"])),
				"requests": quantities(res["requests"]),
				"limits":   quantities(res["limits"]),
				"mounts":   mounts(c["volumeMounts"]),
				"spec":     c,
			}
		})
	}
	return out
}

// imageOf takes an image reference apart, Docker's short forms completed.
func imageOf(text string) map[string]any {
	out := map[string]any{"reference": text}
	if ref, err := reference.ParseNormalizedNamed(text); err == nil {
		out["registry"], out["repository"] = reference.Domain(ref), reference.Path(ref)
		if t, ok := ref.(reference.Tagged); ok {
			out["tag"] = t.Tag()
		}
		if d, ok := ref.(reference.Digested); ok {
			out["digest"] = string(d.Digest())
		}
	}
	return out
}

// env maps variables to their values; nil for one whose value is a reference.
func env(list any) map[string]any {
	out := map[string]any{}
	named(list, func(name string, e map[string]any) {
		value, _ := e["value"].(string)
		out[name] = value
		if e["valueFrom"] != nil {
			out[name] = nil
		}
	})
	return out
}

// textsOf are the texts of a list.
func textsOf(list any) []any {
	all, _ := list.([]any)
	return slices.DeleteFunc(slices.Clone(all), func(v any) bool { _, ok := v.(string); return !ok })
}

// mounts maps paths to the names of volumes.
func mounts(list any) map[string]any {
	out := map[string]any{}
	named(list, func(name string, m map[string]any) {
		if at, _ := m["mountPath"].(string); at != "" {
			out[strings.TrimRight(at, "/")] = name
		}
	})
	return out
}

// quantities are numbers: bytes, cores.
func quantities(raw any) map[string]any {
	m, _ := raw.(map[string]any)
	out := make(map[string]any, len(m))
	for k, v := range m {
		if n, ok := number(v); ok {
			out[k] = n
		}
	}
	return out
}

// number is a quantity's value.
func number(raw any) (json.Number, bool) {
	var text string
	switch x := raw.(type) {
	case string:
		text = x
	case int64:
		return json.Number(strconv.FormatInt(x, 10)), true
	case float64:
		return json.Number(strconv.FormatFloat(x, 'f', -1, 64)), true
	default:
		return "", false
	}
	q, err := resource.ParseQuantity(text)
	if err != nil {
		return "", false
	}
	if n, ok := q.AsInt64(); ok {
		return json.Number(strconv.FormatInt(n, 10)), true
	}
	return json.Number(strconv.FormatFloat(q.AsApproximateFloat64(), 'f', -1, 64)), true
}

// claims maps the claim templates' names to size in bytes, class and modes.
func claims(list any) map[string]any {
	out := map[string]any{}
	all, _ := list.([]any)
	for _, r := range all {
		c, _ := r.(map[string]any)
		md, _ := c["metadata"].(map[string]any)
		name, ok := md["name"].(string)
		if !ok {
			continue
		}
		spec, _ := c["spec"].(map[string]any)
		res, _ := spec["resources"].(map[string]any)
		requests, _ := res["requests"].(map[string]any)
		claim := map[string]any{"accessModes": textsOf(spec["accessModes"])}
		if n, ok := number(requests["storage"]); ok {
			claim["storage"] = n
		}
		if class, ok := spec["storageClassName"].(string); ok {
			claim["storageClass"] = class
		}
		out[name] = claim
	}
	return out
}

// Numbers is a copy of a document in which every text that is a quantity is a number: bytes, cores, pieces.
func Numbers(doc map[string]any) map[string]any {
	out := make(map[string]any, len(doc))
	for k, v := range doc {
		switch x := v.(type) {
		case map[string]any:
			out[k] = v
			if k != "metadata" {
				out[k] = Numbers(x)
			}
		case string:
			out[k] = v
			if q, err := resource.ParseQuantity(x); err == nil {
				out[k] = q.AsApproximateFloat64()
			}
		default:
			out[k] = v
		}
	}
	return out
}
