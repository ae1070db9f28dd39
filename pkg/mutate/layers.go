package mutate

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// builtin are the profiles that need no ConfigMap.
var builtin = map[string]map[string]string{
	// For a laptop or a test cluster: small, and the records are not worth much.
	"dev": {"memory": "1Gi", "cpu": "200m", "storage": "1Gi", "zookeeper-storage": "1Gi", "zookeeper-replicas": "1"},
	// For load: page cache, room on the volume, and metrics, without which nobody runs a broker for long.
	"production": {"memory": "8Gi", "cpu": "2", "storage": "100Gi", "metrics": "true"},
}

// Profiles lists the names of the built-in profiles.
func Profiles() []string { return slices.Sorted(maps.Keys(builtin)) }

// BuiltinProfile returns the settings of a built-in profile.
func BuiltinProfile(name string) map[string]string { return maps.Clone(builtin[name]) }

// ProfileOf returns the name of the profile that an object asks for, itself or through its namespace; "" if none.
func ProfileOf(obj map[string]any, ns Namespace) string {
	if p := annotation(obj, "profile"); p != "" {
		return p
	}
	return ns.Annotations[setting.Prefix+"profile"]
}

// layers returns the places that settings are written in, highest first. Recorded is the profile that was used before;
// nil if there was no before, or the profile is to be looked up anew.
func (x *expansion) layers(source *leaf.Set, recorded *setting.Value) []*setting.Layer {
	own := &setting.Layer{Origin: setting.Origin{Layer: setting.OnObject}, Values: map[string]string{}}
	at := leaf.Join("metadata", "annotations")
	for _, p := range source.Paths() {
		if key, ok := strings.CutPrefix(string(p), string(at)+"\x00"+setting.Prefix); ok {
			v, _ := source.Get(p)
			own.Values[key], _ = v.(string)
		}
	}
	ns := &setting.Layer{
		Origin: setting.Origin{Layer: setting.Namespace, Name: x.in.Namespace.Name},
		Values: x.defaults("namespace "+x.in.Namespace.Name, strip(x.in.Namespace.Annotations)),
	}
	all := []*setting.Layer{own, x.specLayer(source), ns}
	name, field := own.Values["profile"], setting.Annotation("profile")
	if name == "" {
		name, field = ns.Values["profile"], "namespace "+ns.Origin.Name+": "+field
	}
	if recorded != nil {
		name = recorded.Text
	}
	if name != "" {
		values, ok := x.in.Profiles[name]
		if b, is := builtin[name]; is {
			values, ok = b, true
		}
		switch {
		case ok:
			all = append(all, &setting.Layer{
				Origin: setting.Origin{Layer: setting.Profile, Name: name},
				Values: x.defaults("profile "+name, values),
			})
		case recorded != nil:
			x.warn(setting.Ignored, setting.Annotation("profile"), "the profile "+name+" is gone; what it said when the settings were resolved still holds")
		default:
			names := append(Profiles(), slices.Sorted(maps.Keys(x.in.Profiles))...)
			p := setting.Problem{
				Code: setting.BadProfile, Field: field, Got: setting.Quote(name), Reason: "there is no such profile",
				Allowed: strings.Join(names, ", ") + ", or a ConfigMap labelled metamorph.dev/profile in Metamorph's namespace", Example: "production",
			}
			if n := settings.Nearest(name, names); n != "" {
				p.Reason += "; did you mean " + n
			}
			x.report(p)
		}
	}
	for _, l := range all {
		text, ok := l.Values["config"]
		if !ok {
			continue
		}
		if p, err := settings.ParseConfig(text); err == nil {
			l.Config = map[string]string{}
			for _, k := range p.Keys() {
				l.Config[k], _ = p.Get(k)
			}
		}
		// The highest layer that has lines counts as a whole.
		break
	}
	return all
}

// specLayer takes what the user wrote into the main container for the settings that render the same: the other parts of the
// set (init container, heap, threads, configuration) follow it then, and not the rule.
func (x *expansion) specLayer(source *leaf.Set) *setting.Layer {
	l := &setting.Layer{Origin: setting.Origin{Layer: setting.Spec}, Values: map[string]string{}, Fields: map[string]string{}}
	main := mainPath(x.role)
	for key, p := range specSettings(main) {
		if v, ok := source.Get(p); ok {
			l.Values[key], l.Fields[key] = fmt.Sprint(v), p.String()
		}
	}
	return l
}

// specSettings are the settings that a field of the main container stands for.
func specSettings(main leaf.Path) map[string]leaf.Path {
	resources := main.Child("resources")
	return map[string]leaf.Path{
		"image":  main.Child("image"),
		"memory": resources.Child("limits").Child("memory"),
		"cpu":    resources.Child("requests").Child("cpu"),
	}
}

// strip takes our annotations out of a namespace's, without prefix.
func strip(annotations map[string]string) map[string]string {
	out := map[string]string{}
	for k, v := range annotations {
		if key, ok := strings.CutPrefix(k, setting.Prefix); ok {
			out[key] = v
		}
	}
	return out
}

// defaults keeps those of a layer's values that can be a default, and warns of the others.
func (x *expansion) defaults(where string, values map[string]string) map[string]string {
	out := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		d, ok := settings.Lookup(key)
		switch {
		case ok && key == "config":
			text, ignored := settings.KnownLines(x.role, values[key])
			if text != "" {
				out[key] = text
			}
			if len(ignored) > 0 {
				x.warn(setting.Ignored, where, "config: "+strings.Join(ignored, ", ")+" is not for the role "+string(x.role)+"; ignored")
			}
		case ok && key == "image" && settings.ForeignImage(x.role, values[key]):
			x.warn(setting.Ignored, where, "image: it is not for the role "+string(x.role)+"; ignored")
		case ok && !d.Info().Internal && !d.Info().Own:
			out[key] = values[key]
		case ok:
			x.warn(setting.Ignored, where, key+" is a StatefulSet's own and is no default for others; it is ignored")
		default:
			text := key + " is not a setting; it is ignored"
			if n := settings.NearestKey(key, ""); n != "" {
				text = key + " is not a setting (did you mean " + n + "?); it is ignored"
			}
			x.warn(setting.Ignored, where, text)
		}
	}
	return out
}

func (x *expansion) warn(c setting.Code, field, text string) {
	w := setting.Warning{Code: c, Field: field, Text: text}
	if !slices.Contains(x.warnings, w) {
		x.warnings = append(x.warnings, w)
	}
}

// checkKeys refuses annotations with our prefix that the role does not have. written tells whether those that Metamorph
// writes are expected.
func (x *expansion) checkKeys(written bool) {
	for _, key := range x.ownKeys() {
		field := setting.Annotation(key)
		value := x.annotations[setting.Prefix+key]
		if x.old != nil && annotation(x.old, key) == value {
			// Whatever it is, it is there already, and shall not keep anybody from a change of something else.
			if d, ok := settings.Lookup(key); !slices.Contains(settings.Written, key) && (!ok || !d.Info().For(x.role)) {
				x.warn(setting.Unknown, field, "there is no such setting; it is ignored")
			}
			continue
		}
		if slices.Contains(settings.Reported, key) {
			continue
		}
		text := fmt.Sprint(value)
		if slices.Contains(settings.Written, key) {
			if !written {
				x.report(setting.Problem{Code: setting.Reserved, Field: field, Got: setting.QuoteUnlessSecret(text), Reason: "is written by Metamorph, never by users", Allowed: "nothing; remove it", Example: setting.Prefix + "role: " + string(x.role)})
			}
			continue
		}
		d, known := settings.Lookup(key)
		switch {
		case known && d.Info().For(x.role) && !d.Info().Internal:
		case known && !d.Info().Internal:
			x.report(setting.Problem{
				Code: setting.Unknown, Field: field, Got: setting.QuoteUnlessSecret(text),
				Reason:  "the role " + string(x.role) + " has no such setting",
				Allowed: strings.Join(settings.Keys(x.role), ", "), Example: example("heap"),
			})
		case setting.LooksSecret(key):
			// Neither repeated nor stored.
			x.report(setting.Problem{
				Code: setting.Password, Field: field, Reason: "a password in an annotation is readable by everybody who can read the object",
				Allowed: "a Secret with the keys controller, broker, client, zookeeper, named in metamorph.dev/sasl-secret", Example: setting.Prefix + "sasl-secret: " + x.name + "-sasl",
			})
		default:
			// Nobody knows what it is, so its value is not repeated unless it is a setting's, misspelt.
			p := setting.Problem{Code: setting.Unknown, Field: field, Reason: "there is no such setting", Allowed: strings.Join(settings.Keys(x.role), ", "), Example: example("heap")}
			if n := settings.NearestKey(key, x.role); n != "" {
				p.Reason += "; did you mean " + n
				p.Got, p.Example = setting.QuoteUnlessSecret(text), example(n)
			}
			x.report(p)
		}
	}
}

// example is an annotation as it is written; of a setting that is none (spec.replicas) the field.
func example(key string) string {
	d, ok := settings.Lookup(key)
	if !ok {
		return "spec: {replicas: 3}"
	}
	return setting.Prefix + key + ": " + d.Info().Example
}
