// Package object knows the objects that a managed StatefulSet needs beside it: what they are called and what is in them.
// It is pure: the controller in package companion applies them, and the command line prints them.
package object

import (
	"cmp"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// The labels of everything that Metamorph makes. Together they tell that an object is a companion, and whose.
const (
	// ManagedByLabel is a recommended label of Kubernetes; its value is [ManagedBy].
	ManagedByLabel = "app.kubernetes.io/managed-by"
	ManagedBy      = "metamorph"
	// NameLabel is the StatefulSet's name, on its pods, its claims and its companions.
	NameLabel = setting.Prefix + "name"
	RoleLabel = setting.Prefix + "role"
)

// Cluster is what a managed StatefulSet says of itself, as far as its companions follow from it.
type Cluster struct {
	Namespace, Name string
	Role            setting.Role

	settings  map[string]setting.Value
	zookeeper settings.ZooKeeperRef
}

// Read reads the annotations of an expanded StatefulSet. It is false for one that is not managed, or was never expanded.
func Read(namespace, name string, annotations map[string]string) (*Cluster, bool) {
	notes := make(map[string]any, len(annotations))
	for k, v := range annotations {
		notes[k] = v
	}
	return Of(map[string]any{"metadata": map[string]any{"namespace": namespace, "name": name, "annotations": notes}})
}

// Of is [Read] for a whole object.
func Of(obj map[string]any) (*Cluster, bool) {
	in := mutate.Inspect(obj)
	if !in.Managed || !in.Expanded || in.Settings == nil {
		return nil, false
	}
	md, _ := obj["metadata"].(map[string]any)
	c := &Cluster{Role: in.Role, settings: in.Settings}
	c.Namespace, _ = md["namespace"].(string)
	c.Name, _ = md["name"].(string)
	// What was recorded can be read, or there is none.
	c.zookeeper, _ = settings.ZooKeeper.Parse(cmp.Or(c.Setting(settings.ZooKeeper.Key), "false"))
	return c, true
}

// Setting is the recorded value of a setting; "" where the role has none.
func (c *Cluster) Setting(key string) string { return c.settings[key].Text }

// onObject is a setting that the user wrote on the StatefulSet, "" if its value came from elsewhere.
func (c *Cluster) onObject(key string) string {
	if v := c.settings[key]; v.Origin.Layer == setting.OnObject {
		return v.Text
	}
	return ""
}

// Selector are the labels of the pods.
func (c *Cluster) Selector() map[string]string {
	return map[string]string{RoleLabel: string(c.Role), NameLabel: c.Name}
}

// meta is the metadata of a companion.
func (c *Cluster) meta(name string) metav1.ObjectMeta {
	labels := c.Selector()
	labels[ManagedByLabel] = ManagedBy
	return metav1.ObjectMeta{Namespace: c.Namespace, Name: name, Labels: labels}
}

// Ours tells by its labels that an object is a companion of the StatefulSet of that name.
func Ours(labels map[string]string, name string) bool {
	return labels[ManagedByLabel] == ManagedBy && labels[NameLabel] == name
}

// OwnEnsemble tells that the cluster has a ZooKeeper ensemble of its own.
func (c *Cluster) OwnEnsemble() bool { return c.zookeeper.Mode == settings.OwnZooKeeper }

// secured tells that clients and nodes authenticate.
func (c *Cluster) secured() bool {
	m := c.Setting(settings.SASLKey)
	return m != "" && m != settings.NoSASL
}

// TLSSecret is the name of the Secret with the certificate, "" for a cluster without TLS.
func (c *Cluster) TLSSecret() string { return c.Setting(settings.TLSSecret.Key) }

// BootstrapServers is what clients in the same Kubernetes cluster connect to. It does not name the cluster's domain, which
// only the pods' own resolvers know.
func (c *Cluster) BootstrapServers() string {
	return strings.Join([]string{c.Name, c.Namespace, "svc"}, ".") + ":9092"
}
