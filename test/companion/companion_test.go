// Package companion_test runs the controller of the companions against a real API server with the controllers of Kubernetes, and
// with no more rights than the manifests give it.
package companion_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/metamorph-k8s/metamorph/pkg/audit"
	"github.com/metamorph-k8s/metamorph/pkg/companion"
	"github.com/metamorph-k8s/metamorph/pkg/companion/object"
	"github.com/metamorph-k8s/metamorph/test/program"
)

// user is who the controller is here.
const user = "system:serviceaccount:metamorph-system:metamorph"

// rig is a cluster with the webhook, and the controller running in this process.
type rig struct {
	*program.Cluster

	client kubernetes.Interface
	// purge runs the real program.
	program *program.Program
}

// podMonitors is as much of the Prometheus operator's API as a PodMonitor needs.
const podMonitors = `{"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "podmonitors.monitoring.coreos.com"}, "spec": {
	"group": "monitoring.coreos.com", "scope": "Namespaced", "names": {"kind": "PodMonitor", "plural": "podmonitors", "singular": "podmonitor"},
	"versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]}}`

// newRig starts everything. The rights are those of the manifests, as the API server reads them.
func newRig(t *testing.T) *rig {
	t.Helper()
	c := program.NewClusterWithControllers(t)
	manifests, err := os.ReadFile("../../manifests/webhook.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for doc := range strings.SplitSeq(string(manifests), "\n---\n") {
		if regexp.MustCompile(`(?m)^kind: (ClusterRole|Role|ClusterRoleBinding|RoleBinding|ServiceAccount)$`).MatchString(doc) {
			c.Must(doc, "apply", "-f", "-")
		}
	}
	// A class of claims that name none, so that volumes are not what the pods wait for.
	c.Must(`{"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "some", "annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}, "provisioner": "none"}`, "create", "-f", "-")
	c.Must(podMonitors, "create", "-f", "-")
	r := &rig{Cluster: c, program: c.Serve("--companions=false", "--audit-interval=0")}
	if r.client, err = kubernetes.NewForConfig(c.Config); err != nil {
		t.Fatal(err)
	}
	return r
}

// control runs the controller until the end of the test, or until stop is called.
func (r *rig) control(who string) (stop func()) {
	r.Helper()
	config := r.As(who)
	recorder, err := audit.NewRecorder(config)
	if err != nil {
		r.Fatal(err)
	}
	ctx, cancel := context.WithCancel(r.Context())
	done := make(chan error, 1)
	go func() {
		done <- companion.Run(ctx, companion.Options{Config: config, Recorder: recorder, Log: testr.NewWithOptions(r.T, testr.Options{Verbosity: 0})})
	}()
	var ended bool
	stop = func() {
		if !ended {
			ended = true
			cancel()
			if err := <-done; err != nil {
				r.Errorf("the controller: %v", err)
			}
		}
	}
	r.Cleanup(stop)
	return stop
}

// apply applies a StatefulSet of a few lines.
func (r *rig) apply(namespace, name string, replicas int, annotations ...string) {
	r.Helper()
	notes := "metamorph.dev/role: kafka"
	for _, a := range annotations {
		if strings.HasPrefix(a, "role:") {
			notes = ""
		}
	}
	for _, a := range annotations {
		notes += ", metamorph.dev/" + a
	}
	r.Must(fmt.Sprintf("apiVersion: apps/v1\nkind: StatefulSet\nmetadata:\n  name: %s\n  namespace: %s\n  annotations: {%s}\nspec: {replicas: %d}\n",
		name, namespace, strings.TrimPrefix(notes, ", "), replicas), "apply", "-f", "-")
}

// namespace makes one for a test.
func (r *rig) namespace(name string) string {
	r.Helper()
	r.Must("", "create", "namespace", name)
	return name
}

// exists tells whether kubectl finds an object.
func (r *rig) exists(namespace, what string) bool {
	_, _, err := r.Try("", "get", "-n", namespace, what)
	return err == nil
}

// field is what kubectl prints of an object with a JSONPath; "" if there is no such object.
func (r *rig) field(namespace, what, path string) string {
	out, _, err := r.Try("", "get", "-n", namespace, what, "-o", "jsonpath="+path)
	if err != nil {
		return ""
	}
	return out
}

func (r *rig) secret(namespace, name string) *corev1.Secret {
	r.Helper()
	s, err := r.client.CoreV1().Secrets(namespace).Get(r.Context(), name, metav1.GetOptions{})
	if err != nil {
		r.Fatal(err)
	}
	return s
}

// events are the notes of a StatefulSet's Events.
func (r *rig) events(namespace, name string) []string {
	list, err := r.client.EventsV1().Events(namespace).List(r.Context(), metav1.ListOptions{})
	if err != nil {
		r.Fatal(err)
	}
	var out []string
	for _, e := range list.Items {
		if e.ReportingController == companion.Controller && e.Regarding.Name == name {
			out = append(out, eventText(&e))
		}
	}
	return out
}

func eventText(e *eventsv1.Event) string { return e.Type + " " + e.Reason + ": " + e.Note }

// told waits until an Event and the conditions say all of these words.
func (r *rig) told(namespace, name string, words ...string) {
	r.Helper()
	says := func(text string) bool {
		for _, w := range words {
			if !strings.Contains(text, w) {
				return false
			}
		}
		return true
	}
	r.Eventually(fmt.Sprintf("an Event on %s that says %q", name, words), func() bool { return slices.ContainsFunc(r.events(namespace, name), says) })
	r.Eventually(fmt.Sprintf("conditions of %s that say %q", name, words), func() bool { return says(r.conditions(namespace, name)) })
}

func (r *rig) conditions(namespace, name string) string {
	return r.field(namespace, "statefulset/"+name, `{.metadata.annotations.metamorph\.dev/conditions}`)
}

// well waits until the conditions say that nothing is wrong.
func (r *rig) well(namespace, name string) {
	r.Helper()
	r.Eventually("all well with "+name, func() bool {
		c := companion.Conditions(map[string]string{"metamorph.dev/conditions": r.conditions(namespace, name)})
		return len(c) == 2 && c[0].Status == metav1.ConditionTrue && c[1].Status == metav1.ConditionTrue
	})
}

// setReady makes a pod Ready as a kubelet would say it.
func (r *rig) setReady(namespace, pod string) {
	r.Helper()
	r.Eventually(pod, func() bool { return r.exists(namespace, "pod/"+pod) })
	patch := `{"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}}`
	r.Must("", "patch", "-n", namespace, "pod", pod, "--subresource=status", "--type=merge", "-p", patch)
}

// deleteSet deletes a StatefulSet and waits until its pods are gone. No kubelet ends them, so it is done here.
func (r *rig) deleteSet(namespace, name string) {
	r.Helper()
	r.Must("", "delete", "-n", namespace, "statefulset", name)
	r.Eventually("no pods", func() bool {
		r.Must("", "delete", "-n", namespace, "pod", "-l", object.NameLabel+"="+name, "--force", "--grace-period=0", "--ignore-not-found")
		out, _ := r.Must("", "get", "-n", namespace, "pods", "-l", object.NameLabel+"="+name, "-o", "name")
		return out == ""
	})
}

func TestCompanions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	stop := r.control(user)
	t.Run("three lines", r.threeLines)
	t.Run("zookeeper", r.zookeeper)
	t.Run("the names are taken", r.taken)
	t.Run("secrets of users", r.secretsOfUsers)
	t.Run("life after delete", r.lifeAfterDelete)
	t.Run("a lost secret", r.lostSecret)
	t.Run("orphans", r.orphans)
	t.Run("what keeps nodes", r.nodes)
	t.Run("a second budget", r.secondBudget)
	t.Run("tls", r.tls)
	t.Run("drift", r.drift)
	t.Run("a pod monitor", r.podMonitor)
	stop()
	t.Run("missing rights", r.missingRights)
}

func (r *rig) sub(t *testing.T) *rig {
	t.Helper()
	c := *r.Cluster
	c.T = t
	return &rig{Cluster: &c, client: r.client, program: r.program}
}

// threeLines: everything is there, and soon; the Secret is as the contract says.
func (r *rig) threeLines(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("three")
	r.apply(ns, "events", 3)
	began := time.Now()
	for _, what := range []string{"service/events-headless", "service/events", "poddisruptionbudget/events", "secret/events-sasl", "secret/events-client", "configmap/events-state"} {
		r.Eventually(what, func() bool { return r.exists(ns, what) })
	}
	t.Logf("seen by kubectl, one after the other, %s after kubectl apply", time.Since(began).Round(time.Millisecond))
	set, err := r.client.AppsV1().StatefulSets(ns).Get(t.Context(), "events", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	headless, err := r.client.CoreV1().Services(ns).Get(t.Context(), "events-headless", metav1.GetOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if headless.Spec.ClusterIP != "None" || !headless.Spec.PublishNotReadyAddresses || !metav1.IsControlledBy(headless, set) {
		t.Errorf("%+v", headless)
	}
	s := r.secret(ns, "events-sasl")
	if len(s.Data) != 4 || s.Immutable == nil || !*s.Immutable || len(s.OwnerReferences) > 0 {
		t.Errorf("%d keys, immutable %v, owners %v", len(s.Data), s.Immutable, s.OwnerReferences)
	}
	for k, v := range s.Data {
		if !regexp.MustCompile(`^[A-Za-z0-9]{32}$`).Match(v) {
			t.Errorf("the password under %s has another form", k)
		}
	}
	client := string(r.secret(ns, "events-client").Data["client.properties"])
	want := "bootstrap.servers=events.three.svc:9092\nsecurity.protocol=SASL_PLAINTEXT\nsasl.mechanism=SCRAM-SHA-512\n" +
		`sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required username="client" password="` + string(s.Data["client"]) + `";` + "\n"
	if client != want {
		t.Errorf("client.properties is not what was expected, passwords aside:\n%s", strings.ReplaceAll(client, string(s.Data["client"]), "…"))
	}
	for _, key := range []string{"controller", "broker", "zookeeper"} {
		for k, v := range r.secret(ns, "events-client").Data {
			if strings.Contains(string(v), string(s.Data[key])) {
				t.Errorf("the client's Secret has the password %s under %s", key, k)
			}
		}
	}
	r.well(ns, "events")
	if all := strings.Join(r.events(ns, "events"), "\n"); !strings.Contains(all, "Normal CompanionsCreated: Created ") || strings.Contains(all, string(s.Data["client"])) {
		t.Errorf("Events: %s", all)
	}
	// The conditions are not the user's, and no reason to roll.
	if g := r.field(ns, "statefulset/events", "{.metadata.generation}"); g != "1" {
		t.Errorf("generation %s", g)
	}
	if source := r.field(ns, "statefulset/events", `{.metadata.annotations.metamorph\.dev/source}`); strings.Contains(source, "conditions") {
		t.Errorf("source: %s", source)
	}
	r.setReady(ns, "events-0")
	r.Eventually("the record of node 0", func() bool {
		uid := r.field(ns, "persistentvolumeclaim/data-events-0", "{.metadata.uid}")
		return uid != "" && r.field(ns, "configmap/events-state", "{.data.0}") == uid
	})
}

func (r *rig) zookeeper(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("zoo")
	r.apply(ns, "events", 3, `zookeeper: "true"`, "zookeeper-storage: 3Gi", "version: 3.9.1")
	r.Eventually("the ensemble", func() bool {
		return r.field(ns, "statefulset/events-zookeeper", `{.spec.replicas} {.spec.volumeClaimTemplates[0].spec.resources.requests.storage}`) == "3 3Gi"
	})
	r.Eventually("its client Service", func() bool { return r.field(ns, "service/events-zookeeper", "{.spec.ports[0].port}") == "2181" })
	if got := r.field(ns, "statefulset/events-zookeeper", `{.spec.template.spec.volumes[?(@.name=="metamorph-sasl")].secret.secretName}`); got != "events-sasl" {
		t.Errorf("the ensemble's Secret is %q", got)
	}
	r.well(ns, "events")
	r.well(ns, "events-zookeeper")
	// The number of servers is the user's after that.
	r.Must("", "scale", "-n", ns, "statefulset/events-zookeeper", "--replicas=4")
	r.Must("", "annotate", "-n", ns, "statefulset/events", "note=1")
	r.Must("", "delete", "-n", ns, "service/events") // the reconciliation that brings it back is one after the scale
	r.Eventually("the Service is back", func() bool { return r.exists(ns, "service/events") })
	// Nor is it when the ensemble is applied anew.
	r.Must("", "annotate", "-n", ns, "statefulset/events", "metamorph.dev/metrics=true")
	r.Eventually("metrics of the ensemble", func() bool {
		return r.field(ns, "statefulset/events-zookeeper", `{.metadata.annotations.metamorph\.dev/metrics}`) == "true"
	})
	if n := r.field(ns, "statefulset/events-zookeeper", "{.spec.replicas}"); n != "4" {
		t.Errorf("%s servers", n)
	}
	r.deleteSet(ns, "events")
	r.Eventually("the ensemble goes with the set", func() bool { return !r.exists(ns, "statefulset/events-zookeeper") })
}

func (r *rig) taken(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("taken")
	service := "apiVersion: v1\nkind: Service\nmetadata: {name: events}\nspec: {ports: [{port: 80}]}\n"
	r.Must(service, "create", "-n", ns, "-f", "-")
	r.Must("", "create", "-n", ns, "configmap", "events-state", "--from-literal=mine=1")
	r.apply(ns, "events", 1)
	r.told(ns, "events", "Service events", "was not made by Metamorph", "Delete or rename it", "MM401")
	r.told(ns, "events", "ConfigMap events-state", "MM401")
	if got := r.field(ns, "service/events", "{.spec.ports[0].port} {.metadata.labels}"); got != "80 " {
		t.Errorf("the other Service was changed: %s", got)
	}
	r.Must("", "delete", "-n", ns, "service/events", "configmap/events-state")
	r.Must("", "annotate", "-n", ns, "statefulset/events", "try=again")
	r.well(ns, "events")
	r.Eventually("the Service", func() bool { return r.field(ns, "service/events", "{.spec.ports[0].port}") == "9092" })
	r.Eventually("solved", func() bool {
		return slices.ContainsFunc(r.events(ns, "events"), func(e string) bool { return strings.Contains(e, "Normal CompanionsReady: Solved") })
	})
}

func (r *rig) secretsOfUsers(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("secrets")
	good := strings.Repeat("x", 20)
	// Under the name that is generated otherwise: adopted as it is.
	r.Must("", "create", "-n", ns, "secret", "generic", "mine-sasl", "--from-literal=broker="+good, "--from-literal=client="+good, "--from-literal=controller="+good)
	r.apply(ns, "mine", 1)
	r.Eventually("the client's Secret", func() bool { return r.exists(ns, "secret/mine-client") })
	r.well(ns, "mine")
	if s := r.secret(ns, "mine-sasl"); len(s.Labels) > 0 || s.Immutable != nil || len(s.Data) != 3 {
		t.Errorf("the user's Secret was changed: %v, %d keys", s.Labels, len(s.Data))
	}
	r.Must("", "create", "-n", ns, "secret", "generic", "poor", "--from-literal=broker="+good, "--from-literal=client=short")
	r.apply(ns, "poor", 1, "sasl-secret: poor")
	r.told(ns, "poor", "Secret poor", "has no key controller and has no usable password under client", "16 or more", "MM402")
	if strings.Contains(strings.Join(r.events(ns, "poor"), ""), good) {
		t.Error("an Event has a password")
	}
	// A Secret that somebody named is somebody's to make.
	r.apply(ns, "late", 1, "sasl-secret: late")
	r.told(ns, "late", "Secret late", "does not exist", "metamorph.dev/sasl-secret", "MM403")
	r.Must("", "create", "-n", ns, "secret", "generic", "late", "--from-literal=broker="+good, "--from-literal=client="+good, "--from-literal=controller="+good)
	r.Eventually("the client's Secret", func() bool { return r.exists(ns, "secret/late-client") })
}

// lifeAfterDelete: what is kept, adopted again, purged, and gone with the last volume.
func (r *rig) lifeAfterDelete(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("life")
	r.apply(ns, "events", 1)
	r.setReady(ns, "events-0")
	r.Eventually("the record", func() bool { return r.field(ns, "configmap/events-state", "{.data.0}") != "" })
	before := r.secret(ns, "events-sasl")
	id := r.field(ns, "statefulset/events", `{.metadata.annotations.metamorph\.dev/cluster-id}`)
	if err := r.purge(ns, "--yes"); err == nil || !strings.Contains(err.Error(), "still exists; delete it first") {
		t.Errorf("purge of a cluster that is there: %v", err)
	}

	r.deleteSet(ns, "events")
	for _, what := range []string{"service/events", "service/events-headless", "poddisruptionbudget/events", "secret/events-client"} {
		r.Eventually(what+" is gone", func() bool { return !r.exists(ns, what) })
	}
	for _, what := range []string{"secret/events-sasl", "configmap/events-state", "persistentvolumeclaim/data-events-0"} {
		if !r.exists(ns, what) {
			t.Errorf("%s is gone", what)
		}
	}

	r.apply(ns, "events", 1)
	r.well(ns, "events")
	if after := r.secret(ns, "events-sasl"); after.UID != before.UID || after.ResourceVersion != before.ResourceVersion {
		t.Error("the Secret is another one")
	}
	if again := r.field(ns, "statefulset/events", `{.metadata.annotations.metamorph\.dev/cluster-id}`); again != id || id == "" {
		t.Errorf("the cluster id was %q and is %q", id, again)
	}
	if r.field(ns, "configmap/events-state", "{.data.0}") == "" {
		t.Error("the record was lost")
	}

	// Claims that somebody deletes are no order to delete passwords; but then the record is of another life.
	r.deleteSet(ns, "events")
	r.Must("", "delete", "-n", ns, "persistentvolumeclaim/data-events-0")
	r.apply(ns, "events", 1)
	r.Eventually("the record is dropped", func() bool { return r.field(ns, "configmap/events-state", "{.data.0}") == "" })
	r.well(ns, "events")
	if after := r.secret(ns, "events-sasl"); after.UID != before.UID {
		t.Error("the Secret is another one")
	}
	// Nor is a Secret purged that another cluster uses.
	r.apply(ns, "other", 1, "sasl-secret: events-sasl")
	r.well(ns, "other")
	r.deleteSet(ns, "events")
	if err := r.purge(ns, "--yes"); err != nil || !r.exists(ns, "secret/events-sasl") || r.exists(ns, "configmap/events-state") {
		t.Errorf("purge beside a cluster with the same Secret: %v", err)
	}
	r.deleteSet(ns, "other")

	// purge asks, and deletes everything.
	r.apply(ns, "events", 1)
	r.Eventually("a claim", func() bool { return r.exists(ns, "persistentvolumeclaim/data-events-0") })
	r.Eventually("a Secret", func() bool { return r.exists(ns, "secret/events-sasl") })
	r.deleteSet(ns, "events")
	if err := r.purge(ns); err == nil || !strings.Contains(err.Error(), "nobody to ask") || !r.exists(ns, "secret/events-sasl") {
		t.Errorf("purge without anybody to ask: %v", err)
	}
	if err := r.purge(ns, "--yes"); err != nil {
		t.Error(err)
	}
	for _, what := range []string{"secret/events-sasl", "configmap/events-state", "persistentvolumeclaim/data-events-0"} {
		r.Eventually(what+" is gone", func() bool { return !r.exists(ns, what) })
	}
}

// purge purges the cluster events.
func (r *rig) purge(namespace string, flags ...string) error {
	_, err := r.program.Run(append([]string{"purge", "events", "-n", namespace, "--kubeconfig", r.Kubeconfig}, flags...)...)
	return err
}

func (r *rig) lostSecret(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("lost")
	r.apply(ns, "events", 1)
	r.setReady(ns, "events-0")
	r.Eventually("the record", func() bool { return r.field(ns, "configmap/events-state", "{.data.0}") != "" })
	r.Must("", "delete", "-n", ns, "secret/events-sasl")
	r.told(ns, "events", "Secret events-sasl", "does not exist, but", "Restore the Secret from a backup", "metamorph purge events -n lost", "MM404")

	// Volumes of a cluster of which nothing else is left, as after a restore that forgot the Secret.
	r.Must(`{"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data-old-0"},
		"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}`, "create", "-n", ns, "-f", "-")
	created := r.field(ns, "persistentvolumeclaim/data-old-0", "{.metadata.creationTimestamp}")
	r.Eventually("another second", func() bool { return time.Now().UTC().Format(time.RFC3339) > created })
	r.apply(ns, "old", 1)
	r.told(ns, "old", "PersistentVolumeClaim data-old-0 is older than the StatefulSet", "MM404")
	if r.exists(ns, "secret/events-sasl") || r.exists(ns, "secret/old-sasl") {
		t.Error("new passwords were made for old volumes")
	}
}

func (r *rig) orphans(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("orphans")
	r.apply(ns, "events", 1)
	r.well(ns, "events")
	uid := r.field(ns, "service/events", "{.metadata.uid}")
	r.Must("", "delete", "-n", ns, "statefulset/events", "--cascade=orphan")
	r.Eventually("the Service is nobody's", func() bool { return r.field(ns, "service/events", "{.metadata.ownerReferences}") == "" })
	r.apply(ns, "events", 1)
	set := r.field(ns, "statefulset/events", "{.metadata.uid}")
	r.Eventually("the Service is the new set's", func() bool {
		return r.field(ns, "service/events", "{.metadata.uid} {.metadata.ownerReferences[*].uid}") == uid+" "+set
	})
	r.well(ns, "events")
}

// nodes: what the pods and their volumes say is told where people look.
func (r *rig) nodes(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("nodes")
	r.apply(ns, "events", 1, "storage-class: absent")
	r.told(ns, "events", "StorageClass absent does not exist", "data-events-0 waits for it", "MM406")
	if !strings.Contains(r.conditions(ns, "events"), `"type":"NodesHealthy","status":"False"`) {
		t.Error(r.conditions(ns, "events"))
	}
	status := func(pod, text string) {
		t.Helper()
		r.Eventually(pod, func() bool { return r.exists(ns, "pod/"+pod) })
		r.Must("", "patch", "-n", ns, "pod", pod, "--subresource=status", "--type=merge", "-p", text)
	}
	fails := func(list, container, message string) string {
		raw, _ := json.Marshal(message)
		return fmt.Sprintf(`{"status": {%q: [{"name": %q, "image": "x", "imageID": "", "ready": false, "restartCount": 1,
			"state": {"waiting": {"reason": "CrashLoopBackOff"}},
			"lastState": {"terminated": {"exitCode": 1, "reason": "Error", "message": %s, "startedAt": null, "finishedAt": null}}}]}}`, list, container, raw)
	}
	r.apply(ns, "other", 1)
	status("other-0", fails("initContainerStatuses", "metamorph-init", "the volume belongs to the cluster abc, and this is def; nothing was changed\n"))
	r.told(ns, "other", "Pod other-0 container metamorph-init ended with exit code 1: the volume belongs to the cluster abc, and this is def; nothing was changed", "kubectl logs -n nodes other-0 -c metamorph-init", "MM409")
	r.apply(ns, "port", 1)
	status("port-0", fails("containerStatuses", "kafka", "ERROR\torg.apache.kafka.common.KafkaException: Socket server failed to bind to 0.0.0.0:9092: Address already in use.\n"))
	r.told(ns, "port", "Address already in use", "MM409")
	r.apply(ns, "pull", 1)
	status("pull-0", `{"status": {"containerStatuses": [{"name": "kafka", "image": "x", "imageID": "", "ready": false, "restartCount": 0,
		"state": {"waiting": {"reason": "ImagePullBackOff", "message": "Back-off pulling image"}}}]}}`)
	r.told(ns, "pull", "cannot start container kafka: ImagePullBackOff", "metamorph.dev/image", "MM408")
	r.apply(ns, "full", 1)
	status("full-0", `{"status": {"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "lastTransitionTime": "2020-01-01T00:00:00Z",
		"message": "0/1 nodes are available: 1 node(s) didn't have free ports for the requested pod ports."}]}}`)
	r.told(ns, "full", "Pod full-0 finds no node", "free ports", "MM407")
}

func (r *rig) secondBudget(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("budget")
	r.Must(`{"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "mine"},
		"spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"metamorph.dev/name": "events"}}}}`, "create", "-n", ns, "-f", "-")
	r.apply(ns, "events", 1)
	r.told(ns, "events", "PodDisruptionBudget mine covers the pods already", "MM405")
	if r.exists(ns, "poddisruptionbudget/events") {
		t.Error("there are two")
	}
	r.well(ns, "events") // it is worth knowing, no more
	// Nor are there two after more looks, for which the return of the Service is a sign.
	for range 3 {
		r.Must("", "delete", "-n", ns, "service/events")
		r.Eventually("the Service is back", func() bool { return r.exists(ns, "service/events") })
	}
	if all := strings.Join(r.events(ns, "events"), "\n"); strings.Contains(all, "PodDisruptionBudget events") {
		t.Errorf("there were two for a while: %s", all)
	}
}

func (r *rig) tls(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("tls")
	r.apply(ns, "events", 1, "tls-secret: cert")
	r.told(ns, "events", "Secret cert does not exist", "*.events-headless.tls.svc", "MM403")
	r.Must("", "create", "-n", ns, "secret", "generic", "cert", "--from-literal=tls.crt=x", "--from-literal=tls.key=x", "--from-literal=ca.crt=line 1\nline 2\n")
	r.Must("", "annotate", "-n", ns, "statefulset/events", "try=again")
	r.Eventually("the client's Secret", func() bool { return r.exists(ns, "secret/events-client") })
	s := r.secret(ns, "events-client")
	if p := string(s.Data["client.properties"]); !strings.Contains(p, "security.protocol=SASL_SSL\n") || !strings.Contains(p, `ssl.truststore.certificates=line 1\nline 2\n`) || string(s.Data["ca.crt"]) != "line 1\nline 2\n" {
		t.Error("client.properties lacks the CA")
	}
}

// drift: whoever changes what is ours, it comes back; what others add to it stays.
func (r *rig) drift(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("drift")
	r.apply(ns, "events", 1)
	r.well(ns, "events")
	r.Must("", "label", "-n", ns, "service/events", "team=shop")
	r.Must("", "patch", "-n", ns, "service/events", "--type=merge", "-p", `{"spec": {"selector": {"metamorph.dev/name": "other"}}}`)
	r.Eventually("the selector is back", func() bool {
		return r.field(ns, "service/events", `{.spec.selector.metamorph\.dev/name} {.metadata.labels.team}`) == "events shop"
	})
	r.Must("", "delete", "-n", ns, "service/events-headless")
	r.Eventually("the Service is back", func() bool { return r.exists(ns, "service/events-headless") })
}

// podMonitor: where the API is, Prometheus finds the nodes that have metrics.
func (r *rig) podMonitor(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("metrics")
	r.apply(ns, "events", 1, `metrics: "true"`)
	r.Eventually("the PodMonitor", func() bool {
		return r.field(ns, "podmonitor/events", `{.spec.podMetricsEndpoints[0].port} of {.spec.selector.matchLabels.metamorph\.dev/name}, {.metadata.ownerReferences[0].name}`) == "metrics of events, events"
	})
	r.well(ns, "events")
}

// missingRights: each missing one is told of, on the StatefulSets where that is allowed.
func (r *rig) missingRights(t *testing.T) {
	r = r.sub(t)
	ns := r.namespace("rights")
	r.Must(`{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "poor"}, "rules": [
		{"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get", "list", "watch", "patch"]},
		{"apiGroups": ["", "policy"], "resources": ["services", "secrets", "pods", "persistentvolumeclaims", "configmaps", "poddisruptionbudgets"], "verbs": ["get", "list", "watch"]},
		{"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]}]}`, "create", "-f", "-")
	r.Must("", "create", "clusterrolebinding", "poor", "--clusterrole=poor", "--user=poor")
	r.Must(`{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "blind"}, "rules": [
		{"apiGroups": ["apps"], "resources": ["statefulsets"], "verbs": ["get", "list", "watch", "patch"]},
		{"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["create"]}]}`, "create", "-f", "-")
	r.Must("", "create", "clusterrolebinding", "blind", "--clusterrole=blind", "--user=blind")
	r.apply(ns, "events", 1)
	stop := r.control("blind")
	r.told(ns, "events", "ConfigMap cannot be watched", "cannot list resource", "manifests/webhook.yaml", "MM410")
	stop()
	stop = r.control("poor")
	r.told(ns, "events", "Secret events-sasl cannot be made", "cannot create resource", "MM410")
	r.told(ns, "events", "Service events-headless cannot be applied", "MM410")
	stop()
	r.control(user)
	r.well(ns, "events")
}
