package companion

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/utils/clock"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/metamorph-k8s/metamorph/pkg/companion/object"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// Reconciler makes the companions of one StatefulSet what they should be.
type Reconciler struct {
	Options

	// client writes, live reads from the API server, cached reads what is watched.
	client       client.Client
	live, cached client.Reader
	apis         discovery.ServerResourcesInterface
	clock        clock.PassiveClock
	instance     string

	mu sync.Mutex
	// checked remembers what was read of a cluster's Secrets and of what else is not cached, so that the many small changes of
	// its pods do not make it read again.
	checked map[types.NamespacedName]checked
	// bad remembers since when something is wrong with a cluster.
	bad map[types.NamespacedName]time.Time

	monitoring sync.Mutex
	// monitors tells whether the cluster has PodMonitors, until it is to be asked again.
	monitors      bool
	monitorsUntil time.Time
}

// checked is what was found when all that is not watched was looked at.
type checked struct {
	fingerprint string
	at          time.Time
	notices     []Problem
}

func newReconciler(o Options, c client.Client) *Reconciler {
	return &Reconciler{
		Options: o, client: c, live: c, clock: clock.RealClock{}, instance: instance(),
		checked: map[types.NamespacedName]checked{}, bad: map[types.NamespacedName]time.Time{},
	}
}

// run is one reconciliation.
type run struct {
	*Reconciler

	ctx     context.Context //nolint:containedctx // It lives as long as the one call.
	set     *appsv1.StatefulSet
	cluster *object.Cluster
	state   object.State
	// pods and claims as they are cached, claims by name.
	pods   []corev1.Pod
	claims map[string]*corev1.PersistentVolumeClaim

	// created are the objects that this run made, for the Event.
	created  []string
	problems []Problem
	// secretSeen tells that there are passwords that can be used.
	secretSeen bool
	// partial tells that not everything was looked at: what is not told of is not solved.
	partial bool
	// dying tells that the StatefulSet, or its namespace, is being deleted, which checkedAlive tells was asked for.
	dying, checkedAlive bool
	// soon is when to look again although nothing is wrong; 0 for no such time.
	soon time.Duration
	err  error
}

// Reconcile implements [reconcile.Reconciler].
func (r *Reconciler) Reconcile(ctx context.Context, request reconcile.Request) (reconcile.Result, error) {
	if slices.Contains(r.Excluded, request.Namespace) {
		return reconcile.Result{}, nil
	}
	set := &appsv1.StatefulSet{}
	err := r.cached.Get(ctx, request.NamespacedName, set)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, err
	}
	// Of one that does not exist nothing can be read.
	cluster, ok := object.Read(set.Namespace, set.Name, set.Annotations)
	if !ok || set.DeletionTimestamp != nil {
		// What was made beside it is owned, and goes by itself. What is kept for the volumes is for people to delete: nobody else
		// can tell data that is given up from data that is about to be brought back.
		r.forget(request.NamespacedName)
		return reconcile.Result{}, nil
	}
	x := &run{Reconciler: r, ctx: ctx, set: set, cluster: cluster}
	x.reconcile()
	switch {
	case x.dying:
		return reconcile.Result{}, nil
	case x.err != nil:
		return reconcile.Result{}, x.err
	}
	return reconcile.Result{RequeueAfter: x.again()}, nil
}

// forget drops what is remembered of a StatefulSet that is not there, or not Metamorph's.
func (r *Reconciler) forget(key types.NamespacedName) {
	r.Metrics.forget(key)
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.checked, key)
	delete(r.bad, key)
}

func (r *run) reconcile() {
	if r.err = r.read(); r.err != nil {
		return
	}
	fingerprint := r.fingerprint()
	fresh := r.fresh(fingerprint)
	if !fresh {
		r.secrets()
	}
	for _, want := range r.cluster.Companions() {
		switch want.GetKind() {
		case "PodDisruptionBudget":
			if fresh && !r.told(setting.SecondBudget) || !fresh && r.alone(want) {
				r.ensure(want)
			}
		case object.PodMonitorKind.Kind:
			if !fresh && r.hasMonitors() {
				r.ensure(want)
			}
		default:
			r.ensure(want)
		}
	}
	r.record()
	if !fresh && r.err == nil && len(r.created) == 0 && !slices.ContainsFunc(r.problems, func(p Problem) bool { return !p.Notice }) {
		r.remember(fingerprint)
	}
	r.health()
	r.partial = r.err != nil
	r.Metrics.observe(client.ObjectKeyFromObject(r.set), r.problems)
	r.report()
}

// read gets what is cached of the cluster.
func (r *run) read() error {
	pods, claims := &corev1.PodList{}, &corev1.PersistentVolumeClaimList{}
	which := client.MatchingLabels{object.NameLabel: r.set.Name}
	if err := errors.Join(
		r.cached.List(r.ctx, pods, client.InNamespace(r.set.Namespace), which),
		r.cached.List(r.ctx, claims, client.InNamespace(r.set.Namespace), which),
	); err != nil {
		return err
	}
	r.pods, r.claims = pods.Items, map[string]*corev1.PersistentVolumeClaim{}
	for i := range claims.Items {
		r.claims[claims.Items[i].Name] = &claims.Items[i]
	}
	return r.readState()
}

// fingerprint tells of all that the Secrets follow from, as far as it is watched.
func (r *run) fingerprint() string {
	text := string(r.set.UID) + r.set.Annotations[setting.Prefix+"settings"]
	for _, name := range []string{r.cluster.SASLSecretName(), r.cluster.ClientSecretName(), r.cluster.Name} {
		if name == "" {
			continue
		}
		m := secretMetadata()
		if r.cached.Get(r.ctx, client.ObjectKey{Namespace: r.set.Namespace, Name: name}, m) == nil {
			text += "/" + m.ResourceVersion
		} else {
			text += "/-"
		}
	}
	// Another budget may match what the template adds to the labels.
	if len(r.pods) > 0 {
		text += "/" + labels.Set(r.pods[0].Labels).String()
	}
	budget := &policyv1.PodDisruptionBudget{}
	if r.cached.Get(r.ctx, client.ObjectKeyFromObject(r.set), budget) == nil {
		text += "/" + string(budget.UID)
	}
	return text
}

func (r *run) fresh(fingerprint string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	c, ok := r.checked[client.ObjectKeyFromObject(r.set)]
	if !ok || c.fingerprint != fingerprint || r.clock.Since(c.at) >= resync-time.Second {
		return false
	}
	r.problems = append(r.problems, c.notices...)
	return true
}

func (r *run) remember(fingerprint string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.checked[client.ObjectKeyFromObject(r.set)] = checked{fingerprint, r.clock.Now(), slices.Clone(r.problems)}
}

// problem notes a problem.
func (r *run) problem(p Problem) { r.problems = append(r.problems, p) }

// told tells that a problem of this code was noted.
func (r *run) told(code setting.Code) bool {
	return slices.ContainsFunc(r.problems, func(p Problem) bool { return p.Code == code })
}

// fail notes an error: a refusal is a problem, everything else is tried again.
func (r *run) fail(what, verb string, err error) {
	if apierrors.HasStatusCause(err, corev1.NamespaceTerminatingCause) {
		r.dying = true
		return
	}
	if p, ok := refusal(what, verb, err); ok {
		r.problem(p)
		return
	}
	r.err = errors.Join(r.err, fmt.Errorf("%s cannot be %s: %w", what, verb, err))
}

// alone tells that no other budget covers the pods: with two, every eviction fails (k8s.io/kubernetes, pods/eviction). Ours
// gives way.
func (r *run) alone(ours *unstructured.Unstructured) bool {
	var all policyv1.PodDisruptionBudgetList
	if err := r.live.List(r.ctx, &all, client.InNamespace(r.set.Namespace)); err != nil {
		r.fail("PodDisruptionBudgets", "listed", err)
		return false
	}
	var mine *policyv1.PodDisruptionBudget
	other := ""
	for i := range all.Items {
		b := &all.Items[i]
		if b.Name == ours.GetName() {
			if object.Ours(b.Labels, r.set.Name) {
				mine = b
			}
			continue
		}
		selector, err := metav1.LabelSelectorAsSelector(b.Spec.Selector)
		if err == nil && r.selects(selector) {
			other = b.Name
		}
	}
	if other == "" {
		return true
	}
	if mine != nil {
		if err := r.remove(mine); err != nil {
			r.fail("PodDisruptionBudget "+mine.Name, "deleted", err)
		}
	}
	r.problem(Problem{
		Code: setting.SecondBudget, Reason: "SecondBudget", Object: "PodDisruptionBudget " + other, Notice: true,
		Found:  "covers the pods already, so Metamorph makes none of its own: with two, no pod could ever be evicted",
		Remedy: "Nothing to do if it allows one pod to be missing; delete it to get Metamorph's",
	})
	return false
}

// selects tells whether a selector matches the pods: by the labels that they have, else those that they will have at least.
func (r *run) selects(s labels.Selector) bool {
	for i := range r.pods {
		if s.Matches(labels.Set(r.pods[i].Labels)) {
			return true
		}
	}
	return s.Matches(labels.Set(r.cluster.Selector()))
}

// The times after which the API server is asked again whether it has PodMonitors, and after which if it did not answer.
const (
	monitorsInterval = 5 * time.Minute
	monitorsRetry    = 30 * time.Second
)

func (r *run) hasMonitors() bool {
	r.monitoring.Lock()
	defer r.monitoring.Unlock()
	now := r.clock.Now()
	if now.Before(r.monitorsUntil) {
		return r.monitors
	}
	list, err := r.apis.ServerResourcesForGroupVersion(object.PodMonitorKind.GroupVersion().String())
	if err != nil && !apierrors.IsNotFound(err) {
		r.Log.Error(err, "Cannot learn whether there are PodMonitors")
		r.monitors, r.monitorsUntil = false, now.Add(monitorsRetry)
		return false
	}
	r.monitors = err == nil && slices.ContainsFunc(list.APIResources, func(kind metav1.APIResource) bool { return kind.Kind == object.PodMonitorKind.Kind })
	r.monitorsUntil = now.Add(monitorsInterval)
	return r.monitors
}

// again is when to look at the cluster without being told to.
func (r *run) again() time.Duration {
	next := resync
	if age, bad := r.age(); bad {
		next = min(max(age/2, retryFirst), retryMost)
	}
	if r.soon > 0 {
		next = min(next, r.soon)
	}
	return next
}
