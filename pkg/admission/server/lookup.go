package server

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/go-logr/logr"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/selection"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// profileLabel makes a ConfigMap a profile; its value is the profile's name.
const profileLabel = setting.Prefix + "profile"

// lookup answers from the cache, and asks the API server for what is not there yet: a Namespace or a profile that was
// applied together with the StatefulSet may be some milliseconds ahead of the cache.
type lookup struct {
	cached, live client.Reader
	objects      dynamic.Interface
	// namespace is Metamorph's own, where the profiles are.
	namespace string
	log       logr.Logger
}

var (
	_ admission.Namespaces   = (*lookup)(nil)
	_ admission.Profiles     = (*lookup)(nil)
	_ admission.StatefulSets = (*lookup)(nil)
)

// Namespace implements [admission.Namespaces].
func (l *lookup) Namespace(ctx context.Context, name string) (admission.Namespace, error) {
	ns := namespaceMetadata()
	err := l.cached.Get(ctx, client.ObjectKey{Name: name}, ns)
	if apierrors.IsNotFound(err) {
		err = l.live.Get(ctx, client.ObjectKey{Name: name}, ns)
	}
	if err != nil {
		return admission.Namespace{}, err
	}
	return admission.Namespace{UID: string(ns.UID), Labels: ns.Labels, Annotations: ns.Annotations}, nil
}

// StatefulSet implements [admission.StatefulSets]. It asks the API server: a change of scale is rare, and a cache of whole
// StatefulSets is large.
func (l *lookup) StatefulSet(ctx context.Context, namespace, name string) (map[string]any, error) {
	set, err := l.objects.Resource(appsv1.SchemeGroupVersion.WithResource("statefulsets")).Namespace(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	return set.Object, nil
}

// Profiles implements [admission.Profiles].
func (l *lookup) Profiles(ctx context.Context, wanted string) (map[string]map[string]string, error) {
	found, err := l.list(ctx, l.cached, client.HasLabels{profileLabel})
	if err != nil || wanted == "" {
		return found, err
	}
	if _, ok := found[wanted]; ok || len(validation.IsValidLabelValue(wanted)) > 0 {
		return found, nil
	}
	more, err := l.list(ctx, l.live, client.MatchingLabels{profileLabel: wanted})
	if err != nil {
		return nil, err
	}
	maps.Copy(found, more)
	return found, nil
}

func (l *lookup) list(ctx context.Context, from client.Reader, which client.ListOption) (map[string]map[string]string, error) {
	var all corev1.ConfigMapList
	if err := from.List(ctx, &all, client.InNamespace(l.namespace), which); err != nil {
		return nil, err
	}
	// Of two with one profile's name the first counts, always the same.
	slices.SortFunc(all.Items, func(a, b corev1.ConfigMap) int { return cmp.Compare(a.Name, b.Name) })
	found := make(map[string]map[string]string, len(all.Items))
	for _, m := range all.Items {
		name := m.Labels[profileLabel]
		if _, ok := found[name]; ok {
			l.log.Info("Two ConfigMaps are one profile; this one is not used", "profile", name, "configMap", m.Name)
			continue
		}
		found[name] = m.Data
	}
	return found, nil
}

func namespaceMetadata() *metav1.PartialObjectMetadata {
	ns := &metav1.PartialObjectMetadata{}
	ns.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("Namespace"))
	return ns
}

// cached are the kinds that the cache holds.
func cached() []client.Object {
	return []client.Object{namespaceMetadata(), &corev1.ConfigMap{}}
}

// cacheOptions keep the cache small: of Namespaces the metadata that is asked for, of ConfigMaps the profiles only.
func cacheOptions(namespace string) cache.Options {
	isProfile, err := labels.NewRequirement(profileLabel, selection.Exists, nil)
	if err != nil {
		panic(err) // of constants
	}
	return cache.Options{
		ReaderFailOnMissingInformer: true, // never start a watch because of a request
		ByObject: map[client.Object]cache.ByObject{
			namespaceMetadata(): {Transform: slim},
			&corev1.ConfigMap{}: {
				Namespaces: map[string]cache.Config{namespace: {LabelSelector: labels.NewSelector().Add(*isProfile)}},
				Transform:  slim,
			},
		},
	}
}

// maxAnnotation bounds the annotations of others that are kept: policies may look at a namespace's, and some tools keep whole
// documents there.
const maxAnnotation = 1024

// slim drops what nobody asks for: who wrote which field, and large annotations of others.
func slim(obj any) (any, error) {
	o, ok := obj.(metav1.Object)
	if !ok {
		return obj, nil // a tombstone
	}
	o.SetManagedFields(nil)
	few := map[string]string{}
	for k, v := range o.GetAnnotations() {
		if strings.HasPrefix(k, setting.Prefix) || len(v) <= maxAnnotation && k != corev1.LastAppliedConfigAnnotation {
			few[k] = v
		}
	}
	o.SetAnnotations(few)
	return obj, nil
}
