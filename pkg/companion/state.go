package companion

import (
	"fmt"
	"maps"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/metamorph-k8s/metamorph/pkg/companion/object"
)

// readState gets what is recorded: from the cache, and if it is not there from the API server, because what follows from its
// absence cannot be undone.
func (r *run) readState() error {
	m, err := r.stateMap(r.cached)
	if err == nil && m == nil {
		m, err = r.stateMap(r.live)
	}
	if err != nil {
		return err
	}
	if m != nil {
		r.state = object.ReadState(m)
	} else {
		r.state = object.State{Ready: map[int]string{}}
	}
	return nil
}

func (r *run) stateMap(from client.Reader) (*corev1.ConfigMap, error) {
	m := &corev1.ConfigMap{}
	err := from.Get(r.ctx, client.ObjectKey{Namespace: r.set.Namespace, Name: r.cluster.StateName()}, m)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // none is no error
	}
	return m, err
}

// record writes which ordinals are Ready for the first time, each with the claim that its data is on. It only ever adds: a key
// that somebody deleted, to permit an empty volume, must not come back out of a cache that is behind.
func (r *run) record() {
	begun := r.begunAnew()
	seen := map[int]string{}
	for i := range r.pods {
		p := &r.pods[i]
		ordinal, ok := r.ordinal(p)
		if !ok || !metav1.IsControlledBy(p, r.set) || !ready(p) {
			continue
		}
		if uid, ok := r.claimOf(p); ok {
			seen[ordinal] = uid
		}
	}
	add := func(s object.State) object.State {
		if begun {
			s = object.State{Ready: map[int]string{}}
		}
		maps.Copy(s.Ready, seen)
		s.SecretSeen = s.SecretSeen || r.secretSeen
		s.Ensemble = s.Ensemble || r.cluster.OwnEnsemble()
		return s
	}
	what := "ConfigMap " + r.cluster.StateName()
	m, err := r.stateMap(r.cached)
	if err == nil && m != nil && !r.cluster.WriteState(m.DeepCopy(), add(object.ReadState(m))) {
		return
	}
	if err == nil {
		m, err = r.stateMap(r.live)
	}
	if err != nil {
		r.fail(what, "read", err)
		return
	}
	switch {
	case m == nil:
		m = r.cluster.NewState()
		r.cluster.WriteState(m, add(object.State{Ready: map[int]string{}}))
		if err := r.client.Create(r.ctx, m, client.FieldOwner(FieldManager)); err != nil {
			r.fail(what, "made", err)
			return
		}
		r.created = append(r.created, what)
	case !object.Ours(m.Labels, r.set.Name):
		r.problem(taken(what, "ConfigMap", m.Labels))
	case r.cluster.WriteState(m, add(object.ReadState(m))):
		// With the version that was read: who comes between has it tried again.
		if err := r.client.Update(r.ctx, m, client.FieldOwner(FieldManager)); err != nil {
			r.fail(what, "written", err)
		}
	}
	if begun {
		r.soon = retryFirst // the Secret may be made now
	}
}

// begunAnew tells that all volumes that are recorded are gone: somebody deleted them, and what is recorded is about another life of
// the cluster.
func (r *run) begunAnew() bool {
	var cached []string
	for _, c := range r.claims {
		cached = append(cached, string(c.UID))
	}
	if !r.state.Gone(cached) {
		return false
	}
	claims, err := r.liveClaims()
	if err != nil {
		r.fail("PersistentVolumeClaims", "listed", err)
		return false
	}
	var uids []string
	for i := range claims {
		uids = append(uids, string(claims[i].UID))
	}
	if !r.state.Gone(uids) {
		return false
	}
	r.happened("StateForgotten", fmt.Sprintf("All volumes that ConfigMap %s told of are gone: the cluster begins anew", r.cluster.StateName()))
	return true
}

// ordinal is the number at the end of a pod's name.
func (r *run) ordinal(p *corev1.Pod) (int, bool) {
	text, ok := strings.CutPrefix(p.Name, r.set.Name+"-")
	n, err := strconv.Atoi(text)
	return n, ok && err == nil
}

// claimOf is the UID of the claim that a pod's data is on, "" if it is on another kind of volume. It is false where there is
// nothing to record: the data goes with the pod, or the claim is not known just now.
func (r *run) claimOf(p *corev1.Pod) (string, bool) {
	for _, v := range p.Spec.Volumes {
		switch {
		case v.EmptyDir != nil:
			return "", false
		case v.PersistentVolumeClaim == nil:
			continue
		}
		name := v.PersistentVolumeClaim.ClaimName
		if c := r.claims[name]; c != nil {
			return string(c.UID), true
		}
		// One that somebody made beforehand has no label of ours.
		m := &metav1.PartialObjectMetadata{}
		m.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"))
		if err := r.live.Get(r.ctx, client.ObjectKey{Namespace: p.Namespace, Name: name}, m); err != nil {
			r.fail("PersistentVolumeClaim "+name, "read", err)
			return "", false
		}
		return string(m.UID), true
	}
	return "", true
}

func ready(p *corev1.Pod) bool {
	c := condition(p, corev1.PodReady)
	return c != nil && c.Status == corev1.ConditionTrue
}

func condition(p *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range p.Status.Conditions {
		if p.Status.Conditions[i].Type == kind {
			return &p.Status.Conditions[i]
		}
	}
	return nil
}
