//go:build e2e

package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
)

// run runs kubectl as the cluster's administrator.
func (c *cluster) run(ctx context.Context, stdin string, args ...string) (stdout, stderr string, err error) {
	cmd := exec.CommandContext(ctx, c.kubectl, args...)
	// Neither the user's preferences nor another cluster's cache may matter.
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.kubeconfig, "HOME="+c.home, "KUBERC=off", "KUBECACHEDIR="+c.home)
	cmd.Stdin = strings.NewReader(stdin)
	var out, report bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &report
	if err := cmd.Run(); err != nil {
		return out.String(), report.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(report.String()))
	}
	return out.String(), report.String(), nil
}

// eventually asks until the answer is yes; what stood in the way at last is told.
func eventually(ctx context.Context, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(ctx, patience, fmt.Errorf("not within %s", patience))
	defer cancel()
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var last error
	for {
		yes, err := ask()
		if yes {
			return nil
		}
		if err != nil && ctx.Err() == nil {
			last = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w (last: %w)", context.Cause(ctx), last)
		case <-tick.C:
		}
	}
}

// place is a namespace of one test.
type place struct {
	*testing.T
	*cluster
	name string
}

// newPlace makes a namespace, which is removed at the end with all that is in it. Its annotations are defaults.
func newPlace(t *testing.T, annotations map[string]string) *place {
	t.Helper()
	name, err := shared.newNamespace(t.Context(), annotations)
	if err != nil {
		t.Fatal(err)
	}
	p := &place{T: t, cluster: shared, name: name}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
		defer cancel()
		if t.Failed() {
			p.tellAll(ctx)
		}
		// Ensembles go with the clusters that they were made for. Nobody waits for brokers that take leave of each other, which can take
		// minutes (see leave).
		_, _, sets := p.run(ctx, "", "--namespace="+name, "delete", "statefulsets", "--selector=!app.kubernetes.io/managed-by", "--wait")
		_, _, pods := p.run(ctx, "", "--namespace="+name, "delete", "pods", "--all", "--force", "--grace-period=0")
		if err := errors.Join(sets, pods); err != nil {
			t.Error(err)
		}
		if _, _, err := p.run(ctx, "", "delete", "namespace", name, "--wait", "--timeout="+patience.String()); err != nil {
			t.Error(err)
		}
	})
	return p
}

// must runs kubectl in the namespace.
func (p *place) must(stdin string, args ...string) string {
	p.Helper()
	out, report, err := p.run(p.Context(), stdin, append([]string{"--namespace=" + p.name}, args...)...)
	if err != nil {
		p.Fatal(err)
	}
	if report != "" {
		p.Logf("kubectl %s: %s", strings.Join(args, " "), strings.TrimSpace(report))
	}
	return out
}

func (p *place) eventually(what string, ask func() (bool, error)) {
	p.Helper()
	if err := eventually(p.Context(), ask); err != nil {
		p.Fatalf("%s: %v", what, err)
	}
}

// leave waits until the pods of a deleted set have ended. Most often all are gone in seconds; but the last controller of a quorum
// may have nobody left to take leave of, and Kafka lets it try for five minutes.
func (p *place) leave() {
	p.Helper()
	began := time.Now()
	p.eventually("every node has left", func() (bool, error) {
		pods, err := p.client.CoreV1().Pods(p.name).List(p.Context(), metav1.ListOptions{LabelSelector: "metamorph.dev/name"})
		if err != nil {
			return false, err
		}
		return len(pods.Items) == 0, fmt.Errorf("%d pods are left", len(pods.Items))
	})
	p.Logf("every node has left after %s", time.Since(began).Round(100*time.Millisecond))
}

// tellAll says what there is to know about a failure.
func (p *place) tellAll(ctx context.Context) {
	for _, args := range [][]string{
		{"get", "statefulsets,pods,services,persistentvolumeclaims,secrets,configmaps", "--output=wide"},
		{"get", "events", "--sort-by=.lastTimestamp"},
		{"logs", "--selector=metamorph.dev/name", "--all-containers", "--prefix", "--tail=15"},
		{"logs", "--namespace=" + system, "--selector=app.kubernetes.io/name=metamorph", "--prefix", "--tail=15"},
	} {
		out, _, err := p.run(ctx, "", append([]string{"--namespace=" + p.name}, args...)...)
		p.Logf("kubectl %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// ready waits until all pods of a set are ready.
func (p *place) ready(set string, replicas int32) {
	p.Helper()
	p.eventually(set+" ready", func() (bool, error) {
		s, err := p.client.AppsV1().StatefulSets(p.name).Get(p.Context(), set, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		return s.Status.ReadyReplicas == replicas, fmt.Errorf("%d of %d pods are ready", s.Status.ReadyReplicas, replicas)
	})
}

// clientDir is where a client's pod has the Secret with what it needs to connect.
const clientDir = "/etc/client"

// inPod runs a script in a pod of the set's image that has what the Secret of its clients holds, and returns what it printed.
func (p *place) inPod(set, name, script string) string {
	p.Helper()
	p.Logf("%s: running", name)
	began := time.Now()
	s, err := p.client.AppsV1().StatefulSets(p.name).Get(p.Context(), set, metav1.GetOptions{})
	if err != nil {
		p.Fatal(err)
	}
	pods := p.client.CoreV1().Pods(p.name)
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: name + "-"},
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyNever,
			AutomountServiceAccountToken:  ptr.To(false),
			EnableServiceLinks:            ptr.To(false),
			TerminationGracePeriodSeconds: ptr.To[int64](0),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](1000), RunAsGroup: ptr.To[int64](1000), FSGroup: ptr.To[int64](1000),
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{
				Name: "client", Image: s.Spec.Template.Spec.Containers[0].Image,
				Command: []string{"bash", "-euo", "pipefail", "-c", script},
				Env: []corev1.EnvVar{
					{Name: "KAFKA_HEAP_OPTS", Value: "-Xmx128m -XX:TieredStopAtLevel=1"},
					{Name: "LOG_DIR", Value: "/tmp"},
					{Name: "BOOTSTRAP", ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
						LocalObjectReference: corev1.LocalObjectReference{Name: set + "-client"}, Key: "bootstrap.servers",
					}}},
				},
				SecurityContext: &corev1.SecurityContext{AllowPrivilegeEscalation: ptr.To(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}},
				VolumeMounts:    []corev1.VolumeMount{{Name: "client", MountPath: clientDir, ReadOnly: true}},
			}},
			Volumes: []corev1.Volume{{Name: "client", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: set + "-client"}}}},
		},
	}
	if pod, err = pods.Create(p.Context(), pod, metav1.CreateOptions{}); err != nil {
		p.Fatal(err)
	}
	p.eventually("pod "+pod.Name+" has ended", func() (bool, error) {
		if pod, err = pods.Get(p.Context(), pod.Name, metav1.GetOptions{}); err != nil {
			return false, err
		}
		return pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed, fmt.Errorf("it is %s", pod.Status.Phase)
	})
	out, err := pods.GetLogs(pod.Name, &corev1.PodLogOptions{}).DoRaw(p.Context())
	if err != nil {
		p.Fatal(err)
	}
	if pod.Status.Phase != corev1.PodSucceeded {
		p.Fatalf("%s: %s\n%s", name, pod.Status.Phase, out)
	}
	if err := pods.Delete(p.Context(), pod.Name, metav1.DeleteOptions{}); err != nil {
		p.Error(err)
	}
	p.Logf("%s: done in %s", name, time.Since(began).Round(100*time.Millisecond))
	return string(out)
}

// everything lists all objects of the namespace, as kind/name, but for what Kubernetes itself puts there.
func (p *place) everything() ([]string, error) {
	lists, err := p.client.Discovery().ServerPreferredNamespacedResources()
	if err != nil {
		return nil, err
	}
	var found []string
	for _, list := range lists {
		version, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			// Events are what has happened, not what is.
			if r.Kind == "Event" || !slices.Contains(r.Verbs, "list") || !slices.Contains(r.Verbs, "get") || version.Group == "metrics.k8s.io" {
				continue
			}
			objects, err := p.dynamic.Resource(version.WithResource(r.Name)).Namespace(p.name).List(p.Context(), metav1.ListOptions{})
			if err != nil {
				return nil, fmt.Errorf("%s: %w", r.Name, err)
			}
			for _, o := range objects.Items {
				if !ofKubernetes(o) {
					found = append(found, r.Kind+"/"+o.GetName())
				}
			}
		}
	}
	slices.Sort(found)
	return found, nil
}

func ofKubernetes(o unstructured.Unstructured) bool {
	switch o.GetKind() + "/" + o.GetName() {
	case "ConfigMap/kube-root-ca.crt", "ServiceAccount/default":
		return true
	}
	return false
}
