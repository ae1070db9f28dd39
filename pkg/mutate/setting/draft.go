package setting

import (
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
)

// Where the rendered volumes are mounted.
const (
	ConfigDir = "/etc/metamorph/config" // files projected from the pod template's annotations
	SASLDir   = "/etc/metamorph/sasl"   // the SASL Secret's keys
	TLSDir    = "/etc/metamorph/tls"    // the TLS Secret's keys
	StateDir  = "/etc/metamorph/state"  // which ordinals were ever Ready
	RunDir    = "/run/metamorph"        // what the init step makes for the main container, in memory
)

// Names of the volumes that are rendered. Users' volumes may not take them.
const (
	DataVolume   = "data"
	ConfigVolume = "metamorph-config"
	SASLVolume   = "metamorph-sasl"
	TLSVolume    = "metamorph-tls"
	StateVolume  = "metamorph-state"
	RunVolume    = "metamorph-run"
	TmpVolume    = "metamorph-tmp"
	LogsVolume   = "metamorph-logs"
)

// InitContainer is the name of the rendered init container.
const InitContainer = "metamorph-init"

// EnvPrefix is what rendered environment variables start with. Users' variables may not.
const EnvPrefix = "MM_"

// Draft is an object in the making: every setting adds its share, then Finish puts the parts together.
type Draft struct {
	*Resolver

	Set  *appsv1.StatefulSet
	Main *corev1.Container
	Init *corev1.Container
	// Config is server.properties or zoo.cfg.
	Config *Properties
	// ConfigFile is its name, and the annotation's it is kept in.
	ConfigFile string
	// JVM are the main container's options besides heap, in order.
	JVM []string

	files []file
	inits []corev1.Container
}

type file struct{ name, text string }

// Pod is the pod template.
func (d *Draft) Pod() *corev1.PodTemplateSpec { return &d.Set.Spec.Template }

// Annotate writes one of our annotations on the StatefulSet.
func (d *Draft) Annotate(key, value string) {
	if d.Set.Annotations == nil {
		d.Set.Annotations = map[string]string{}
	}
	d.Set.Annotations[Prefix+key] = value
}

// File projects a text into ConfigDir, from an annotation of the pod template: a changed file is a changed template,
// so it rolls, and a rollback restores it.
func (d *Draft) File(name, text string) { d.files = append(d.files, file{name, text}) }

// Volume adds a volume and mounts it in the main and the init container.
func (d *Draft) Volume(v corev1.Volume, path string, readOnly bool) {
	d.Pod().Spec.Volumes = append(d.Pod().Spec.Volumes, v)
	d.Mount(v.Name, path, readOnly)
}

// Mount mounts a volume in the main and the init container.
func (d *Draft) Mount(name, path string, readOnly bool) {
	m := corev1.VolumeMount{Name: name, MountPath: path, ReadOnly: readOnly}
	d.Main.VolumeMounts = append(d.Main.VolumeMounts, m)
	d.Init.VolumeMounts = append(d.Init.VolumeMounts, m)
}

// Env adds a variable to the main and the init container.
func (d *Draft) Env(name, value string) { d.env(corev1.EnvVar{Name: EnvPrefix + name, Value: value}) }

// EnvField adds a variable that has its value from the pod's own fields.
func (d *Draft) EnvField(name, path string) {
	d.env(corev1.EnvVar{Name: EnvPrefix + name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: path}}})
}

func (d *Draft) env(e corev1.EnvVar) {
	d.Main.Env = append(d.Main.Env, e)
	d.Init.Env = append(d.Init.Env, e)
}

// AddInit adds an init container before ours.
func (d *Draft) AddInit(c corev1.Container) { d.inits = append(d.inits, c) }

// Finish puts the parts together.
func (d *Draft) Finish() *appsv1.StatefulSet {
	pod := d.Pod()
	if pod.Annotations == nil {
		pod.Annotations = map[string]string{}
	}
	items := make([]corev1.DownwardAPIVolumeFile, 0, len(d.files)+1)
	for _, f := range append([]file{{d.ConfigFile, d.Config.String()}}, d.files...) {
		pod.Annotations[Prefix+f.name] = f.text
		items = append(items, corev1.DownwardAPIVolumeFile{
			Path:     f.name,
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.annotations['" + Prefix + f.name + "']"},
		})
	}
	pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{
		Name:         ConfigVolume,
		VolumeSource: corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{Items: items}},
	})
	d.Mount(ConfigVolume, ConfigDir, true)
	if len(d.JVM) > 0 {
		d.Main.Env = append(d.Main.Env, corev1.EnvVar{Name: EnvPrefix + "JVM_OPTS", Value: strings.Join(d.JVM, " ")})
	}
	d.Init.Image, d.Init.SecurityContext, d.Init.Resources = d.Main.Image, d.Main.SecurityContext, d.Main.Resources
	pod.Spec.InitContainers = slices.Concat(d.inits, []corev1.Container{*d.Init})
	pod.Spec.Containers = []corev1.Container{*d.Main}
	return d.Set
}

// Render lets every setting that the role has add its share, in order, up to and including one; "" is all.
func (d *Draft) Render(upTo string) {
	for _, s := range d.all {
		info := s.Info()
		if info.For(d.Role) {
			s.render(d)
		}
		if info.Key == upTo {
			return
		}
	}
}

// Properties is a configuration file of key=value lines in a fixed order.
type Properties struct {
	keys   []string
	values map[string]string
}

// Put sets a line; an existing one keeps its place.
func (p *Properties) Put(key, value string) {
	if p.values == nil {
		p.values = make(map[string]string, 64)
	}
	if _, ok := p.values[key]; !ok {
		p.keys = append(p.keys, key)
	}
	p.values[key] = value
}

// Get returns a line's value.
func (p *Properties) Get(key string) (string, bool) { v, ok := p.values[key]; return v, ok }

// Keys lists the keys in order. The caller must not change it.
func (p *Properties) Keys() []string { return p.keys }

// String writes the file.
func (p *Properties) String() string {
	n := 0
	for _, k := range p.keys {
		n += len(k) + len(p.values[k]) + 2
	}
	var b strings.Builder
	b.Grow(n)
	for _, k := range p.keys {
		b.WriteString(k)
		b.WriteByte('=')
		b.WriteString(p.values[k])
		b.WriteByte('\n')
	}
	return b.String()
}
