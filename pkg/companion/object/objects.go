package object

import (
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// PodMonitorKind is of the Prometheus operator's API, which not every cluster has.
var PodMonitorKind = schema.GroupVersionKind{Group: "monitoring.coreos.com", Version: "v1", Kind: "PodMonitor"}

// Companions are the objects that are applied and belong to the StatefulSet, in the order in which its pods need them.
// Secrets and the state are made in other ways.
func (c *Cluster) Companions() []*unstructured.Unstructured {
	out := []*unstructured.Unstructured{apply(c.headless()), apply(c.bootstrap()), apply(c.Budget())}
	if c.OwnEnsemble() {
		out = append(out, apply(c.ensemble()))
	}
	if c.Monitored() {
		out = append(out, c.podMonitor())
	}
	return out
}

// HeadlessName is the Service that gives the pods their names.
func (c *Cluster) HeadlessName() string { return settings.Headless(c.Name) }

// headless gives every pod its name in DNS, before it is ready: a quorum can only form among nodes that find each other.
func (c *Cluster) headless() *corev1.Service {
	s := c.service(c.HeadlessName())
	s.Spec.ClusterIP = corev1.ClusterIPNone
	s.Spec.PublishNotReadyAddresses = true
	if c.Role == setting.ZooKeeper {
		s.Spec.Ports = ports("client", 2181, "peer", 2888, "election", 3888)
		return s
	}
	s.Spec.Ports = ports("client", 9092, "internal", 9094)
	if c.Setting(settings.ClusterID.Key) != "" {
		s.Spec.Ports = append(s.Spec.Ports, ports("controller", 9093)...)
	}
	return s
}

// bootstrap is where clients find the first node.
func (c *Cluster) bootstrap() *corev1.Service {
	s := c.service(c.Name)
	s.Spec.Type = corev1.ServiceTypeClusterIP
	if c.Role == setting.ZooKeeper {
		s.Spec.Ports = ports("client", 2181)
	} else {
		s.Spec.Ports = ports("client", 9092)
	}
	return s
}

func (c *Cluster) service(name string) *corev1.Service {
	return &corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: c.meta(name),
		Spec:       corev1.ServiceSpec{Selector: c.Selector()},
	}
}

// ports are pairs of a name and a number.
func ports(pairs ...any) []corev1.ServicePort {
	var out []corev1.ServicePort
	for i := 0; i < len(pairs); i += 2 {
		name, _ := pairs[i].(string)
		number, _ := pairs[i+1].(int)
		out = append(out, corev1.ServicePort{
			Name: name, Port: int32(number), Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt(number), //nolint:gosec // A port of ours.
		})
	}
	return out
}

// Budget keeps a node drain from taking more than one pod at a time. A pod that is not ready may always be evicted, or one
// that cannot start would keep a node from ever being drained (KEP-3017).
func (c *Cluster) Budget() *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		TypeMeta:   metav1.TypeMeta{APIVersion: "policy/v1", Kind: "PodDisruptionBudget"},
		ObjectMeta: c.meta(c.Name),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MaxUnavailable:             ptr.To(intstr.FromInt32(1)),
			Selector:                   &metav1.LabelSelector{MatchLabels: c.Selector()},
			UnhealthyPodEvictionPolicy: ptr.To(policyv1.AlwaysAllow),
		},
	}
}

// EnsembleName is the StatefulSet that zookeeper: "true" asks for.
func (c *Cluster) EnsembleName() string { return settings.Ensemble(c.Name) }

// ensemble is almost empty, and expanded by the webhook like any other. It shares the passwords and the certificate.
func (c *Cluster) ensemble() *appsv1.StatefulSet {
	m := metav1.ObjectMeta{
		Namespace: c.Namespace, Name: c.EnsembleName(),
		Labels:      map[string]string{ManagedByLabel: ManagedBy},
		Annotations: map[string]string{},
	}
	put := func(key, value string) {
		if value != "" {
			m.Annotations[setting.Prefix+key] = value
		}
	}
	put(settings.RoleKey, string(setting.ZooKeeper))
	put(settings.Storage.Key, c.Setting(settings.ZooKeeperStorage.Key))
	if c.secured() {
		put(settings.SASLSecret.Key, c.Setting(settings.SASLSecret.Key))
	} else {
		put(settings.SASLKey, settings.NoSASL)
	}
	put(settings.TLSSecret.Key, c.TLSSecret())
	for _, key := range []string{settings.StorageClass.Key, settings.Profile.Key, settings.Metrics.Key} {
		put(key, c.onObject(key))
	}
	set := &appsv1.StatefulSet{TypeMeta: metav1.TypeMeta{APIVersion: "apps/v1", Kind: "StatefulSet"}, ObjectMeta: m}
	if n, err := strconv.ParseInt(c.Setting(settings.ZooKeeperReplicas.Key), 10, 32); err == nil {
		set.Spec.Replicas = ptr.To(int32(n))
	}
	return set
}

// Monitored tells that Prometheus shall find the nodes.
func (c *Cluster) Monitored() bool { return c.Setting(settings.Metrics.Key) == "true" }

// podMonitor tells the Prometheus operator of the nodes.
func (c *Cluster) podMonitor() *unstructured.Unstructured {
	u := &unstructured.Unstructured{Object: map[string]any{"spec": map[string]any{
		"selector":            map[string]any{"matchLabels": texts(c.Selector())},
		"podMetricsEndpoints": []any{map[string]any{"port": "metrics"}},
	}}}
	u.SetGroupVersionKind(PodMonitorKind)
	m := c.meta(c.Name)
	u.SetNamespace(m.Namespace)
	u.SetName(m.Name)
	u.SetLabels(m.Labels)
	return u
}

func texts(m map[string]string) map[string]any {
	out := make(map[string]any, len(m))
	for k, v := range m {
		out[k] = v
	}
	return out
}

// apply is an object as it is applied: without what only a server fills in, which the Go types write as empty.
func apply(o runtime.Object) *unstructured.Unstructured {
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		panic(err) // our own types, without a value that JSON does not have
	}
	delete(tree, "status")
	prune(tree)
	return &unstructured.Unstructured{Object: tree}
}

// prune drops nulls, empty texts, and structures that are empty or become so.
func prune(tree map[string]any) {
	for k, v := range tree {
		switch x := v.(type) {
		case nil:
			delete(tree, k)
		case string:
			if x == "" {
				delete(tree, k)
			}
		case map[string]any:
			if prune(x); len(x) == 0 {
				delete(tree, k)
			}
		}
	}
}
