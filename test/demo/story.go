package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/kubernetes"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/apidefaults"
	"github.com/metamorph-k8s/metamorph/test/apiserver"
)

const pollInterval = 100 * time.Millisecond

func (d *demo) startControlPlane(ctx context.Context) (err error) {
	d.step("A real control plane: etcd, kube-apiserver, kube-controller-manager; no nodes")
	began := time.Now()
	if d.server, err = apiserver.Start(ctx, apiserver.Options{Progress: d.out, ControllerManager: true}); err != nil {
		return err
	}
	version, _, err := d.server.Kubectl(ctx, "", "version", "-o", "json")
	if err != nil {
		return err
	}
	var v struct {
		ServerVersion struct{ GitVersion string }
	}
	if err := json.Unmarshal([]byte(version), &v); err != nil {
		return err
	}
	d.say("   Kubernetes %s answers after %.1f s", v.ServerVersion.GitVersion, time.Since(began).Seconds())
	// Every cluster that one can run Kafka in has one, and a policy tells of one that has not.
	_, report, err := d.server.Kubectl(ctx, defaultClass, "apply", "-f", "-")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, report)
	}
	return nil
}

const defaultClass = `apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: standard, annotations: {storageclass.kubernetes.io/is-default-class: "true"}}
provisioner: example.com/disk
allowVolumeExpansion: true
`

// apply applies the manifest, and shows what stood in it and what became of it.
func (d *demo) apply(ctx context.Context) error {
	raw, err := os.ReadFile(d.file)
	if err != nil {
		return err
	}
	d.step("What you write: " + d.file)
	d.show(string(raw))

	d.step("What the API server stores")
	if err := d.kubectl(ctx, string(raw), "apply", "-f", "-"); err != nil {
		return err
	}
	live, err := d.live(ctx, string(raw))
	if err != nil {
		return err
	}
	out, err := d.expandOffline(ctx, raw)
	if err != nil {
		return err
	}
	if err := same(live, out.Object); err != nil {
		return err
	}
	return d.showFields(out.Fields)
}

// applied returns the manifest that was applied, and the StatefulSet that is stored for it.
func (d *demo) applied(ctx context.Context) (manifest string, live map[string]any, err error) {
	raw, err := os.ReadFile(d.file)
	if err != nil {
		return "", nil, err
	}
	live, err = d.live(ctx, string(raw))
	return string(raw), live, err
}

// live reads the StatefulSet of a manifest from the API server.
func (d *demo) live(ctx context.Context, manifest string) (map[string]any, error) {
	var head metav1.PartialObjectMetadata
	if err := yaml.Unmarshal([]byte(manifest), &head); err != nil {
		return nil, err
	}
	text, _, err := d.server.Kubectl(ctx, "", "get", "statefulset", head.Name, "-o", "json")
	if err != nil {
		return nil, err
	}
	var live map[string]any
	return live, json.Unmarshal([]byte(text), &live)
}

// expandOffline expands the manifest in this process, which is what the webhook did in the cluster.
func (d *demo) expandOffline(ctx context.Context, manifest []byte) (*mutate.Output, error) {
	client, err := kubernetes.NewForConfig(d.server.Config)
	if err != nil {
		return nil, err
	}
	system, err := client.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	object, err := yaml.YAMLToJSON(manifest)
	if err != nil {
		return nil, err
	}
	return mutate.Expand(mutate.Input{
		Object: object, Namespace: mutate.Namespace{Name: metav1.NamespaceDefault}, ClusterUID: string(system.UID), Explain: true,
	})
}

// same holds the stored spec against that of the expansion here.
func same(live, expanded map[string]any) error {
	spec := func(obj map[string]any) (string, error) {
		var set appsv1.StatefulSet
		obj = map[string]any{"apiVersion": obj["apiVersion"], "kind": obj["kind"], "spec": obj["spec"]}
		raw, err := json.Marshal(obj)
		if err != nil {
			return "", err
		}
		if err := json.Unmarshal(raw, &obj); err != nil {
			return "", err
		}
		apidefaults.Apply(obj)
		apidefaults.Prune(obj)
		if err := runtime.DefaultUnstructuredConverter.FromUnstructured(obj, &set); err != nil {
			return "", err
		}
		text, err := yaml.Marshal(set.Spec)
		return string(text), err
	}
	a, errA := spec(live)
	b, errB := spec(expanded)
	if err := errors.Join(errA, errB); err != nil {
		return err
	}
	if a != b {
		return fmt.Errorf("the stored spec is not what it should be: %s", firstDifference(a, b))
	}
	return nil
}

func firstDifference(a, b string) string {
	linesA, linesB := strings.Split(a, "\n"), strings.Split(b, "\n")
	for i := range min(len(linesA), len(linesB)) {
		if linesA[i] != linesB[i] {
			return fmt.Sprintf("line %d: stored %q, expected %q", i+1, linesA[i], linesB[i])
		}
	}
	return fmt.Sprintf("%d lines stored, %d expected", len(linesA), len(linesB))
}

// telling are the fields that are shown: beginnings and endings of paths, in the order of the story.
var telling = []struct{ title, field string }{
	{"replicas", "spec.replicas"},
	{"headless Service", "spec.serviceName"},
	{"pods start", "spec.podManagementPolicy"},
	{"image", "containers[kafka].image"},
	{"heap", "containers[kafka].env[MM_HEAP_OPTS]"},
	{"memory limit", "containers[kafka].resources.limits.memory"},
	{"cpu request", "containers[kafka].resources.requests.cpu"},
	{"volume", "volumeClaimTemplates[data].spec.resources.requests.storage"},
	{"quorum", "[controller.quorum.voters]"},
	{"copies of a topic", "[default.replication.factor]"},
	{"of them in sync", "[min.insync.replicas]"},
	{"topics by typo", "[auto.create.topics.enable]"},
	{"listeners", "[listener.security.protocol.map]"},
	{"clients log in by", "[listener.name.client.sasl.enabled.mechanisms]"},
	{"passwords", "volumes[metamorph-sasl]"},
	{"ready when", "containers[kafka].readinessProbe"},
	{"privileges", "containers[kafka].securityContext.capabilities"},
	{"root", "spec.securityContext.runAsNonRoot"},
	{"time to stop", "terminationGracePeriodSeconds"},
}

func (d *demo) showFields(fields []mutate.Field) error {
	d.say("\n   The spec is, field by field, what `metamorph expand` makes offline. Where its fields come from:\n")
	shown := 0
	if d.all {
		for _, f := range fields {
			d.say("   %s", f)
		}
		return nil
	}
	for _, t := range telling {
		i := slices.IndexFunc(fields, func(f mutate.Field) bool { return strings.HasSuffix(f.Path, t.field) })
		if i < 0 {
			if d.file == defaultManifest {
				return fmt.Errorf("no field %s in the expanded object", t.field)
			}
			continue
		}
		shown++
		d.say("   %-18s %-52s ← %s", t.title, short(fields[i].Value), fields[i].Why())
	}
	d.say("   … and %d more: metamorph expand -f %s --explain", len(fields)-shown, d.file)
	return nil
}

// short writes a value in a few characters.
func short(v any) string {
	text := fmt.Sprint(v)
	switch v := v.(type) {
	case map[string]any:
		if value, ok := v["value"].(string); ok {
			text = value // an environment variable
			break
		}
		if secret, ok := v["secret"].(map[string]any); ok {
			text = fmt.Sprintf("Secret %v", secret["secretName"])
			break
		}
		raw, err := json.Marshal(v)
		if err == nil {
			text = string(raw)
		}
	case []any:
		raw, err := json.Marshal(v)
		if err == nil {
			text = string(raw)
		}
	}
	if r := []rune(text); len(r) > 52 {
		text = string(r[:51]) + "…"
	}
	return text
}

// applyAgain applies the same manifest once more: nothing may change.
func (d *demo) applyAgain(ctx context.Context) error {
	d.step("Applying the same again changes nothing")
	manifest, before, err := d.applied(ctx)
	if err != nil {
		return err
	}
	if err := d.kubectl(ctx, manifest, "apply", "-f", "-"); err != nil {
		return err
	}
	if err := d.unchanged(ctx, manifest, before); err != nil {
		return err
	}
	// The same, as a client that sends the whole object.
	if err := d.kubectl(ctx, manifest, "apply", "--server-side", "--force-conflicts", "-f", "-"); err != nil {
		return err
	}
	return d.unchanged(ctx, manifest, before)
}

func (d *demo) unchanged(ctx context.Context, manifest string, before map[string]any) error {
	after, err := d.live(ctx, manifest)
	if err != nil {
		return err
	}
	was, is := generation(before), generation(after)
	d.say("   generation %d before, %d after", was, is)
	if was != is {
		return errors.Join(errors.New("the generation changed although nothing was changed"), same(after, before))
	}
	return nil
}

func generation(obj map[string]any) int64 {
	md, _ := obj["metadata"].(map[string]any)
	n, _ := md["generation"].(float64)
	return int64(n)
}

// change changes one annotation, and shows what follows from it.
func (d *demo) change(ctx context.Context) error {
	d.step("One annotation changes, and what follows from it")
	manifest, before, err := d.applied(ctx)
	if err != nil {
		return err
	}
	name := nameOf(before)
	if err := d.kubectl(ctx, "", "annotate", "statefulset", name, "metamorph.dev/heap=4Gi"); err != nil {
		return err
	}
	after, err := d.live(ctx, manifest)
	if err != nil {
		return err
	}
	const path = "{.spec.template.spec.containers[0].resources.limits.memory}"
	memory, _, err := d.server.Kubectl(ctx, "", "get", "statefulset", name, "-o", "jsonpath="+path)
	if err != nil {
		return err
	}
	d.say("   memory limit %s, generation %d", memory, generation(after))
	if memory != "8Gi" || generation(after) != generation(before)+1 {
		return errors.New("want a memory limit of 8Gi, twice the heap, and one generation more")
	}
	return nil
}

func nameOf(obj map[string]any) string {
	md, _ := obj["metadata"].(map[string]any)
	name, _ := md["name"].(string)
	return name
}

const wrong = `apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: wrong
  annotations:
    metamorph.dev/role: kafka
    metamorph.dev/heap: 4GB
    metamorph.dev/replication-factor: "5"
    metamorph.dev/partition: "12"
spec: {replicas: 3}
`

// refuse applies a manifest with three mistakes, which must all be named.
func (d *demo) refuse(ctx context.Context) error {
	d.step("Mistakes are refused, all at once, and nothing is half-applied")
	d.show(wrong)
	d.say("   $ kubectl apply -f -")
	_, report, err := d.server.Kubectl(ctx, wrong, "apply", "-f", "-")
	if err == nil {
		return errors.New("it was accepted")
	}
	d.show(report)
	for _, want := range []string{"metamorph.dev/heap", "metamorph.dev/replication-factor", "metamorph.dev/partition", "MM101", "MM102", "MM105"} {
		if !strings.Contains(report, want) {
			return fmt.Errorf("the message does not name %s", want)
		}
	}
	client, err := kubernetes.NewForConfig(d.server.Config)
	if err != nil {
		return err
	}
	_, err = client.AppsV1().StatefulSets(metav1.NamespaceDefault).Get(ctx, "wrong", metav1.GetOptions{})
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("the refused StatefulSet is there: %w", err)
	}
	return nil
}

// risky can be expanded, and its brokers would be killed for their memory.
const risky = `apiVersion: apps/v1
kind: StatefulSet
metadata:
  name: risky
  annotations:
    metamorph.dev/role: kafka
    metamorph.dev/heap: 1900Mi
    metamorph.dev/memory: 2Gi
spec: {replicas: 3}
`

// judge applies a manifest that a policy denies, then what the denial offers, and scales a set to too few nodes.
func (d *demo) judge(ctx context.Context) error {
	d.step("Policies judge the result, and say what would pass")
	d.show(risky)
	d.say("   $ kubectl apply -f -")
	_, report, err := d.server.Kubectl(ctx, risky, "apply", "-f", "-")
	if err == nil {
		return errors.New("it was accepted")
	}
	d.show(report)
	offer := regexp.MustCompile(`this passes: metamorph\.dev/heap: (\S+) \(MM301\)`).FindStringSubmatch(report)
	if offer == nil {
		return errors.New("the message offers no heap that would pass")
	}
	d.say("   $ kubectl apply -f -   # with metamorph.dev/heap: " + offer[1])
	out, report, err := d.server.Kubectl(ctx, strings.Replace(risky, "1900Mi", offer[1], 1), "apply", "-f", "-")
	if err != nil {
		return fmt.Errorf("%w\n%s", err, report)
	}
	d.show(out)
	d.say("   $ kubectl scale statefulset/risky --replicas=1")
	_, report, err = d.server.Kubectl(ctx, "", "scale", "statefulset/risky", "--replicas=1")
	if err == nil || !strings.Contains(report, "MM326") {
		return fmt.Errorf("two of three controllers were removed: %w\n%s", err, report)
	}
	d.show(report)
	return nil
}

// pods waits until the StatefulSet controller has made the pods. There is no node to run them.
func (d *demo) pods(ctx context.Context) error {
	d.step("The pods that the StatefulSet controller made of it")
	_, live, err := d.applied(ctx)
	if err != nil {
		return err
	}
	spec, _ := live["spec"].(map[string]any)
	want, _ := spec["replicas"].(float64)
	client, err := kubernetes.NewForConfig(d.server.Config)
	if err != nil {
		return err
	}
	selector := "metamorph.dev/name=" + nameOf(live)
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err = wait.PollUntilContextCancel(waiting, pollInterval, true, func(ctx context.Context) (bool, error) {
		pods, err := client.CoreV1().Pods(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{LabelSelector: selector})
		return err == nil && len(pods.Items) == int(want), err
	})
	if err != nil {
		return fmt.Errorf("waiting for %v pods: %w", want, err)
	}
	if err := d.kubectl(ctx, "", "get", "pods", "-l", selector, "-o", "custom-columns="+
		"NAME:.metadata.name,PHASE:.status.phase,IMAGE:.spec.containers[0].image,MEMORY:.spec.containers[0].resources.limits.memory"); err != nil {
		return err
	}
	d.say("   They stay Pending: this control plane has no node.")
	return d.companions(ctx, nameOf(live))
}

// companions shows what Metamorph made beside the StatefulSet.
func (d *demo) companions(ctx context.Context, name string) error {
	d.step("What Metamorph made beside it")
	selector := "metamorph.dev/name=" + name + ",app.kubernetes.io/managed-by=metamorph"
	waiting, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	err := wait.PollUntilContextCancel(waiting, pollInterval, true, func(ctx context.Context) (bool, error) {
		_, _, err := d.server.Kubectl(ctx, "", "get", "service/"+name, "secret/"+name+"-client", "configmap/"+name+"-state", "poddisruptionbudget/"+name)
		return err == nil, nil
	})
	if err != nil {
		return fmt.Errorf("waiting for the companions: %w", err)
	}
	return d.kubectl(ctx, "", "get", "services,poddisruptionbudgets,secrets,configmaps", "-l", selector, "-o", "custom-columns=KIND:.kind,NAME:.metadata.name")
}
