// Package kubelet runs the pods of a StatefulSet as processes in namespaces of Linux, without Kubernetes: it lays their
// volumes out, runs the init containers in their order and then the containers, as far as that is what a pod notices.
// Programs and libraries are the machine's; of an image there is what Images says.
package kubelet

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	appsv1 "k8s.io/api/apps/v1"
)

// Image is what a container has of its image besides the machine's programs and libraries.
type Image struct {
	// Mounts are directories of the machine by where they are in the container.
	Mounts  map[string]string
	Env     []string
	WorkDir string
}

// Namespace is a Kubernetes namespace on one machine: objects that pods refer to, their volumes, and a network on which
// they find each other.
type Namespace struct {
	Name string
	// Images knows an image by its reference.
	Images func(reference string) (Image, error)
	// User is -1 for pods to run as the user that their spec says, or the id of the only user there is.
	User int

	dir   string
	net   *Network
	names atomic.Int64

	mu         sync.Mutex
	secrets    map[string]map[string][]byte
	configMaps map[string]map[string]string
	endpoints  map[string]endpoint
	hosts      map[string][]netip.Addr
}

// NewNamespace makes a namespace with its network, the number n of this sandbox, and its files in dir.
func NewNamespace(name, dir string, n int) (*Namespace, error) {
	network, err := NewNetwork(n)
	if err != nil {
		return nil, err
	}
	return &Namespace{
		Name: name, User: -1, dir: dir, net: network,
		secrets: map[string]map[string][]byte{}, configMaps: map[string]map[string]string{},
		endpoints: map[string]endpoint{}, hosts: map[string][]netip.Addr{},
	}, nil
}

// Close removes network and volumes. The pods must have ended.
func (n *Namespace) Close() error {
	for _, e := range n.endpoints {
		e.ns.Close()
	}
	if err := n.net.Close(); err != nil {
		return err
	}
	return os.RemoveAll(n.dir)
}

// SetSecret creates or replaces a Secret; nil deletes it. Pods see it when they start.
func (n *Namespace) SetSecret(name string, data map[string][]byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if data == nil {
		delete(n.secrets, name)
		return
	}
	n.secrets[name] = maps.Clone(data)
}

// Secret returns a copy of a Secret; nil if there is none.
func (n *Namespace) Secret(name string) map[string][]byte {
	n.mu.Lock()
	defer n.mu.Unlock()
	return maps.Clone(n.secrets[name])
}

// SetConfigMap creates or replaces a ConfigMap; nil deletes it.
func (n *Namespace) SetConfigMap(name string, data map[string]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if data == nil {
		delete(n.configMaps, name)
		return
	}
	n.configMaps[name] = maps.Clone(data)
}

// Pods returns the pods of a StatefulSet, none of which runs. Their names resolve from now on, and so do those of the
// Services that stand beside a set: its name and NAME-headless.
func (n *Namespace) Pods(set *appsv1.StatefulSet) ([]*Pod, error) {
	replicas := 1
	if set.Spec.Replicas != nil {
		replicas = int(*set.Spec.Replicas)
	}
	pods := make([]*Pod, replicas)
	for i := range pods {
		p, err := n.pod(set, i)
		if err != nil {
			return nil, err
		}
		pods[i] = p
	}
	return pods, nil
}

func (n *Namespace) pod(set *appsv1.StatefulSet, ordinal int) (*Pod, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	name := fmt.Sprintf("%s-%d", set.Name, ordinal)
	e, ok := n.endpoints[name]
	if !ok {
		var err error
		if e, err = n.net.connect(); err != nil {
			return nil, err
		}
		n.endpoints[name] = e
		for _, host := range []string{name + "." + set.Spec.ServiceName, set.Spec.ServiceName, set.Name} {
			for _, suffix := range n.suffixes() {
				n.hosts[host+suffix] = append(n.hosts[host+suffix], e.addr)
			}
		}
	}
	labels := maps.Clone(set.Spec.Template.Labels)
	if labels == nil {
		labels = map[string]string{}
	}
	labels["apps.kubernetes.io/pod-index"] = fmt.Sprint(ordinal)
	labels["statefulset.kubernetes.io/pod-name"] = name
	return &Pod{
		Name: name, Labels: labels, Ordinal: ordinal,
		namespace: n, set: set, endpoint: e, containers: map[string]*process{},
	}, nil
}

// suffixes are those with which a name of a Service can be written.
func (n *Namespace) suffixes() []string {
	return []string{"", "." + n.Name, "." + n.Name + ".svc", "." + n.Name + ".svc.cluster.local"}
}

// Resolve returns the addresses of a name, as the pods see it.
func (n *Namespace) Resolve(host string) ([]netip.Addr, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if found := n.hosts[host]; len(found) > 0 {
		return slices.Clone(found), nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

// hostsFile is the text of /etc/hosts, of which the first line is the pod's own as the kubelet writes it. The others are
// there because there is no name server.
func (n *Namespace) hostsFile(own string) string {
	n.mu.Lock()
	defer n.mu.Unlock()
	lines := []string{own, "127.0.0.1 localhost", "::1 localhost"}
	for _, host := range slices.Sorted(maps.Keys(n.hosts)) {
		for _, addr := range n.hosts[host] {
			lines = append(lines, addr.String()+" "+host)
		}
	}
	return strings.Join(lines, "\n") + "\n"
}

// etc writes the files of /etc that belong to the pod and not to its image.
func (p *Pod) etc() error {
	dir := filepath.Join(p.dir, "etc")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	for name, text := range map[string]string{
		"hosts":         p.namespace.hostsFile(fmt.Sprintf("%s %s.%s.%s.svc.cluster.local %s", p.Addr(), p.Name, p.set.Spec.ServiceName, p.namespace.Name, p.Name)),
		"host.conf":     "multi on\n",
		"nsswitch.conf": "passwd: files\ngroup: files\nhosts: files\n",
		"resolv.conf":   "",
		"passwd":        "root:x:0:0:root:/root:/bin/sh\nappuser:x:1000:1000::/home/appuser:/bin/sh\n",
		"group":         "root:x:0:\nappuser:x:1000:\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (p *Pod) etcMounts() []mount {
	var out []mount
	for _, name := range []string{"group", "host.conf", "hosts", "nsswitch.conf", "passwd", "resolv.conf"} {
		out = append(out, mount{From: filepath.Join(p.dir, "etc", name), To: "/etc/" + name, ReadOnly: true})
	}
	return out
}
