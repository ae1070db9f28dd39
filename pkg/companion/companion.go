// Package companion keeps the objects that a managed StatefulSet needs beside it: Services, passwords, the disruption budget,
// the ZooKeeper ensemble, the record of which nodes were ever ready. A webhook has no side effects, so it cannot make them.
//
// What the objects are is in package object. Here they are applied, by server-side apply and with a field manager of
// their own, and what stands in the way is told: as Events on the StatefulSet, and in its annotation
// metamorph.dev/conditions. An object that somebody else made is never taken over.
package companion

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/metamorph-k8s/metamorph/pkg/companion/object"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
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
	if !r.waitForRights(ctx) {
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
		LogConstructor: func(request *reconcile.Request) logr.Logger {
			if request == nil {
				return r.Log
			}
			return r.Log.WithValues("namespace", request.Namespace, "name", request.Name)
		},
		RateLimiter: workqueue.NewTypedItemExponentialFailureRateLimiter[reconcile.Request](100*time.Millisecond, retryMost),
	})
	if err != nil {
		return nil, err
	}
	return c, watch(c, cached)
}

func watch(c controller.Controller, cached cache.Cache) error {
	byName := handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, o client.Object) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetLabels()[object.NameLabel]}}}
	})
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
		{&corev1.PersistentVolumeClaim{}, byName},
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
	s.AddKnownTypes(authorizationv1.SchemeGroupVersion, &authorizationv1.SelfSubjectAccessReview{})
	metav1.AddToGroupVersion(s, authorizationv1.SchemeGroupVersion)
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
	m.Add(authorizationv1.SchemeGroupVersion.WithKind("SelfSubjectAccessReview"), meta.RESTScopeRoot)
	m.Add(storageClassKind, meta.RESTScopeRoot)
	m.Add(object.PodMonitorKind, meta.RESTScopeNamespace)
	return m
}

// cacheOptions keep the cache to what is Metamorph's, by label, and of that to what is asked for: its memory must not grow with
// the cluster.
func cacheOptions(scheme *runtime.Scheme, mapper meta.RESTMapper) cache.Options {
	made := cache.ByObject{Label: labels.SelectorFromSet(labels.Set{object.ManagedByLabel: object.ManagedBy}).Add(exists(object.NameLabel)), Transform: cache.TransformStripManagedFields()}
	named := labels.NewSelector().Add(exists(object.NameLabel))
	// A read of another kind would start a watch of all objects of that kind.
	return cache.Options{Scheme: scheme, Mapper: mapper, ReaderFailOnMissingInformer: true, ByObject: map[client.Object]cache.ByObject{
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

// waitForRights waits until all that is watched may be listed: a cache that is refused one kind would wait for it in silence. It
// is false if the end came first.
func (r *Reconciler) waitForRights(ctx context.Context) bool {
	for {
		missing := r.missingRights(ctx)
		if len(missing) == 0 {
			return ctx.Err() == nil
		}
		for _, p := range missing {
			r.Log.Error(nil, "The companions wait for a right", "problem", p.String())
		}
		r.tellAll(ctx, missing)
		select {
		case <-ctx.Done():
			return false
		case <-time.After(rightsInterval):
		}
	}
}

// watched are the kinds of which all objects with a label of ours are watched, by the name of their resource.
var watched = map[schema.GroupResource]string{
	{Group: appsv1.GroupName, Resource: "statefulsets"}:           "StatefulSet",
	{Group: policyv1.GroupName, Resource: "poddisruptionbudgets"}: "PodDisruptionBudget",
	{Resource: "services"}:               "Service",
	{Resource: "configmaps"}:             "ConfigMap",
	{Resource: "secrets"}:                "Secret",
	{Resource: "pods"}:                   "Pod",
	{Resource: "persistentvolumeclaims"}: "PersistentVolumeClaim",
}

func (r *Reconciler) missingRights(ctx context.Context) []Problem {
	var missing []Problem
	for resource, kind := range watched {
		for _, verb := range []string{"list", "watch"} {
			ask := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
				ResourceAttributes: &authorizationv1.ResourceAttributes{Verb: verb, Group: resource.Group, Resource: resource.Resource},
			}}
			if err := r.client.Create(ctx, ask); err != nil || ask.Status.Allowed {
				continue // who may not even ask learns it when he tries
			}
			missing = append(missing, Problem{
				Code: setting.NotAllowed, Reason: "NotAllowed", Object: kind,
				Found: fmt.Sprintf("cannot be watched: Metamorph cannot %s resource %q in API group %q at the cluster scope", verb, resource.Resource, resource.Group), Remedy: grant,
			})
			break
		}
	}
	slices.SortFunc(missing, func(a, b Problem) int { return strings.Compare(a.Object, b.Object) })
	return missing
}

// tellAll tells of problems that all clusters have.
func (r *Reconciler) tellAll(ctx context.Context, problems []Problem) {
	var sets appsv1.StatefulSetList
	if err := r.live.List(ctx, &sets, client.HasLabels{object.NameLabel}); err != nil {
		return // it is in the log
	}
	for i := range sets.Items {
		set := &sets.Items[i]
		c, ok := object.Read(set.Namespace, set.Name, set.Annotations)
		if ok && set.DeletionTimestamp == nil && !slices.Contains(r.Excluded, set.Namespace) {
			x := &run{Reconciler: r, ctx: ctx, set: set, cluster: c, problems: problems, partial: true}
			x.report()
		}
	}
}
