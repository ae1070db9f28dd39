// Package inventory_test holds pkg/cluster and pkg/audit against a real API server: what policies see of a cluster, and what
// an audit tells of it, with the rights that a role gives and no others.
package inventory_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/testr"
	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/cluster"
	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/test/apiserver"
)

// patience is how long something may take that takes a moment, on a machine that is busy with other things.
const patience = time.Minute

const startTimeout = 20 * time.Minute // most of it would be building the control plane, once

type object = map[string]any

// rights are all but that to read StorageClasses.
const rights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: watcher}
rules:
- {apiGroups: [""], resources: [namespaces, resourcequotas, limitranges], verbs: [list, watch]}
- {apiGroups: [apps], resources: [statefulsets], verbs: [list, watch]}
- {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [list, watch]}
- {apiGroups: [autoscaling], resources: [horizontalpodautoscalers], verbs: [list, watch]}
- {apiGroups: [""], resources: [secrets], verbs: [get]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: watcher}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: watcher}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: watcher}
`

const moreRights = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: classes}
rules:
- {apiGroups: [storage.k8s.io], resources: [storageclasses], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: classes}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: classes}
subjects:
- {apiGroup: rbac.authorization.k8s.io, kind: User, name: watcher}
`

const objects = `
apiVersion: v1
kind: Namespace
metadata: {name: team, labels: {tier: gold}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: q, namespace: team}
spec: {hard: {requests.cpu: 1500m}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: l, namespace: team}
spec: {limits: [{type: Container, max: {memory: 1Gi}}]}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: p, namespace: team}
spec: {maxUnavailable: 1}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: h, namespace: team}
spec: {maxReplicas: 5, scaleTargetRef: {apiVersion: apps/v1, kind: StatefulSet, name: events}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast}
provisioner: example.com/disk
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: plain, namespace: team}
spec: {selector: {matchLabels: {a: b}}, template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: kafka}]}}}
`

// The tests share a server.
var (
	once     sync.Once
	server   *apiserver.Server
	startErr error
)

func TestMain(m *testing.M) {
	log.SetLogger(logr.Discard())
	code := m.Run()
	if server != nil {
		if err := server.Stop(); err != nil {
			fmt.Fprintln(os.Stderr, "stopping the control plane:", err)
			code = 1
		}
	}
	os.Exit(code)
}

type fixture struct {
	*testing.T
	*apiserver.Server

	inventory *policy.Inventory
	watcher   *cluster.Watcher
}

func newFixture(t *testing.T) *fixture {
	t.Helper()
	once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
		defer cancel()
		server, startErr = apiserver.Start(ctx, apiserver.Options{Progress: os.Stderr})
	})
	if startErr != nil {
		t.Fatal(startErr)
	}
	return &fixture{T: t, Server: server, inventory: &policy.Inventory{}}
}

// as is a configuration for a user with the rights of a role and no others.
func (f *fixture) as(user string) *rest.Config {
	config := rest.CopyConfig(f.Config)
	config.Impersonate.UserName = user
	return config
}

func TestInventory(t *testing.T) {
	t.Parallel()
	f := newFixture(t)
	f.kubectl(rights, "apply", "-f", "-")
	f.kubectl(objects, "apply", "-f", "-")
	f.kubectl(expanded(t, "team", "events", ""), "apply", "-f", "-")
	f.start()

	for path, want := range map[string]any{
		"Namespace/team/metadata/labels/tier":             "gold",
		"ResourceQuota/team/q/spec/hard/requests.cpu":     1.5,
		"LimitRange/team/l/spec/limits/0/max/memory":      "1Gi",
		"PodDisruptionBudget/team/p/spec/maxUnavailable":  1.0,
		"HorizontalPodAutoscaler/team/h/spec/maxReplicas": 5.0,
		"StatefulSet/team/events/role":                    "kafka",
		"StatefulSet/team/events/settings/sasl":           "scram-sha-512",
		"StatefulSet/team/plain":                          nil,
		"StorageClass":                                    nil,
	} {
		f.sees(path, want)
	}

	// Changes. A namespace's annotations may have 256 KiB.
	f.kubectl("", "annotate", "namespace", "team", "large="+strings.Repeat("x", 100<<10), "small=y")
	f.sees("Namespace/team/metadata/annotations", object{"small": "y"})
	f.kubectl("", "--namespace", "team", "label", "statefulset", "events", "metamorph.dev/name-")
	f.sees("StatefulSet/team/events", nil)
	f.kubectl("", "--namespace", "team", "delete", "resourcequota", "q")
	f.sees("ResourceQuota", object{})

	f.kubectl(moreRights, "apply", "-f", "-")
	f.sees("StorageClass/fast/provisioner", "example.com/disk")

	f.certificate()
}

// start starts a watcher with the rights, and waits for it.
func (f *fixture) start() {
	f.Helper()
	var err error
	f.watcher, err = cluster.New(f.as("watcher"), f.inventory, cluster.Options{Certificates: true, Log: testr.New(f.T)})
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = f.watcher.Run(ctx)
	}()
	f.Cleanup(func() {
		cancel()
		<-ended
	})
	waiting, stop := context.WithTimeout(f.Context(), patience)
	defer stop()
	if !f.watcher.WaitForSync(waiting) {
		f.Fatal("not synced")
	}
}

func (f *fixture) certificate() {
	f.Helper()
	f.watcher.Certificate(f.Context(), "team", "tls")
	f.sees("Certificate", nil)
	dir := f.TempDir()
	cert, key := filepath.Join(dir, "tls.crt"), filepath.Join(dir, "tls.key")
	certPEM, keyPEM := pair(f.T)
	for path, text := range map[string][]byte{cert: certPEM, key: keyPEM} {
		if err := os.WriteFile(path, text, 0o600); err != nil {
			f.Fatal(err)
		}
	}
	f.kubectl("", "--namespace", "team", "create", "secret", "tls", "other", "--cert", cert, "--key", key)
	f.watcher.Certificate(f.Context(), "team", "other")
	f.sees("Certificate/team", object{"other": object{
		"metadata": object{"namespace": "team", "name": "other"}, "dnsNames": []any{"events.example"}, "notBefore": 1000.0, "notAfter": 2000000000.0,
	}})
}

func (f *fixture) kubectl(stdin string, args ...string) {
	f.Helper()
	if _, report, err := f.Kubectl(f.Context(), stdin, args...); err != nil {
		f.Fatalf("kubectl %v: %v\n%s", args[0], err, report)
	}
}

// expanded is a complete Kafka StatefulSet as the webhook makes it.
func expanded(t *testing.T, namespace, name, annotations string) string {
	t.Helper()
	raw, err := yaml.YAMLToJSON([]byte("apiVersion: apps/v1\nkind: StatefulSet\nmetadata: {name: " + name + ", namespace: " + namespace +
		", annotations: {metamorph.dev/role: kafka" + annotations + "}}"))
	if err != nil {
		t.Fatal(err)
	}
	out, err := mutate.Expand(mutate.Input{Object: raw, Namespace: mutate.Namespace{Name: namespace}, ClusterUID: "u", Version: "v1.0.0"})
	if err != nil {
		t.Fatal(err)
	}
	return string(mutate.Encode(out.Object))
}

// sees waits until this is at a path of data.cluster; nil is undefined.
func (f *fixture) sees(path string, want any) {
	f.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	end := time.After(patience)
	for !cmp.Equal(at(f.seen(), path), want) {
		select {
		case <-tick.C:
		case <-end:
			f.Fatalf("not within %s: %s is %v; seen: %v", patience, path, want, f.seen())
		}
	}
}

// at is what is at a path; nil if there is nothing.
func at(v any, path string) any {
	for p := range strings.SplitSeq(path, "/") {
		switch x := v.(type) {
		case object:
			v = x[p]
		case []any:
			n, err := strconv.Atoi(p)
			if err != nil || n >= len(x) {
				return nil
			}
			v = x[n]
		default:
			return nil
		}
	}
	return v
}

// seen is data.cluster as a policy sees it.
func (f *fixture) seen() object {
	f.Helper()
	const rego = `# METADATA
# title: shows what policies see
# custom: {code: TEST-1, match: {roles: [plain]}}
package test.seen

deny contains json.marshal(data.cluster)
`
	bundle, err := (&policy.Loader{}).Load(&policy.Source{Name: "test", Files: map[string]string{"seen.rego": rego}})
	if err != nil {
		f.Fatal(err)
	}
	set, err := policy.NewSet([]*policy.Bundle{bundle})
	if err != nil {
		f.Fatal(err)
	}
	view := policy.NewView(policy.Input{Operation: policy.Create, Object: object{"kind": "StatefulSet"}})
	findings := set.Evaluate(context.Background(), view, policy.Options{Inventory: f.inventory, Budget: patience})
	var all object
	if err := json.Unmarshal([]byte(findings[0].Message), &all); err != nil {
		f.Fatal(findings[0].Message)
	}
	return all
}
