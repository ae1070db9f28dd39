package node

import (
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/metamorph-k8s/metamorph/test/cluster/pki"
)

// Addresses inside the cluster's own network, where nothing else is.
const (
	nodeName   = "node-1"
	zone       = "zone-a"
	bridge     = "metamorph0"
	pods       = "10.244.0.0/24"
	nodeIP     = "10.244.0.1"
	services   = "10.96.0.0/16"
	apiService = "10.96.0.1"
	dnsService = "10.96.0.10"
	etcdURL    = "http://127.0.0.1:2379"
	etcdPeer   = "http://127.0.0.1:2380"
	apiPort    = 6443
	// pauseImage is the image of the process that holds a pod's namespaces.
	PauseImage = "docker.io/metamorph/pause:1"
)

// plan is what the process inside is told.
type plan struct {
	Dir      string
	Binaries map[string]string
	Port     int // of the loopback interface outside
	Cgroup   string
	Tied     bool
	Sysctl   map[string]string
}

func (p plan) path(name string) string { return filepath.Join(p.Dir, name) }

func readPlan(dir string) (p plan, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, "plan.json"))
	if err != nil {
		return p, err
	}
	return p, json.Unmarshal(raw, &p)
}

// users are the components' identities, by their file's name; they have the rights that Kubernetes gives those names.
var users = map[string]pki.Subject{
	"controller-manager": {Name: "system:kube-controller-manager"},
	"scheduler":          {Name: "system:kube-scheduler"},
	"proxy":              {Name: "system:kube-proxy"},
	"kubelet":            {Name: "system:node:" + nodeName, Groups: []string{"system:nodes"}},
	"dns":                {Name: "system:coredns"},
	"admin":              {Name: "admin", Groups: []string{"system:masters"}},
}

// write writes certificates, kubeconfigs and the components' configuration files.
func (p plan) write(kubeconfig string) error {
	ca, err := pki.NewAuthority("metamorph test cluster")
	if err != nil {
		return err
	}
	files := map[string]string{
		"ca.crt":                 string(ca.PEM),
		"resolv.conf":            "", // there is no DNS beside the cluster's own
		"containerd.toml":        p.fill(containerdConfig),
		"cni/10-bridge.conflist": p.fill(cniConfig),
		"kubelet.yaml":           p.fill(kubeletConfig),
		"proxy.yaml":             p.fill(proxyConfig),
		"Corefile":               p.fill(corefile),
	}
	for name, subject := range map[string]pki.Subject{
		"apiserver": {Name: "kube-apiserver", Hosts: []string{
			"127.0.0.1", nodeIP, apiService, "localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
		}},
		"kubelet-server":           {Name: nodeName, Hosts: []string{nodeName, nodeIP}},
		"apiserver-kubelet-client": {Name: "kube-apiserver", Groups: []string{"system:masters"}},
	} {
		cert, key, err := ca.Issue(subject)
		if err != nil {
			return err
		}
		files[name+".crt"], files[name+".key"] = string(cert), string(key)
	}
	signer, key, err := pki.NewKey()
	if err != nil {
		return err
	}
	public, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return err
	}
	files["accounts.key"] = string(key)
	files["accounts.pub"] = string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))

	raw, err := json.Marshal(p)
	if err != nil {
		return err
	}
	files["plan.json"] = string(raw)

	for name, text := range files {
		path := p.path(name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			return err
		}
	}
	inside := fmt.Sprintf("https://%s:%d", nodeIP, apiPort)
	for name, subject := range users {
		if err := writeKubeconfig(ca, subject, inside, p.path(name+".kubeconfig")); err != nil {
			return err
		}
	}
	return writeKubeconfig(ca, users["admin"], fmt.Sprintf("https://127.0.0.1:%d", p.Port), kubeconfig)
}

func writeKubeconfig(ca *pki.Authority, user pki.Subject, server, path string) error {
	cert, key, err := ca.Issue(user)
	if err != nil {
		return err
	}
	const name = "metamorph"
	return clientcmd.WriteToFile(clientcmdapi.Config{
		Clusters:       map[string]*clientcmdapi.Cluster{name: {Server: server, CertificateAuthorityData: ca.PEM}},
		AuthInfos:      map[string]*clientcmdapi.AuthInfo{name: {ClientCertificateData: cert, ClientKeyData: key}},
		Contexts:       map[string]*clientcmdapi.Context{name: {Cluster: name, AuthInfo: name}},
		CurrentContext: name,
	}, path)
}

// fill puts the cluster's values into a configuration file.
func (p plan) fill(text string) string {
	return strings.NewReplacer(
		"{dir}", p.Dir, "{cgroup}", p.Cgroup, "{node}", nodeName, "{nodeIP}", nodeIP, "{pods}", pods, "{bridge}", bridge,
		"{dns}", dnsService, "{pause}", PauseImage, "{cniPlugins}", cniPlugins, "{snapshotter}", snapshotter(p.Dir),
	).Replace(text)
}

// A machine that is a container itself may not lower the score by which the kernel chooses whom to kill for memory, and has
// no say over AppArmor.
const containerdConfig = `version = 2
root = "{dir}/containerd"
state = "/run/containerd"
[grpc]
  address = "{dir}/containerd.sock"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cniPlugins}"
    conf_dir = "{dir}/cni"
`

const cniConfig = `{
  "cniVersion": "0.4.0",
  "name": "pods",
  "plugins": [
    {
      "type": "bridge", "bridge": "{bridge}", "isGateway": true, "hairpinMode": true,
      "ipam": {"type": "host-local", "dataDir": "/run/ipam", "ranges": [[{"subnet": "{pods}"}]], "routes": [{"dst": "0.0.0.0/0"}]}
    }
  ]
}
`

// Nothing is evicted and no image is removed when the machine's disk fills up: the images cannot be pulled again, and the
// disk is not the cluster's alone.
const kubeletConfig = `apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
containerRuntimeEndpoint: unix://{dir}/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: /{cgroup}
failCgroupV1: false
failSwapOn: false
enforceNodeAllocatable: [pods]
evictionHard: {}
imageGCHighThresholdPercent: 100
imageGCLowThresholdPercent: 99
localStorageCapacityIsolation: false
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: {dir}/ca.crt}
authorization: {mode: Webhook}
tlsCertFile: {dir}/kubelet-server.crt
tlsPrivateKeyFile: {dir}/kubelet-server.key
clusterDomain: cluster.local
clusterDNS: ["{dns}"]
resolvConf: {dir}/resolv.conf
`

const proxyConfig = `apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: iptables
clientConnection: {kubeconfig: {dir}/proxy.kubeconfig}
clusterCIDR: {pods}
hostnameOverride: {node}
conntrack: {maxPerCore: 0, min: 0}
iptables: {minSyncPeriod: 100ms}
`

// A pod's name is not to be remembered as unknown: nodes that start together look each other up before they are there.
const corefile = `.:53 {
  bind {nodeIP}
  errors
  kubernetes cluster.local in-addr.arpa {
    kubeconfig {dir}/dns.kubeconfig
    ttl 1
  }
}
`
