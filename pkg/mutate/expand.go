// Package mutate turns a nearly empty, annotated StatefulSet into a complete one.
//
// It is pure: [Expand] is a function of its input, with no client, clock, network or log. The webhook, the command line
// and the tests all call it, so what passes offline passes in the cluster.
package mutate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/json"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/patch"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// Input is all that an expansion depends on.
type Input struct {
	// Object is the StatefulSet as it was sent, as JSON.
	Object []byte
	// OldObject is the stored one for an update, empty for a creation.
	OldObject []byte
	// Typed says that an API server sent the object, and so has held it against the types of a StatefulSet already.
	Typed bool
	// Namespace is the object's, with its annotations: defaults for what it holds.
	Namespace Namespace
	// Profiles are the ConfigMap profiles by name: settings by key.
	Profiles map[string]map[string]string
	// ClusterUID is the UID of the namespace kube-system: it tells one Kubernetes cluster from another. Empty offline.
	ClusterUID string
	// Version is Metamorph's, for the annotation rendered-by.
	Version string
	// Explain asks for Output.Fields.
	Explain bool
}

// Namespace is what an expansion needs to know of the object's namespace.
type Namespace struct {
	Name        string
	Annotations map[string]string
}

// Output is an expanded object and all that is known about it.
type Output struct {
	// Role is empty for an object that is not ours; then nothing else but Object is set.
	Role setting.Role
	// Object is the object as it should be stored.
	Object map[string]any
	// Operations turn the input's object into Object; none if there is nothing to change.
	Operations []patch.Operation
	// Warnings are for the user who sent the request.
	Warnings []setting.Warning
	// Settings are the resolved ones by key, with their origin.
	Settings map[string]setting.Value
	// Source holds what users wrote: labels, our annotations and spec.
	Source map[string]any
	// Fields tells of every field of labels, annotations and spec where it came from; with Input.Explain only.
	Fields []Field
}

// Patch is the JSON Patch of the operations; nil if there are none.
func (o *Output) Patch() []byte { return patch.Marshal(o.Operations) }

// Invalid is the error for an object that is refused: every problem with it.
type Invalid struct {
	Name     string
	Problems []setting.Problem
}

func (e *Invalid) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = "* " + p.Error()
	}
	return fmt.Sprintf("The StatefulSet %q is invalid:\n%s", e.Name, strings.Join(lines, "\n"))
}

// expansion is one object on its way.
type expansion struct {
	in       Input
	obj, old map[string]any
	name     string
	role     setting.Role
	// annotations are the object's own.
	annotations map[string]any
	problems    []setting.Problem
	warnings    []setting.Warning
}

// Expand expands one StatefulSet. The error is an *Invalid with everything that is wrong with the object, or tells that
// the input is not an object at all.
func Expand(in Input) (*Output, error) {
	x := &expansion{in: in}
	var err error
	if x.obj, err = leaf.Decode(in.Object); err != nil {
		return nil, fmt.Errorf("the object is not JSON that can be read: %w", err)
	}
	if len(in.OldObject) > 0 {
		if x.old, err = leaf.Decode(in.OldObject); err != nil {
			return nil, fmt.Errorf("the old object is not JSON that can be read: %w", err)
		}
	}
	pass := &Output{Object: x.obj}
	if !Ours(x.obj) && !Ours(x.old) {
		return pass, nil
	}
	md, _ := x.obj["metadata"].(map[string]any)
	x.name, _ = md["name"].(string)
	if md["deletionTimestamp"] != nil {
		return pass, nil
	}
	if !x.wellFormed(in.Object) {
		return nil, x.refuse()
	}
	x.annotations, _ = md["annotations"].(map[string]any)
	if let, ok := x.annotations[setting.Prefix+"managed"]; ok && let == "false" {
		return x.letGo(), nil
	}
	if !x.findRole() {
		if len(x.problems) > 0 {
			return nil, x.refuse()
		}
		return pass, nil
	}
	var out *Output
	switch live := x.old; {
	case live != nil:
		out = x.update()
	case x.annotations[setting.Prefix+"source"] != nil:
		out = x.again()
	default:
		out = x.create()
	}
	if len(x.problems) > 0 {
		return nil, x.refuse()
	}
	out.Role = x.role
	out.Operations = patch.Create(x.obj, out.Object)
	if len(out.Operations) > 0 {
		out.Warnings = x.warnings
	}
	return out, nil
}

// Ours tells whether an object carries an annotation or a label of Metamorph's.
func Ours(obj map[string]any) bool {
	md, _ := obj["metadata"].(map[string]any)
	for _, f := range []string{"annotations", "labels"} {
		m, _ := md[f].(map[string]any)
		for k := range m {
			if strings.HasPrefix(k, setting.Prefix) {
				return true
			}
		}
	}
	return false
}

// maxProblems is how many problems a refusal lists: an answer is for reading, and the API server bounds it.
const maxProblems = 50

func (x *expansion) refuse() error {
	if n := len(x.problems); n > maxProblems {
		last := x.problems[maxProblems-1]
		last.Reason, last.Got = fmt.Sprintf("and %d more problems follow this one: %s", n-maxProblems, last.Reason), ""
		x.problems = append(x.problems[:maxProblems-1:maxProblems-1], last)
	}
	return &Invalid{Name: x.name, Problems: x.problems}
}

func (x *expansion) report(p setting.Problem) { x.problems = append(x.problems, p) }

// wellFormed holds the object against the Go types: what has another type than they say would be refused by the API
// server, and must not be guessed at here.
func (x *expansion) wellFormed(raw []byte) bool {
	malformed := func(field, reason string) bool {
		x.report(setting.Problem{Code: setting.Malformed, Field: field, Reason: reason, Allowed: "what the API server takes for an apps/v1 StatefulSet", Example: "spec: {replicas: 3}"})
		return false
	}
	if k := x.obj["kind"]; k != nil && k != "StatefulSet" {
		return malformed("kind", fmt.Sprintf("%v is not a kind that can be expanded; only StatefulSet is", k))
	}
	if v := x.obj["apiVersion"]; v != nil && v != "apps/v1" {
		return malformed("apiVersion", fmt.Sprintf("%v is not apps/v1", v))
	}
	for _, f := range []string{"annotations", "labels"} {
		md, _ := x.obj["metadata"].(map[string]any)
		values, _ := md[f].(map[string]any)
		for _, k := range slices.Sorted(maps.Keys(values)) {
			var kind string
			switch values[k].(type) {
			case string, nil:
				continue
			case bool:
				kind = "a truth value"
			case map[string]any, []any:
				kind = "a structure"
			default:
				kind = "a number"
			}
			p := setting.Problem{
				Code: setting.Malformed, Field: "metadata." + f + "[" + k + "]", Reason: "is " + kind + ", and " + f + " are strings", Allowed: "the same in quotes",
			}
			if !setting.LooksSecret(k) {
				p.Got = setting.QuoteUnlessSecret(text(values[k]))
				p.Example = p.Got
			}
			x.report(p)
		}
	}
	if len(x.problems) > 0 {
		return false
	}
	if x.in.Typed {
		return x.hasName()
	}
	var typed appsv1.StatefulSet
	if err := json.UnmarshalCaseSensitivePreserveInts(raw, &typed); err != nil {
		return malformed("spec", "does not have the types of a StatefulSet: "+strings.TrimPrefix(err.Error(), "json: "))
	}
	return x.hasName()
}

func (x *expansion) hasName() bool {
	if x.name == "" {
		x.report(setting.Problem{
			Code: setting.Malformed, Field: "metadata.name",
			Reason:  "is required; metadata.generateName is not enough, because the pods' addresses are derived from the name",
			Allowed: "a name", Example: "events",
		})
	}
	return x.name != ""
}

// findRole reads the role. It is false for objects to be left alone or, with problems reported, to be refused.
func (x *expansion) findRole() bool {
	key := setting.Prefix + "role"
	if text, ok := x.annotations[key].(string); ok {
		return x.readRole(text)
	}
	md, _ := x.obj["metadata"].(map[string]any)
	labels, _ := md["labels"].(map[string]any)
	if oldRole := annotation(x.old, "role"); oldRole != "" && annotation(x.old, "source") != "" {
		x.report(setting.Problem{
			Code: setting.RoleRemoved, Field: setting.Annotation("role"), Reason: "was removed, but this StatefulSet is managed as " + oldRole,
			Allowed: "metamorph.dev/managed: \"false\" to let go of it; the pods stay as they are", Example: "metamorph.dev/role: " + oldRole,
		})
		return false
	}
	if v, ok := labels[key]; ok {
		x.report(setting.Problem{
			Code: setting.RoleAsLabel, Field: "metadata.labels[" + key + "]", Got: setting.Quote(fmt.Sprint(v)), Reason: "the role is an annotation, not a label",
			Allowed: "the same under metadata.annotations", Example: key + ": kafka",
		})
		return false
	}
	ours := x.ownKeys()
	if slices.Equal(ours, []string{"cluster-id"}) || len(ours) == 0 {
		// Let go of, or merely labelled: not ours.
		return false
	}
	x.report(setting.Problem{
		Code: setting.NoRole, Field: setting.Annotation("role"), Reason: "is missing, so " + setting.Prefix + strings.Join(ours, ", "+setting.Prefix) + " would do nothing",
		Allowed: "kafka or zookeeper", Example: key + ": kafka",
	})
	return false
}

// ownKeys lists the object's annotations that are ours, without prefix, sorted.
func (x *expansion) ownKeys() []string {
	var out []string
	for k := range x.annotations {
		if key, ok := strings.CutPrefix(k, setting.Prefix); ok && x.annotations[k] != nil {
			out = append(out, key)
		}
	}
	slices.Sort(out)
	return out
}

func annotation(obj map[string]any, key string) string {
	md, _ := obj["metadata"].(map[string]any)
	a, _ := md["annotations"].(map[string]any)
	s, _ := a[setting.Prefix+key].(string)
	return s
}

// letGo strips our annotations, but the cluster id that the volumes carry, and our labels from the object. Selector and
// template stay, so no pod notices.
func (x *expansion) letGo() *Output {
	obj, _ := leaf.Copy(x.obj).(map[string]any)
	md, _ := obj["metadata"].(map[string]any)
	for _, f := range []string{"annotations", "labels"} {
		m, _ := md[f].(map[string]any)
		for k := range m {
			if strings.HasPrefix(k, setting.Prefix) && k != setting.Prefix+"cluster-id" {
				delete(m, k)
			}
		}
		if len(m) == 0 {
			delete(md, f)
		}
	}
	x.warnings = append(x.warnings, setting.Warning{Code: setting.Derived, Text: "Metamorph let go of this StatefulSet; it is plain Kubernetes from now on"})
	return &Output{Object: obj, Operations: patch.Create(x.obj, obj), Warnings: x.warnings}
}

func (x *expansion) readRole(text string) bool {
	role, err := settings.ParseRole(text)
	if err != nil {
		x.report(setting.Problem{
			Code: setting.BadValue, Field: setting.Annotation("role"), Got: setting.Quote(text), Reason: err.Error(),
			Allowed: settings.Role.Allowed, Example: settings.Role.Example,
		})
		return false
	}
	x.role = role
	return true
}
