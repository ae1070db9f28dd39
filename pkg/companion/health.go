package companion

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

var storageClassKind = schema.GroupVersionKind{Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass"}

// defaultClassAnnotation marks the class of claims that name none.
const defaultClassAnnotation = "storageclass.kubernetes.io/is-default-class"

// patience is how long scheduling, and what goes before it, may take before it is told of.
const patience = 15 * time.Second

// health tells why nodes are not what they should be: what Kubernetes and the pods say, in one place, with what to do.
func (r *run) health() {
	volumes := r.volumes()
	slices.SortFunc(r.pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	seen := map[string]bool{}
	for i := range r.pods {
		p := &r.pods[i]
		if !metav1.IsControlledBy(p, r.set) || p.DeletionTimestamp != nil || ready(p) {
			continue
		}
		problem, ok := r.node(p, volumes)
		// The same of every pod is one problem.
		if key := problem.Found; ok && !seen[key] {
			seen[key] = true
			r.problem(problem)
		}
	}
}

// volumes tells of claims that wait for a class that does not exist, and whether there are any.
func (r *run) volumes() bool {
	before := len(r.problems)
	told := map[string]bool{}
	for name, c := range r.claims {
		if c.Status.Phase == corev1.ClaimBound || !strings.HasPrefix(name, setting.DataVolume+"-") {
			continue
		}
		class := ""
		if c.Spec.StorageClassName != nil {
			class = *c.Spec.StorageClassName
		}
		if told[class] || c.Spec.StorageClassName != nil && class == "" { // "" asks for a volume without a class
			continue
		}
		told[class] = true
		switch there, err := r.classExists(class); {
		case err != nil:
			r.fail("StorageClass "+class, "read", err)
		case there:
		case class == "":
			r.problem(Problem{
				Code: setting.NoStorageClass, Reason: "StorageClassMissing", Object: "PersistentVolumeClaim " + name, Node: true,
				Found:  "names no StorageClass, and none is the default",
				Remedy: "Mark one with the annotation " + defaultClassAnnotation + "=true; or create the StatefulSet anew with metamorph.dev/storage-class",
			})
		default:
			r.problem(Problem{
				Code: setting.NoStorageClass, Reason: "StorageClassMissing", Object: "StorageClass " + class, Node: true,
				Found:  "does not exist; PersistentVolumeClaim " + name + " waits for it",
				Remedy: "Create it; or delete StatefulSet and claims, and create it anew with metamorph.dev/storage-class naming one that kubectl get storageclass lists",
			})
		}
	}
	return len(r.problems) > before
}

// classExists tells whether a class exists; "" is the default one.
func (r *run) classExists(name string) (bool, error) {
	if name != "" {
		class := &metav1.PartialObjectMetadata{}
		class.SetGroupVersionKind(storageClassKind)
		err := r.live.Get(r.ctx, client.ObjectKey{Name: name}, class)
		return err == nil, client.IgnoreNotFound(err)
	}
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(storageClassKind.GroupVersion().WithKind("StorageClassList"))
	if err := r.live.List(r.ctx, all); err != nil {
		return false, err
	}
	return slices.ContainsFunc(all.Items, func(c metav1.PartialObjectMetadata) bool { return c.Annotations[defaultClassAnnotation] == "true" }), nil
}

// node tells what keeps a pod from being ready, if that is more than time. waiting tells that volumes are known to be what it
// waits for.
func (r *run) node(p *corev1.Pod, waiting bool) (Problem, bool) {
	if c := condition(p, corev1.PodScheduled); c != nil && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
		if left := patience - r.clock.Since(c.LastTransitionTime.Time); left > 0 {
			r.soon = max(left, time.Second)
			return Problem{}, false
		}
		if waiting {
			return Problem{}, false
		}
		return Problem{
			Code: setting.Unschedulable, Reason: "Unschedulable", Object: "Pod " + p.Name, Node: true,
			Found:  "finds no node: " + oneLine(c.Message),
			Remedy: "Give the cluster such a node, or ask for less: metamorph.dev/memory, metamorph.dev/cpu, and what the spec says of ports, nodes and affinity",
		}, true
	}
	for _, s := range p.Status.InitContainerStatuses {
		if problem, ok := r.container(p, s); ok {
			return problem, true
		}
	}
	for _, s := range p.Status.ContainerStatuses {
		if problem, ok := r.container(p, s); ok {
			return problem, true
		}
	}
	return Problem{}, false
}

// overIt is for how long a container runs before its last end is no longer told of. It is longer than the longest pause before it
// is started again, so that one that fails again and again is told of all the time.
const overIt = 10 * time.Minute

// starting are the reasons of waiting that pass by themselves.
var starting = []string{"PodInitializing", "ContainerCreating", "CrashLoopBackOff"}

func (r *run) container(p *corev1.Pod, s corev1.ContainerStatus) (Problem, bool) {
	what := "Pod " + p.Name
	if w := s.State.Waiting; w != nil && w.Reason != "" && !slices.Contains(starting, w.Reason) {
		problem := Problem{Code: setting.CannotStart, Reason: "CannotStart", Object: what, Node: true, Found: fmt.Sprintf("cannot start container %s: %s: %s", s.Name, w.Reason, oneLine(w.Message))}
		problem.Remedy = "Correct what the message names"
		if strings.Contains(w.Reason, "Image") || strings.Contains(w.Reason, "Pull") {
			problem.Remedy = "Make the image available to the nodes, or name another one in metamorph.dev/image"
		}
		return problem, true
	}
	end := s.State.Terminated
	if end == nil {
		end = s.LastTerminationState.Terminated
	}
	if end == nil || end.ExitCode == 0 {
		return Problem{}, false
	}
	// One that has been running for long has got over it, although it may not be ready: a log is being recovered.
	if run := s.State.Running; run != nil {
		over := overIt
		if s.Ready {
			over = time.Minute // without a probe, a container is ready the moment it runs
		}
		if r.clock.Since(run.StartedAt.Time) > over {
			return Problem{}, false
		}
	}
	found := fmt.Sprintf("container %s ended with exit code %d", s.Name, end.ExitCode)
	if end.Reason == "OOMKilled" {
		return Problem{
			Code: setting.NodeFails, Reason: "NodeFails", Object: what, Node: true, Found: found + ": it ran out of memory",
			Remedy: "Raise metamorph.dev/memory, or lower metamorph.dev/heap: what is not heap needs room, too",
		}, true
	}
	// What other people's containers say is theirs.
	if end.Message != "" && (s.Name == setting.InitContainer || s.Name == string(r.cluster.Role)) {
		found += ": " + oneLine(end.Message)
	}
	return Problem{
		Code: setting.NodeFails, Reason: "NodeFails", Object: what, Node: true, Found: found,
		Remedy: fmt.Sprintf("kubectl logs -n %s %s -c %s --previous has more; it is started again by itself", p.Namespace, p.Name, s.Name),
	}, true
}

// happened tells of something that is no problem.
func (r *run) happened(reason, note string) { r.event(corev1.EventTypeNormal, reason, note) }
