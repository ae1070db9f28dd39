package mutate

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// memory is what an expanded object records about itself.
type memory struct {
	source   *leaf.Set
	settings map[string]setting.Value
}

// recall reads what an expanded object records; it reports what cannot be read.
func (x *expansion) recall(obj map[string]any) (memory, bool) {
	m := memory{settings: map[string]setting.Value{}}
	bad := func(key string, err error) (memory, bool) {
		x.report(setting.Problem{
			Code: setting.Reserved, Field: setting.Annotation(key), Reason: "is written by Metamorph and cannot be read: " + err.Error(),
			Allowed: "what Metamorph wrote, from a backup; or metamorph.dev/managed: \"false\" to let go of the object", Example: "metamorph.dev/managed: \"false\"",
		})
		return m, false
	}
	tree, err := leaf.Decode([]byte(annotation(obj, "source")))
	if err != nil {
		return bad("source", err)
	}
	m.source = leaf.Of(tree, foreign)
	if err := json.Unmarshal([]byte(annotation(obj, "settings")), &m.settings); err != nil {
		return bad("settings", err)
	}
	if m.settings["role"].Text == "" {
		return bad("settings", errors.New("the role is missing"))
	}
	return m, true
}

// again handles a creation whose object was expanded before: a second call of the webhook in one request, a restore, a
// manifest from `metamorph expand`. Only our own annotations are an edit, all else passes through, from whatever version.
func (x *expansion) again() *Output {
	mem, ok := x.recall(x.obj)
	if !ok {
		return nil
	}
	if name := label(x.obj, "name"); name != x.name {
		x.report(setting.Problem{
			Code: setting.OtherName, Field: "metadata.name", Got: setting.Quote(x.name),
			Reason:  "this is the expansion of " + setting.Quote(name) + ", whose names stand in every part of it",
			Allowed: "its source under the new name: " + x.sourceManifest(mem.source), Example: "metadata: {name: " + name + "}",
		})
		return nil
	}
	x.checkKeys(true)
	main := mainPath(x.role)
	current := leaves(x.obj)
	skeleton := []leaf.Path{
		main.Child("image"), main.Child("command"), initPath.Child("#" + setting.InitContainer).Child("image"),
		podPath.Child("volumes").Child("#" + setting.ConfigVolume), templateSettingsPath,
		leaf.Join("spec", "selector", "matchLabels", setting.Prefix+"name"), leaf.Join("spec", "volumeClaimTemplates", "#"+setting.DataVolume, "metadata", "name"),
	}
	if i := slices.IndexFunc(skeleton, func(p leaf.Path) bool { return !current.Has(p) }); i >= 0 {
		x.report(setting.Problem{
			Code: setting.Reserved, Field: setting.Annotation("source"), Reason: "says that the object is expanded, and it has no " + skeleton[i].String(),
			Allowed: "nothing; remove the annotations that Metamorph writes", Example: setting.Prefix + "role: " + string(x.role),
		})
		return nil
	}
	source := leaf.NewSet()
	for _, p := range current.Paths() {
		if p.Under(annotationsPath) {
			v, _ := current.Get(p)
			source.Put(p, v)
		}
	}
	for _, p := range mem.source.Paths() {
		if !p.Under(annotationsPath) {
			v, _ := mem.source.Get(p)
			source.Put(p, v)
		}
	}
	return x.change(x.obj, mem, source, current, nil, nil)
}

// update handles a change of a stored object.
func (x *expansion) update() *Output {
	if annotation(x.old, "source") == "" {
		x.report(setting.Problem{
			Code: setting.RoleAdded, Field: setting.Annotation("role"), Got: setting.Quote(string(x.role)),
			Reason: "was added to a StatefulSet that Metamorph does not manage, whose selector and volumes are fixed",
			Allowed: "a new StatefulSet under another name with the role; move the data over (a new broker takes partitions over, or MirrorMaker copies the topics), " +
				"then delete this one. metamorph expand shows what the new one will be",
			Example: "metadata: {name: " + x.name + "-2}",
		})
		return nil
	}
	mem, ok := x.recall(x.old)
	if !ok {
		return nil
	}
	x.checkKeys(true)
	live, incoming := leaves(x.old), leaves(x.obj)
	owners, before := x.owners(x.obj), x.owners(x.old)
	source, edited := mem.source.Clone(), map[leaf.Path]bool{}
	for _, p := range incoming.Paths() {
		if ourLabel(p) {
			continue
		}
		v, _ := incoming.Get(p)
		old, had := live.Get(p)
		changed := !had || !leaf.Equal(old, v)
		owned := owners == nil || p.Under(annotationsPath) || owners.Own(p)
		switch {
		case owned && changed:
			source.Put(p, v)
			edited[p] = true
		case owned && owners != nil && before != nil && !before.Own(p) && !p.Under(annotationsPath):
			source.Put(p, v) // taken over as it was
		case changed:
			source.Drop(p) // another webhook's
		}
	}
	var gone []leaf.Path
	for _, p := range live.Paths() {
		if !incoming.Has(p) {
			source.Drop(p)
			gone = append(gone, p)
		}
	}
	if now := templateSettings(x.obj); now != "" && now != templateSettings(x.old) {
		return x.rollback(mem, now, incoming, edited)
	}
	for _, p := range incoming.Paths() {
		if file, ok := renderedFile(p); ok && edited[p] {
			x.report(setting.Problem{
				Code: setting.HandEdited, Field: p.String(), Reason: "the file " + file + " is rendered, and an edit of it would be lost with the next change",
				Allowed: "the line in metamorph.dev/config", Example: "message.max.bytes=2097152",
			})
		}
	}
	return x.change(x.old, mem, source, incoming, edited, gone)
}

// rollback accepts a template that came back as a whole, with the settings that it was rendered from: these become the
// settings again, annotations included.
func (x *expansion) rollback(mem memory, recorded string, incoming *leaf.Set, edited map[leaf.Path]bool) *Output {
	was := map[string]setting.Value{}
	err := json.Unmarshal([]byte(recorded), &was)
	for p := range edited {
		if p.Under(annotationsPath) && err == nil {
			err = errors.New("annotations of Metamorph's change in the same request")
		}
	}
	if err != nil {
		x.report(setting.Problem{
			Code: setting.HandEdited, Field: templateSettingsPath.String(), Reason: "changes, and this is no rollback: " + err.Error(),
			Allowed: "the annotations of the StatefulSet; kubectl rollout undo brings a whole template back", Example: setting.Annotation("heap"),
		})
		return nil
	}
	obj, _ := leaf.Copy(x.obj).(map[string]any)
	x.keepWritten(obj)
	// What users wrote into the template is what came back of it.
	source := leaf.NewSet()
	for _, p := range mem.source.Paths() {
		v, _ := mem.source.Get(p)
		if p.Under(templatePath) {
			var ok bool
			if v, ok = incoming.Get(p); !ok {
				continue
			}
		}
		source.Put(p, v)
	}
	values := maps.Clone(mem.settings)
	for _, key := range slices.Sorted(maps.Keys(was)) {
		d, ok := settings.Lookup(key)
		if v := was[key]; ok && !d.Info().Outside && (v.Text != values[key].Text || v.Origin != values[key].Origin) {
			values[key] = v
			p := annotationsPath.Child(setting.Prefix + key)
			if v.Origin.Layer == setting.OnObject && !d.Info().Internal {
				leaf.Put(obj, p, v.Text)
				source.Put(p, v.Text)
			} else if source.Has(p) {
				leaf.Remove(obj, p)
				source.Drop(p)
			}
			x.warn(setting.Derived, "", key+" went back to "+setting.Quote(v.Text)+" with the template")
		}
	}
	x.store(obj, mem, source, values)
	return &Output{Object: obj, Settings: values, Source: leaf.Build(source)}
}

func templateSettings(obj map[string]any) string {
	spec, _ := obj["spec"].(map[string]any)
	t, _ := spec["template"].(map[string]any)
	md, _ := t["metadata"].(map[string]any)
	a, _ := md["annotations"].(map[string]any)
	s, _ := a[setting.Prefix+"settings"].(string)
	return s
}

func label(obj map[string]any, key string) string {
	md, _ := obj["metadata"].(map[string]any)
	l, _ := md["labels"].(map[string]any)
	s, _ := l[setting.Prefix+key].(string)
	return s
}

// renderedFile tells whether a leaf belongs to a file that is rendered into the template.
func renderedFile(p leaf.Path) (string, bool) {
	rest, ok := strings.CutPrefix(string(p), string(templateNotes)+"\x00"+setting.Prefix)
	if !ok {
		return "", false
	}
	file, _, _ := strings.Cut(rest, "\x00")
	return file, true
}

// change applies the difference between two sources to an object. Live is the stored object; incoming are the leaves of
// the one that was sent; edited are those that users changed in it, gone those that it lacks.
func (x *expansion) change(live map[string]any, mem memory, source, incoming *leaf.Set, edited map[leaf.Path]bool, gone []leaf.Path) *Output {
	obj, _ := leaf.Copy(x.obj).(map[string]any)
	redo := x.redo(mem, source)
	out := &Output{Object: obj, Settings: mem.settings, Source: leaf.Build(source)}
	nodes := replicas(x.obj)
	if len(gone) > 0 && nodes == 1 && !has(incoming, containersPath) {
		// A replace with a minimal manifest that leaves the number to the cluster, or to an autoscaler.
		nodes = replicas(live)
		leaf.Put(obj, replicasPath, int64(nodes))
	}
	if redo == nil && len(gone) == 0 && !x.touched(edited) {
		x.keepWritten(obj)
		x.store(obj, mem, source, mem.settings)
		return out
	}
	quiet := &expansion{in: x.in, name: x.name, role: x.role}
	before := quiet.resolve(mem.source, mem.settings, nil, replicas(live))
	after := before
	if redo != nil {
		after = x.resolve(source, mem.settings, func(key string, _ setting.Value) bool { return redo[key] }, nodes)
		x.ratchet(quiet.problems)
		x.checkFixed(before, after)
		out.Settings = after.Values()
	}
	was, now := render(before), render(after)
	x.checkSpecAgain(after, source, incoming, now, mem)
	if len(x.problems) > 0 {
		return nil
	}
	besideNow, besideWas := beside(incoming, now, source), beside(leaves(live), was, mem.source)
	overlay(was, mem.source)
	overlay(now, source)
	fit(was, besideWas, x.role)
	fit(now, besideNow, x.role)
	liveLeaves := leaf.Of(live, foreign)
	for _, p := range gone {
		if (was.Has(p) && !mem.source.Has(p)) || p == templateSettingsPath {
			v, _ := liveLeaves.Get(p)
			leaf.Put(obj, p, leaf.Copy(v))
		}
	}
	leaf.PutAll(obj, now, func(p leaf.Path) bool {
		v, _ := now.Get(p)
		old, ok := was.Get(p)
		return (!ok || !leaf.Equal(old, v)) && !edited[p] && !immutable(p)
	})
	for _, p := range was.Paths() {
		if !now.Has(p) && !edited[p] && !immutable(p) {
			leaf.Remove(obj, p)
		}
	}
	if len(gone) > 0 {
		// Entries that were left out of a replacing manifest came back at the end, and another order restarts the pods.
		leaf.Reorder(obj["spec"], live["spec"], "spec")
	}
	x.keepWritten(obj)
	x.keepImmutable(obj, live)
	x.store(obj, mem, source, out.Settings)
	if differ(leaves(obj), leaves(live), templatePath) && settingsText(out.Settings, nil) != settingsText(mem.settings, nil) {
		recordInTemplate(obj, out.Settings)
	}
	return out
}

// touched tells whether anything was edited that stands beside rendered fields, or a label of ours changed.
func (x *expansion) touched(edited map[leaf.Path]bool) bool {
	for p := range edited {
		if p != replicasPath && !p.Under(annotationsPath) && !p.Under(labelsPath) {
			return true
		}
	}
	for _, key := range []string{"role", "name"} {
		if x.old != nil && label(x.obj, key) != label(x.old, key) {
			return true
		}
	}
	return false
}

// ratchet turns problems that were there before the change into warnings.
func (x *expansion) ratchet(before []setting.Problem) {
	fresh := x.problems[:0:0]
	for _, p := range x.problems {
		// What cannot be read cannot be lived with.
		if p.Code != setting.Reserved && slices.Contains(before, p) {
			x.warn(p.Code, p.Field, p.Reason)
			continue
		}
		fresh = append(fresh, p)
	}
	x.problems = fresh
}

// checkSpecAgain checks the spec of an update: what the stored source already had is a warning.
func (x *expansion) checkSpecAgain(r *setting.Resolver, source, incoming, rendered *leaf.Set, mem memory) {
	if x.old == nil {
		return
	}
	old := &expansion{in: x.in, obj: x.old, name: x.name, role: x.role}
	old.checkSpec(r, mem.source, leaves(x.old), rendered)
	x.checkSpec(r, source, incoming, rendered)
	x.ratchet(old.problems)
}

// redo tells which settings are to be resolved anew: those that users edited or removed, and all that was derived from
// them. Nil: none.
func (x *expansion) redo(mem memory, source *leaf.Set) map[string]bool {
	redo := map[string]bool{}
	for _, d := range settings.All {
		info := d.Info()
		p := annotationsPath.Child(setting.Prefix + info.Key)
		old, had := mem.source.Get(p)
		v, has := source.Get(p)
		if had == has && leaf.Equal(old, v) {
			continue
		}
		redo[info.Key] = true
		switch info.Key {
		case "config":
			for _, key := range settings.Decided(asText(old), asText(v)) {
				redo[key] = true
			}
		case "refresh", "profile":
			for key, value := range mem.settings {
				o, ok := settings.Lookup(key)
				if ok && !o.Info().Internal && o.Info().Fixed == "" && (info.Key == "refresh" || value.Origin.Layer != setting.OnObject) {
					redo[key] = true
				}
			}
		}
	}
	for key, p := range specSettings(mainPath(x.role)) {
		old, had := mem.source.Get(p)
		if v, has := source.Get(p); had != has || !leaf.Equal(old, v) {
			redo[key] = true
		}
	}
	if len(redo) == 0 {
		return nil
	}
	for more := true; more; {
		more = false
		for key, v := range mem.settings {
			d, ok := settings.Lookup(key)
			if ok && !redo[key] && !d.Info().Internal && slices.ContainsFunc(v.Of, func(k string) bool { return redo[k] }) {
				redo[key], more = true, true
			}
		}
	}
	redo["replicas"] = true
	return redo
}

// checkFixed refuses changes of what is fixed at creation.
func (x *expansion) checkFixed(before, after *setting.Resolver) {
	for _, d := range settings.All {
		info := d.Info()
		was, now := before.Text(info.Key), after.Text(info.Key)
		if d.Fixes(was, now) {
			x.report(setting.Problem{
				Code: setting.Immutable, Field: after.FieldOf(info.Key), Got: setting.Quote(now),
				Reason: "was " + setting.Quote(was) + " when the StatefulSet was created, and cannot change", Allowed: info.Fixed, Example: was,
			})
		}
	}
	was, err1 := resource.ParseQuantity(before.Text("storage"))
	now, err2 := resource.ParseQuantity(after.Text("storage"))
	if err1 != nil || err2 != nil {
		return
	}
	switch now.Cmp(was) {
	case -1:
		x.report(setting.Problem{
			Code: setting.Immutable, Field: after.FieldOf("storage"), Got: setting.Quote(now.String()),
			Reason: "is less than the " + was.String() + " that the volumes have, and volumes cannot shrink", Allowed: was.String() + " or more; or a new StatefulSet with smaller volumes", Example: was.String(),
		})
	case 1:
		x.warn(setting.Derived, setting.Annotation("storage"), "the claim template keeps "+was.String()+" (Kubernetes has no way to change it); the claims themselves are to be grown to "+now.String())
	}
}

// keepWritten puts the annotations that Metamorph writes back to what is stored.
func (x *expansion) keepWritten(obj map[string]any) {
	if x.old == nil {
		return
	}
	for _, key := range settings.Written {
		if slices.Contains(settings.Reported, key) {
			continue // the controller's to change, and no harm if others do: it is written again
		}
		p := annotationsPath.Child(setting.Prefix + key)
		if v := annotation(x.old, key); v != "" && annotation(obj, key) != v {
			leaf.Put(obj, p, v)
		}
	}
}

// store writes source and settings where they changed.
func (x *expansion) store(obj map[string]any, mem memory, source *leaf.Set, values map[string]setting.Value) {
	if s := text(leaf.Build(source)); s != text(leaf.Build(mem.source)) {
		leaf.Put(obj, annotationsPath.Child(setting.Prefix+"source"), s)
	}
	if s := settingsText(values, nil); s != settingsText(mem.settings, nil) {
		leaf.Put(obj, annotationsPath.Child(setting.Prefix+"settings"), s)
		leaf.Put(obj, annotationsPath.Child(setting.Prefix+"rendered-by"), x.in.Version)
	}
}

// beside picks the leaves that are not rendered: users' and other webhooks'.
func beside(incoming, rendered, source *leaf.Set) *leaf.Set {
	out := leaf.NewSet()
	for _, p := range incoming.Paths() {
		if source.Has(p) || !rendered.Has(p) {
			v, _ := incoming.Get(p)
			out.Put(p, v)
		}
	}
	return out
}

// overlay lays what users wrote over what is rendered.
func overlay(rendered, source *leaf.Set) {
	for _, p := range source.Paths() {
		if !p.Under(annotationsPath) && p != replicasPath {
			v, _ := source.Get(p)
			rendered.Put(p, v)
		}
	}
}

// immutables are the fields of the spec that the API server never lets change.
var immutables = []string{"selector", "serviceName", "podManagementPolicy", "volumeClaimTemplates"}

func immutable(p leaf.Path) bool {
	return slices.ContainsFunc(immutables, func(f string) bool { return p.Under(leaf.Join("spec", f)) })
}

// keepImmutable takes the immutable fields from the live object. Whoever asks for others is refused here, where it can be said
// what to do instead: the API server validates before policies are asked, and prints the whole field.
func (x *expansion) keepImmutable(obj, live map[string]any) {
	now, was := leaves(obj), leaves(live)
	spec, _ := obj["spec"].(map[string]any)
	old, _ := live["spec"].(map[string]any)
	for _, f := range immutables {
		p := leaf.Join("spec", f)
		v, ok := old[f]
		if has(now, p) && differ(now, was, p) {
			x.report(setting.Problem{
				Code: setting.Immutable, Field: p.String(), Reason: "is not what it was when the StatefulSet was created, and cannot change",
				Allowed: instead[f], Example: setting.Prefix + "storage: 100Gi",
			})
		} else if ok {
			spec[f] = leaf.Copy(v)
		}
	}
}

// instead says how to get what a change of an immutable field was meant to bring.
var instead = map[string]string{
	"selector":             "what is stored; labels of the pods' own go into spec.template.metadata.labels",
	"serviceName":          "what is stored",
	"podManagementPolicy":  "what is stored; or a new StatefulSet beside this one, and its partitions moved over",
	"volumeClaimTemplates": setting.Prefix + "storage with a larger size; or a new StatefulSet beside this one, and its partitions moved over",
}

// differ tells whether two sets differ below a path, the recorded settings aside.
func differ(a, b *leaf.Set, under leaf.Path) bool {
	return subset(a, b, under) || subset(b, a, under)
}

// subset tells whether a has a leaf that b lacks or has with another value.
func subset(a, b *leaf.Set, under leaf.Path) bool {
	for _, p := range a.Paths() {
		if p.Under(under) && p != templateSettingsPath {
			v, _ := a.Get(p)
			if w, ok := b.Get(p); !ok || !leaf.Equal(v, w) {
				return true
			}
		}
	}
	return false
}

func (x *expansion) sourceManifest(source *leaf.Set) string {
	tree := leaf.Build(source)
	tree["apiVersion"], tree["kind"] = "apps/v1", "StatefulSet"
	md, _ := tree["metadata"].(map[string]any)
	if md == nil {
		md = map[string]any{}
		tree["metadata"] = md
	}
	md["name"] = x.name
	return text(tree)
}

func asText(v any) string { s, _ := v.(string); return s }
