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

// record writes which ordinals are Ready for the first time, each with the claim that its data is on.
func (r *run) record() {
	before := maps.Clone(r.state.Ready)
	r.forget()
	for i := range r.pods {
		p := &r.pods[i]
		ordinal, ok := r.ordinal(p)
		if !ok || !metav1.IsControlledBy(p, r.set) || !ready(p) {
			continue
		}
		if uid := r.claimOf(p); r.state.Ready[ordinal] != uid || !has(r.state.Ready, ordinal) {
			r.state.Ready[ordinal] = uid
		}
	}
	what := "ConfigMap " + r.cluster.StateName()
	// The cache may be behind; an ordinal that another run recorded must not be lost.
	m, err := r.stateMap(r.cached)
	if err == nil && m != nil && object.Ours(m.Labels, r.set.Name) && !r.cluster.WriteState(m.DeepCopy(), r.state) {
		return
	}
	if err == nil {
		m, err = r.stateMap(r.live)
	}
	if err != nil {
		r.fail(what, "read", err)
		return
	}
	if m == nil {
		m = r.cluster.NewState()
		r.cluster.WriteState(m, r.state)
		if err := r.client.Create(r.ctx, m, client.FieldOwner(FieldManager)); err != nil {
			r.fail(what, "made", err)
			return
		}
		r.created = append(r.created, what)
		return
	}
	if !object.Ours(m.Labels, r.set.Name) {
		r.problem(taken(what, "ConfigMap"))
		return
	}
	for n, uid := range object.ReadState(m).Ready {
		if !has(r.state.Ready, n) && !has(before, n) {
			r.state.Ready[n] = uid
		}
	}
	if !r.cluster.WriteState(m, r.state) {
		return
	}
	if err := r.client.Update(r.ctx, m, client.FieldOwner(FieldManager)); err != nil {
		r.fail(what, "written", err)
	}
}

// forget drops what is recorded of volumes none of which is there any more: somebody deleted them all, and the cluster begins
// anew.
func (r *run) forget() {
	var cached []string
	for _, c := range r.claims {
		cached = append(cached, string(c.UID))
	}
	if !r.state.Gone(cached) {
		return
	}
	claims, err := r.liveClaims()
	if err != nil {
		r.fail("PersistentVolumeClaims", "listed", err)
		return
	}
	var uids []string
	for i := range claims {
		uids = append(uids, string(claims[i].UID))
	}
	if r.state.Gone(uids) {
		r.state.Ready = map[int]string{}
		r.happened("StateForgotten", fmt.Sprintf("All volumes that ConfigMap %s told of are gone: the cluster begins anew", r.cluster.StateName()))
	}
}

func has(m map[int]string, n int) bool { _, ok := m[n]; return ok }

// ordinal is the number at the end of a pod's name.
func (r *run) ordinal(p *corev1.Pod) (int, bool) {
	text, ok := strings.CutPrefix(p.Name, r.set.Name+"-")
	n, err := strconv.Atoi(text)
	return n, ok && err == nil
}

// claimOf is the UID of the claim that a pod's data is on, "" if it is on none.
func (r *run) claimOf(p *corev1.Pod) string {
	for _, v := range p.Spec.Volumes {
		if c := r.claims[v.PersistentVolumeClaim.ClaimName]; c != nil {
			return string(c.UID)
		}
	}
	return ""
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
