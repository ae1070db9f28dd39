package mutate

import (
	"fmt"
	"path"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/leaf"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// Longest names: a pod carries NAME-REVISION in the label controller-revision-hash, which has room for 63 characters, 11
// of them for the revision; and NAME-zookeeper is the name of a StatefulSet too.
const (
	maxName         = 52
	maxEnsembleName = maxName - len("-zookeeper")
)

var (
	podPath        = leaf.Join("spec", "template", "spec")
	containersPath = podPath.Child("containers")
	initPath       = podPath.Child("initContainers")
)

func mainPath(role setting.Role) leaf.Path { return containersPath.Child("#" + string(role)) }

// checkSpec refuses what users wrote into the spec that cannot be merged with what is rendered. Incoming are all leaves of
// the object, rendered those that would be put beside them.
func (x *expansion) checkSpec(r *setting.Resolver, source, incoming, rendered *leaf.Set) {
	x.checkName(r)
	bad := func(code setting.Code, field leaf.Path, got, reason, allowed, example string) {
		x.report(setting.Problem{Code: code, Field: field.String(), Got: got, Reason: reason, Allowed: allowed, Example: example})
	}
	if v, ok := source.Get(leaf.Join("spec", "ordinals", "start")); ok {
		bad(setting.BadSpec, leaf.Join("spec", "ordinals", "start"), setting.Quote(fmt.Sprint(v)), "node ids follow from the ordinals, which must start at 0", "0, or leave it out", "0")
	}
	headless := settings.Headless(x.name)
	if v, ok := source.Get(leaf.Join("spec", "serviceName")); ok && v != headless {
		bad(setting.BadSpec, leaf.Join("spec", "serviceName"), setting.Quote(fmt.Sprint(v)), "the nodes find each other under the name of the headless Service", headless+", or leave it out", headless)
	}
	main := mainPath(x.role)
	if has(source, main) && !incoming.Has(main.Child("image")) {
		image, _ := rendered.Get(main.Child("image"))
		bad(setting.BadSpec, main.Child("image"), "", "is missing: a container that you write yourself names its image", "an image reference", fmt.Sprint(image))
	}
	volumes := podPath.Child("volumes")
	for _, list := range []leaf.Path{containersPath, initPath, volumes, leaf.Join("spec", "volumeClaimTemplates")} {
		// Such a list is one leaf, to which nothing can be added by name.
		if incoming.Has(list) {
			bad(setting.Malformed, list, "", "has an entry without a name, or two of one name", "a name of its own for every entry", "name: scratch")
		}
	}
	mounts := []leaf.Path{main.Child("volumeMounts"), initPath.Child("#" + setting.InitContainer).Child("volumeMounts")}
	envs := []leaf.Path{main.Child("env"), initPath.Child("#" + setting.InitContainer).Child("env")}
	for _, p := range source.Paths() {
		v, _ := source.Get(p)
		segments := p.Segments()
		last := segments[len(segments)-1]
		switch parent := leaf.Join(segments[:len(segments)-1]...); {
		case parent == volumes && rendered.Has(p), parent == volumes && last == "#"+setting.DataVolume:
			bad(setting.BadSpec, p, "", "collides with a volume that is rendered", "any other name", "scratch")
		case slices.Contains(mounts, parent):
			x.checkMount(p, v, parent, rendered)
		case slices.Contains(envs, parent) && strings.HasPrefix(last, "#"+setting.EnvPrefix):
			bad(setting.Reserved, p, "", "variables that start with "+setting.EnvPrefix+" carry the node's identity and are rendered", "any other name", "APP_MODE")
		case p.Under(templateNotes) && strings.HasPrefix(string(p), string(templateNotes)+"\x00"+setting.Prefix):
			bad(setting.Reserved, p, "", "is written by Metamorph, never by users", "the annotations of the StatefulSet itself", setting.Annotation("config"))
		case strings.HasPrefix(last, setting.Prefix) && slices.Contains(segments, "labels"):
			if want, ok := rendered.Get(p); !ok || !leaf.Equal(want, v) {
				bad(setting.Reserved, p, setting.Quote(fmt.Sprint(v)), "labels under "+setting.Prefix+" are written by Metamorph", "leave it out", "app.kubernetes.io/part-of: shop")
			}
		}
	}
	md, _ := x.obj["metadata"].(map[string]any)
	labels, _ := md["labels"].(map[string]any)
	for k, v := range labels {
		p := labelsPath.Child(k)
		if want, ok := rendered.Get(p); ourLabel(p) && (!ok || want != v) {
			code, allowed := setting.Reserved, "leave it out"
			if k == setting.Prefix+"role" {
				code, allowed = setting.RoleAsLabel, "the annotation of that name"
			}
			bad(code, p, setting.Quote(fmt.Sprint(v)), "labels under "+setting.Prefix+" are written by Metamorph", allowed, setting.Annotation("role")+": "+string(x.role))
		}
	}
}

// has tells whether there is any leaf at or below p.
func has(s *leaf.Set, p leaf.Path) bool {
	return slices.ContainsFunc(s.Paths(), func(q leaf.Path) bool { return q.Under(p) })
}

func (x *expansion) checkName(r *setting.Resolver) {
	most, why := maxName, "the pods' labels"
	if x.role == setting.Kafka && settings.ZooKeeper.Get(r).Mode == settings.OwnZooKeeper {
		most, why = maxEnsembleName, "the ensemble "+setting.Quote(x.name+"-zookeeper")+" and its pods' labels"
	}
	p := setting.Problem{Code: setting.BadName, Field: "metadata.name", Got: setting.Quote(x.name), Allowed: fmt.Sprintf("at most %d characters a-z, 0-9 and -, a letter first", most), Example: "events"}
	switch {
	case len(x.name) > most:
		p.Reason = fmt.Sprintf("has %d characters; %s leave room for %d", len(x.name), why, most)
		x.report(p)
	case len(validation.IsDNS1035Label(x.name)) > 0:
		p.Reason = "cannot be part of the Service's name " + settings.Headless(x.name)
		x.report(p)
	}
}

// checkMount refuses a mount that hides a rendered one.
func (x *expansion) checkMount(p leaf.Path, v any, parent leaf.Path, rendered *leaf.Set) {
	m, _ := v.(map[string]any)
	at, _ := m["mountPath"].(string)
	at = path.Clean(at)
	for _, q := range rendered.Paths() {
		if !q.Under(parent) {
			continue
		}
		r, _ := rendered.Get(q)
		ours, _ := r.(map[string]any)
		there, _ := ours["mountPath"].(string)
		if at == there && m["name"] == ours["name"] {
			return
		}
		if at == there || at == "/" || strings.HasPrefix(there, at+"/") {
			x.report(setting.Problem{
				Code: setting.BadSpec, Field: p.String(), Got: setting.Quote(at), Reason: fmt.Sprintf("collides with %s, where the volume %v is mounted", there, ours["name"]),
				Allowed: "a path that is neither that one nor above it", Example: "/scratch",
			})
			return
		}
	}
}

// fit makes rendered leaves give way where validation, or the kubelet, forbids them beside what is already there.
func fit(rendered, incoming *leaf.Set, role setting.Role) {
	for _, c := range []leaf.Path{mainPath(role), initPath.Child("#" + setting.InitContainer), initPath.Child("#metamorph-metrics")} {
		for _, name := range []string{"cpu", "memory"} {
			request, limit := c.Child("resources").Child("requests").Child(name), c.Child("resources").Child("limits").Child(name)
			if more(rendered, request, incoming, limit) {
				v, _ := incoming.Get(limit)
				rendered.Put(request, v)
			}
			if more(incoming, request, rendered, limit) {
				v, _ := incoming.Get(request)
				rendered.Put(limit, v)
			}
		}
		security := c.Child("securityContext")
		privileged, _ := incoming.Get(security.Child("privileged"))
		if privileged == true || addsSysAdmin(incoming, security.Child("capabilities")) {
			rendered.Drop(security.Child("allowPrivilegeEscalation"))
		}
		if uid, ok := incoming.Get(security.Child("runAsUser")); ok && uid == int64(0) {
			rendered.Drop(podPath.Child("securityContext").Child("runAsNonRoot"))
		}
		dropNamesakes(rendered, incoming, c.Child("ports"))
	}
	pod := podPath.Child("securityContext")
	if uid, ok := incoming.Get(pod.Child("runAsUser")); ok && uid == int64(0) {
		rendered.Drop(pod.Child("runAsNonRoot"))
	}
}

// dropNamesakes drops rendered ports that have the name of another port of the container.
func dropNamesakes(rendered, incoming *leaf.Set, ports leaf.Path) {
	names := map[any]bool{}
	for _, p := range incoming.Paths() {
		if p.Under(ports) && p != ports {
			v, _ := incoming.Get(p)
			m, _ := v.(map[string]any)
			names[m["name"]] = true
		}
	}
	if len(names) == 0 {
		return
	}
	for _, p := range slices.Clone(rendered.Paths()) {
		if p.Under(ports) && !incoming.Has(p) {
			v, _ := rendered.Get(p)
			if m, _ := v.(map[string]any); names[m["name"]] {
				rendered.Drop(p)
			}
		}
	}
}

// more tells whether the quantity a's p is greater than b's q; false where one is missing.
func more(a *leaf.Set, p leaf.Path, b *leaf.Set, q leaf.Path) bool {
	x, okX := quantity(a, p)
	y, okY := quantity(b, q)
	return okX && okY && x.Cmp(y) > 0
}

func quantity(s *leaf.Set, p leaf.Path) (resource.Quantity, bool) {
	v, ok := s.Get(p)
	if !ok {
		return resource.Quantity{}, false
	}
	q, err := resource.ParseQuantity(fmt.Sprint(v))
	return q, err == nil
}

func addsSysAdmin(s *leaf.Set, p leaf.Path) bool {
	v, _ := s.Get(p)
	m, _ := v.(map[string]any)
	add, _ := m["add"].([]any)
	return slices.Contains(add, any("SYS_ADMIN")) || slices.Contains(add, any("CAP_SYS_ADMIN"))
}
