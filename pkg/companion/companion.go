// Package companion keeps the objects that a managed StatefulSet needs beside it: Services, passwords, the disruption budget,
// the ZooKeeper ensemble, the record of which nodes were ever ready. A webhook has no side effects, so it cannot make them.
//
// What the objects are is in package object. Here they are applied, by server-side apply and with a field manager of
// their own, and what stands in the way is told: as Events on the StatefulSet, and in its annotation
// metamorph.dev/conditions. An object that somebody else made is never taken over.
package companion

import (
	"context"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/metamorph-k8s/metamorph/pkg/companion/object"
)

// Recorder writes Events. One whose name is taken is an error that says so (apierrors.IsAlreadyExists).
type Recorder interface {
	Record(ctx context.Context, e *eventsv1.Event) error
}

// Options say how to run.
type Options struct {
	// Config is how the API server is reached.
	Config *rest.Config
	// Recorder is for Events; nil writes none.
	Recorder Recorder
	// Metrics to count in; nil counts nowhere.
	Metrics *Metrics
	Log     logr.Logger
	// Excluded namespaces are not looked at.
	Excluded []string
	// Workers is how many clusters are seen to at a time; 0 means [DefaultWorkers].
	Workers int
	// Synced, if not nil, is called when the caches are complete.
	Synced func()
}

// DefaultWorkers is enough for a namespace full of clusters to appear within a second.
const DefaultWorkers = 4

// The times between two looks at a cluster.
const (
	// resync is for what nobody watches: Secrets that users made, other people's budgets.
	resync = 10 * time.Minute
	// retryFirst and retryMost bound the time until a problem is looked at again; it grows with the problem's age.
	retryFirst = 5 * time.Second
	retryMost  = 5 * time.Minute
	// rightsInterval is how often missing rights are looked at again.
	rightsInterval = 30 * time.Second
)

// Run keeps the companions of all managed StatefulSets until the context ends. Only one replica may do so at a time.
func Run(ctx context.Context, o Options) error {
	scheme, err := newScheme()
	if err != nil {
		return err
	}
	mapper := newMapper()
	// Clusters shall have their companions within a second, also when many are applied at once. API servers protect themselves
	// (API priority and fairness), and the workers bound what is asked at a time.
	o.Config = rest.CopyConfig(o.Config)
	o.Config.QPS = -1
	clientOptions := client.Options{Scheme: scheme, Mapper: mapper}
	live, err := client.New(o.Config, clientOptions)
	if err != nil {
		return err
	}
	apis, err := discovery.NewDiscoveryClientForConfig(o.Config)
	if err != nil {
		return err
	}
	r := newReconciler(o, live)
	r.apis = apis
	if err := r.waitForRights(ctx); err != nil {
		return nil // the end came first
	}
	cached, err := cache.New(o.Config, cacheOptions(scheme, mapper))
	if err != nil {
		return err
	}
	r.cached = cached
	c, err := r.controller(cached)
	if err != nil {
		return err
	}
	caching, stop := context.WithCancel(ctx)
	done := make(chan error, 1)
	go func() { done <- cached.Start(caching) }()
	if o.Synced != nil {
		go func() {
			if cached.WaitForCacheSync(ctx) {
				o.Synced()
			}
		}()
	}
	err = c.Start(ctx)
	stop()
	if failed := <-done; err == nil {
		err = failed
	}
	return err
}

func (r *Reconciler) controller(cached cache.Cache) (controller.Controller, error) {
	workers := r.Workers
	if workers == 0 {
		workers = DefaultWorkers
	}
	c, err := controller.NewUnmanaged("companion", controller.Options{
		Reconciler: r, MaxConcurrentReconciles: workers, SkipNameValidation: ptr.To(true),
		LogConstructor: func(*reconcile.Request) logr.Logger { return r.Log },
		RateLimiter:    workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, retryMost),
	})
	if err != nil {
		return nil, err
	}
	return c, watch(c, cached, r)
}

func watch(c controller.Controller, cached cache.Cache, r *Reconciler) error {
	of := func(o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetLabels()[object.NameLabel]}}}
	}
	byName := handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request { return of(o) })
	// The last claim of a cluster may be what its Secret lived for.
	claims := handler.Funcs{
		CreateFunc: func(_ context.Context, e event.CreateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			q.Add(of(e.Object)[0])
		},
		UpdateFunc: func(_ context.Context, e event.UpdateEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			q.Add(of(e.ObjectNew)[0])
		},
		DeleteFunc: func(_ context.Context, e event.DeleteEvent, q workqueue.TypedRateLimitingInterface[reconcile.Request]) {
			request := of(e.Object)[0]
			r.lostClaim(request.NamespacedName)
			q.Add(request)
		},
	}
	// The ensemble is a companion of the cluster, and a cluster itself.
	sets := handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		requests := []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(o)}}
		if owner := metav1.GetControllerOf(o); owner != nil && owner.Kind == "StatefulSet" {
			requests = append(requests, reconcile.Request{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: owner.Name}})
		}
		return requests
	})
	for _, w := range []struct {
		kind client.Object
		h    handler.EventHandler
	}{
		{&appsv1.StatefulSet{}, sets},
		{&corev1.Service{}, byName},
		{&policyv1.PodDisruptionBudget{}, byName},
		{&corev1.ConfigMap{}, byName},
		{secretMetadata(), byName},
		{&corev1.Pod{}, byName},
		{&corev1.PersistentVolumeClaim{}, claims},
	} {
		if err := c.Watch(source.Kind(cached, w.kind, w.h)); err != nil {
			return err
		}
	}
	return nil
}

// newScheme knows the kinds that are read and written, and no others: each costs memory.
func newScheme() (*runtime.Scheme, error) {
	s := runtime.NewScheme()
	s.AddKnownTypes(appsv1.SchemeGroupVersion, &appsv1.StatefulSet{}, &appsv1.StatefulSetList{})
	s.AddKnownTypes(corev1.SchemeGroupVersion,
		&corev1.Service{}, &corev1.ServiceList{}, &corev1.ConfigMap{}, &corev1.ConfigMapList{}, &corev1.Secret{}, &corev1.SecretList{},
		&corev1.Pod{}, &corev1.PodList{}, &corev1.PersistentVolumeClaim{}, &corev1.PersistentVolumeClaimList{})
	s.AddKnownTypes(policyv1.SchemeGroupVersion, &policyv1.PodDisruptionBudget{}, &policyv1.PodDisruptionBudgetList{})
	metav1.AddToGroupVersion(s, appsv1.SchemeGroupVersion)
	metav1.AddToGroupVersion(s, corev1.SchemeGroupVersion)
	metav1.AddToGroupVersion(s, policyv1.SchemeGroupVersion)
	return s, metav1.AddMetaToScheme(s)
}

// newMapper knows the paths of these kinds, so that the start needs no discovery.
func newMapper() meta.RESTMapper {
	m := meta.NewDefaultRESTMapper(nil)
	for _, k := range []string{"Service", "ConfigMap", "Secret", "Pod", "PersistentVolumeClaim"} {
		m.Add(corev1.SchemeGroupVersion.WithKind(k), meta.RESTScopeNamespace)
	}
	m.Add(appsv1.SchemeGroupVersion.WithKind("StatefulSet"), meta.RESTScopeNamespace)
	m.Add(policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"), meta.RESTScopeNamespace)
	m.Add(storageClassKind, meta.RESTScopeRoot)
	m.Add(object.PodMonitorKind, meta.RESTScopeNamespace)
	return m
}

// cacheOptions keep the cache to what is Metamorph's, by label, and of that to what is asked for: its memory must not grow with
// the cluster.
func cacheOptions(scheme *runtime.Scheme, mapper meta.RESTMapper) cache.Options {
	made := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{object.ManagedByLabel: object.ManagedBy}).Add(exists(object.NameLabel)), Transform: cache.TransformStripManagedFields()}
	named := labels.NewSelector().Add(exists(object.NameLabel))
	return cache.Options{Scheme: scheme, Mapper: mapper, ByObject: map[client.Object]cache.ByObject{
		&appsv1.StatefulSet{}:           {Label: named, Transform: slimSet},
		&corev1.Pod{}:                   {Label: named, Transform: slimPod},
		&corev1.PersistentVolumeClaim{}: {Label: named, Transform: slimClaim},
		&corev1.Service{}:               made,
		&policyv1.PodDisruptionBudget{}: made,
		&corev1.ConfigMap{}:             made,
		secretMetadata():                made,
	}}
}

func exists(label string) labels.Requirement {
	r, err := labels.NewRequirement(label, selection.Exists, nil)
	if err != nil {
		panic(err) // of a constant
	}
	return *r
}

func secretMetadata() *metav1.PartialObjectMetadata {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Secret"))
	return m
}

// waitForRights waits until all that is watched may be listed: a cache that is refused one kind would wait for it in silence.
func (r *Reconciler) waitForRights(ctx context.Context) error {
	for {
		missing := r.missingRights(ctx)
		if len(missing) == 0 {
			return ctx.Err()
		}
		for _, p := range missing {
			r.Log.Error(nil, "The companions wait for a right", "problem", p.String())
		}
		r.tellAll(ctx, missing)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(rightsInterval):
		}
	}
}

func (r *Reconciler) missingRights(ctx context.Context) []Problem {
	var missing []Problem
	for _, kind := range []string{"StatefulSet", "Service", "PodDisruptionBudget", "ConfigMap", "Secret", "Pod", "PersistentVolumeClaim"} {
		list := &metav1.PartialObjectMetadataList{}
		gv := corev1.SchemeGroupVersion
		switch kind {
		case "StatefulSet":
			gv = appsv1.SchemeGroupVersion
		case "PodDisruptionBudget":
			gv = policyv1.SchemeGroupVersion
		}
		list.SetGroupVersionKind(gv.WithKind(kind + "List"))
		err := r.live.List(ctx, list, client.Limit(1), client.HasLabels{object.NameLabel})
		if apierrors.IsForbidden(err) {
			p, _ := refusal(kind, "watched", err)
			missing = append(missing, p)
		}
	}
	return missing
}

// tellAll tells of problems that all clusters have.
func (r *Reconciler) tellAll(ctx context.Context, problems []Problem) {
	var sets appsv1.StatefulSetList
	if err := r.live.List(ctx, &sets, client.HasLabels{object.NameLabel}); err != nil {
		return // it is in the log
	}
	for i := range sets.Items {
		if c, ok := object.Read(sets.Items[i].Namespace, sets.Items[i].Name, sets.Items[i].Annotations); ok {
			x := &run{Reconciler: r, ctx: ctx, set: &sets.Items[i], cluster: c, problems: problems}
			x.report()
		}
	}
}
