package mutate

import (
	"fmt"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// Field is one field of an expanded object, and where it came from.
type Field struct {
	// Path as Kubernetes writes it.
	Path  string `json:"path"`
	Value any    `json:"value"`
	// Origin is user, other (another webhook or policy), or metamorph.
	Origin string `json:"origin"`
	// Setting is the one that rendered the field, for metamorph; role stands for what every set of the role has.
	Setting string `json:"setting,omitempty"`
	// From is where that setting's value came from: annotation, namespace NAME, profile NAME, rule.
	From string `json:"from,omitempty"`
	// Of are the settings that a rule derived it from.
	Of []string `json:"of,omitempty"`
}

// String is one line for people: path = value  ← origin.
func (f Field) String() string {
	v, ok := f.Value.(string)
	if !ok {
		v = text(f.Value)
	}
	if r := []rune(v); strings.Contains(v, "\n") || len(r) > 100 {
		first, _, _ := strings.Cut(v, "\n")
		if r = []rune(first); len(r) > 60 {
			first = string(r[:60])
		}
		v = fmt.Sprintf("%s… (%d bytes)", first, len(v))
	}
	return fmt.Sprintf("%s = %s  ← %s", f.Path, v, f.Why())
}

// Why tells in a few words where the field came from.
func (f Field) Why() string {
	if f.Origin != "metamorph" {
		return f.Origin
	}
	s := f.Setting
	if f.From != "" {
		s += " (" + f.From
		if len(f.Of) > 0 {
			s += " on " + strings.Join(f.Of, ", ")
		}
		s += ")"
	}
	return s
}

// explain finds the setting behind every leaf by rendering the settings one after the other, and looking which leaves
// each one added or changed. So no setting has to say what it renders, and none can say it wrongly.
func explain(r *setting.Resolver, source, incoming *leaf.Set, result map[string]any) []Field {
	by := map[leaf.Path]string{}
	last := leaf.NewSet()
	settings.Render(r, func(info setting.Info, set *appsv1.StatefulSet) {
		tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(set)
		if err != nil {
			panic(err)
		}
		now := leaf.Of(tree, nil)
		for _, p := range now.Paths() {
			v, _ := now.Get(p)
			if old, ok := last.Get(p); !ok || !leaf.Equal(old, v) {
				by[p] = info.Key
			}
		}
		last = now
	})
	values := r.Values()
	all := leaf.Of(result, func(name string) bool { return !strings.HasPrefix(name, setting.Prefix) })
	out := make([]Field, 0, all.Len())
	for _, p := range all.Paths() {
		v, _ := all.Get(p)
		f := Field{Path: p.String(), Value: v}
		key, rendered := by[p]
		switch {
		case source.Has(p):
			f.Origin = "user"
		case incoming.Has(p):
			f.Origin = "other"
		case rendered:
			f.Origin, f.Setting = "metamorph", key
			if s := values[key]; key != settings.RoleKey {
				f.From, f.Of = s.Origin.String(), s.Of
			}
		case strings.Contains(string(p), setting.Prefix):
			f.Origin, f.Setting = "metamorph", "record"
		default:
			f.Origin = "default"
		}
		out = append(out, f)
	}
	return out
}
