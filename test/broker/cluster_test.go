package broker_test

import (
	"cmp"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"
	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/test/broker/kubelet"
	"github.com/metamorph-k8s/metamorph/test/broker/sandbox"
)

// name is the Kafka set's, and overridden what the combinations with config say.
const (
	name      = "events"
	namespace = "shop"
)

var overridden = map[string]string{
	"compression.type":                 "zstd",
	"group.initial.rebalance.delay.ms": "0",
	"message.max.bytes":                "2097152",
}

// partitions are those of a new topic: more than there are brokers.
const partitions = 6

var networks atomic.Int32

// cluster is a Kafka set and, if it uses one, its ensemble.
type cluster struct {
	combination

	ns        *kubelet.Namespace
	set       *expanded
	ensemble  *expanded
	passwords map[string]string
	ca        *x509.CertPool
	brokers   []*kubelet.Pod
	servers   []*kubelet.Pod
}

// expanded is a StatefulSet as the webhook makes it.
type expanded struct {
	*appsv1.StatefulSet
	out *mutate.Output
}

// The UIDs by which Metamorph tells Kubernetes clusters apart.
const (
	thisKubernetes  = "8a4d6a3e-7a3b-4c56-9d1f-2f1f7d1c0b5a"
	otherKubernetes = "0c7e1c52-51f0-4a5b-8c1d-6b9f4b7d2e10"
)

// expand makes of name and annotations what the webhook makes of them in a Kubernetes cluster.
func expand(t *testing.T, kubernetes, name string, replicas int, annotations map[string]string) *expanded {
	t.Helper()
	prefixed := map[string]any{}
	for k, v := range annotations {
		prefixed[setting.Prefix+k] = v
	}
	object := map[string]any{
		"apiVersion": "apps/v1", "kind": "StatefulSet",
		"metadata": map[string]any{"name": name, "namespace": namespace, "annotations": prefixed},
		"spec":     map[string]any{"replicas": int64(replicas)},
	}
	apidefaults.Apply(object)
	raw, err := json.Marshal(object)
	if err != nil {
		t.Fatal(err)
	}
	out, err := mutate.Expand(mutate.Input{
		Object: raw, Namespace: mutate.Namespace{Name: namespace}, ClusterUID: kubernetes, Version: "v0.0.0", Explain: true,
	})
	if err != nil {
		t.Fatal(err)
	}
	stored := runtime.DeepCopyJSON(out.Object)
	apidefaults.Apply(stored)
	e := &expanded{&appsv1.StatefulSet{}, out}
	if err := runtime.DefaultUnstructuredConverter.FromUnstructuredWithValidation(stored, e.StatefulSet, true); err != nil {
		t.Fatal(err)
	}
	return e
}

// password is one as the companion makes them.
func password(t *testing.T) string {
	t.Helper()
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	out := make([]byte, 32)
	if _, err := rand.Read(out); err != nil {
		t.Fatal(err)
	}
	for i := range out {
		out[i] = letters[int(out[i])%len(letters)]
	}
	return string(out)
}

func (c combination) zookeeper() bool { return strings.HasPrefix(c.mode, "zookeeper") }

// annotations are those of the Kafka set.
func (c combination) annotations() map[string]string {
	out := map[string]string{
		"role": "kafka", "heap": "256Mi", "memory": "768Mi", "cpu": "1", "partitions": strconv.Itoa(partitions), "retention": "2d", "sasl": c.sasl,
	}
	out["version"] = kafka4
	if strings.HasSuffix(c.mode, "3.9") {
		out["version"] = kafka3
	}
	if c.zookeeper() {
		out["zookeeper"] = "true"
	}
	if c.tls {
		out["tls-secret"] = name + "-tls"
	}
	if c.metrics {
		out["metrics"] = "true"
	}
	if c.config {
		var lines []string
		for k, v := range overridden {
			lines = append(lines, k+"="+v)
		}
		out["config"] = strings.Join(lines, "\n")
	}
	return out
}

// newCluster lays the cluster's objects out. Nothing runs yet.
func newCluster(t *testing.T, co combination) *cluster {
	t.Helper()
	c := &cluster{combination: co}
	number := int(networks.Add(1))
	var err error
	c.ns, err = kubelet.NewNamespace(namespace, filepath.Join(scratch, strconv.Itoa(number)), number)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, p := range append(append([]*kubelet.Pod{}, c.brokers...), c.servers...) {
			p.Kill()
		}
		if err := c.ns.Close(); err != nil {
			t.Error(err)
		}
	})
	c.ns.Images = image
	if sandbox.OneUser() {
		c.ns.User = 0
	}
	c.secrets(t)

	brokers, servers := co.nodes, 0
	if co.zookeeper() {
		// 1 and 1, 3 and 1, 3 and 3.
		brokers, servers = min(co.nodes, 3), max(co.nodes-2, 1)
	}
	if servers > 0 {
		annotations := map[string]string{"role": "zookeeper", "heap": "128Mi", "memory": "512Mi", "cpu": "1", "sasl": co.sasl}
		if co.sasl != "none" {
			annotations["sasl-secret"] = name + "-sasl"
		}
		if co.tls {
			annotations["tls-secret"] = name + "-tls"
		}
		if co.metrics {
			annotations["metrics"] = "true"
		}
		c.ensemble = expand(t, thisKubernetes, name+"-zookeeper", servers, annotations)
		if c.servers, err = c.ns.Pods(c.ensemble.StatefulSet); err != nil {
			t.Fatal(err)
		}
	}
	c.set = expand(t, thisKubernetes, name, brokers, co.annotations())
	if c.brokers, err = c.ns.Pods(c.set.StatefulSet); err != nil {
		t.Fatal(err)
	}
	for i, p := range c.brokers {
		// As the API server copies it from the node that a pod is bound to.
		p.Labels["topology.kubernetes.io/zone"] = zone(i)
	}
	return c
}

func zone(ordinal int) string { return "zone-" + string(rune('a'+ordinal%3)) }

func (c *cluster) secrets(t *testing.T) {
	t.Helper()
	if c.sasl != "none" {
		c.passwords = map[string]string{}
		data := map[string][]byte{}
		for _, key := range []string{"controller", "broker", "client", "zookeeper"} {
			c.passwords[key] = password(t)
			data[key] = []byte(c.passwords[key])
		}
		c.ns.SetSecret(name+"-sasl", data)
	}
	if c.tls {
		var names []string
		for _, set := range []string{name, name + "-zookeeper"} {
			names = append(names, set, set+"."+namespace, set+"."+namespace+".svc", "*."+set+"-headless", "*."+set+"-headless."+namespace+".svc")
		}
		data := certificate(t, names...)
		c.ns.SetSecret(name+"-tls", data)
		c.ca = x509.NewCertPool()
		c.ca.AppendCertsFromPEM(data["ca.crt"])
	}
}

// start starts all pods at the same time, as podManagementPolicy says, and waits until they are ready.
func (c *cluster) start(ctx context.Context, t *testing.T) {
	t.Helper()
	var all sync.WaitGroup
	pods := append(append([]*kubelet.Pod{}, c.servers...), c.brokers...)
	errs := make([]error, len(pods))
	for i, p := range pods {
		all.Go(func() {
			if errs[i] = p.Start(ctx); errs[i] == nil {
				errs[i] = p.WaitReady(ctx)
			}
		})
	}
	all.Wait()
	for _, err := range errs {
		if err != nil {
			t.Error(err)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// client makes a client of the cluster, with the password that its Secret has for clients unless another is given.
func (c *cluster) client(t *testing.T, password string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	options = append([]kgo.Opt{
		// Where people start, whoever answers there.
		kgo.SeedBrokers(net.JoinHostPort(name+"."+namespace+".svc", "9092")),
		kgo.Dialer(c.dial),
		kgo.ClientID("metamorph-test"),
	}, options...)
	if mechanism := c.mechanism("client", cmp.Or(password, c.passwords["client"])); mechanism != nil {
		options = append(options, kgo.SASL(mechanism))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return client
}

func (c *cluster) mechanism(user, password string) sasl.Mechanism {
	switch c.sasl {
	case "scram-sha-512":
		return scram.Auth{User: user, Pass: password}.AsSha512Mechanism()
	case "scram-sha-256":
		return scram.Auth{User: user, Pass: password}.AsSha256Mechanism()
	case "plain":
		return plain.Auth{User: user, Pass: password}.AsMechanism()
	}
	return nil
}

// dial finds a host by the names that the pods have, and tries all of its addresses. It holds certificates to the names.
func (c *cluster) dial(ctx context.Context, network, address string) (net.Conn, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	addrs, err := c.ns.Resolve(host)
	if err != nil {
		return nil, err
	}
	for _, addr := range addrs {
		var conn net.Conn
		d := net.Dialer{Timeout: 5 * time.Second}
		if conn, err = d.DialContext(ctx, network, net.JoinHostPort(addr.String(), port)); err != nil {
			continue
		}
		if !c.tls {
			return conn, nil
		}
		secured := tls.Client(conn, &tls.Config{RootCAs: c.ca, ServerName: host, MinVersion: tls.VersionTLS12})
		if err = secured.HandshakeContext(ctx); err == nil {
			return secured, nil
		}
		conn.Close()
	}
	return nil, fmt.Errorf("%s: %w", address, err)
}
