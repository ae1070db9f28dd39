package companion

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/metamorph-k8s/metamorph/pkg/companion/object"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// Remain is an object that outlives a cluster on purpose.
type Remain struct {
	Kind, Namespace, Name string
	// Kept tells why it is not for Metamorph to delete; "" if it is.
	Kept string

	uid types.UID
	gvk schema.GroupVersionKind
}

// String is its kind and name, as kubectl writes it.
func (r Remain) String() string { return strings.ToLower(r.Kind) + "/" + r.Name }

// Same tells that two lists are of the same objects.
func Same(a, b []Remain) bool {
	return slices.EqualFunc(a, b, func(x, y Remain) bool { return x.uid == y.uid && x.Kept == y.Kept })
}

// NewClient makes a client for [Leftovers] and [Remove].
func NewClient(config *rest.Config) (client.Client, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: scheme, Mapper: newMapper()})
}

// InUseError tells that a cluster is still there.
type InUseError struct{ Namespace, Object, Advice string }

func (e *InUseError) Error() string {
	return fmt.Sprintf("%s in namespace %s still exists; %s", e.Object, e.Namespace, e.Advice)
}

// Leftovers lists what a deleted cluster left on purpose, its own ensemble's too: the claims with the data first, then the
// passwords and the record of nodes, then what was orphaned. The error is an [*InUseError] if the cluster is not deleted.
func Leftovers(ctx context.Context, c client.Reader, namespace, name string) ([]Remain, error) {
	l := leftovers{Reader: c, ctx: ctx, namespace: namespace}
	var err error
	if l.users, err = l.secretUsers(); err != nil {
		return nil, err
	}
	if err := l.of(name); err != nil {
		return nil, err
	}
	if l.ensemble {
		if err := l.of(settings.Ensemble(name)); err != nil {
			return nil, err
		}
	}
	return l.all, nil
}

type leftovers struct {
	client.Reader

	ctx       context.Context //nolint:containedctx // It lives as long as the one call.
	namespace string
	// users are the StatefulSets by the Secret that they take their passwords from.
	users map[string]string
	all   []Remain
	// ensemble tells that the record says that the cluster had one of its own.
	ensemble bool
}

// secretUsers asks the StatefulSets that there are whose passwords they use: several may share a Secret.
func (l *leftovers) secretUsers() (map[string]string, error) {
	var sets appsv1.StatefulSetList
	if err := l.List(l.ctx, &sets, client.InNamespace(l.namespace), client.HasLabels{object.NameLabel}); err != nil {
		return nil, err
	}
	users := map[string]string{}
	for i := range sets.Items {
		if c, ok := object.Read(l.namespace, sets.Items[i].Name, sets.Items[i].Annotations); ok && c.SASLSecretName() != "" {
			users[c.SASLSecretName()] = c.Name
		}
	}
	return users, nil
}

// of collects what one StatefulSet left.
func (l *leftovers) of(name string) error {
	switch there, err := l.get(appsv1.SchemeGroupVersion.WithKind("StatefulSet"), name); {
	case err != nil:
		return err
	case there != nil && there.DeletionTimestamp != nil:
		return &InUseError{l.namespace, "StatefulSet " + name, "it is being deleted: try again in a moment"}
	case there != nil && metav1.GetControllerOf(there) != nil && l.ensemble:
		return &InUseError{l.namespace, "StatefulSet " + name, "it goes with the cluster that it was made for: try again in a moment"}
	case there != nil:
		return &InUseError{l.namespace, "StatefulSet " + name, fmt.Sprintf("delete it first: kubectl delete statefulset -n %s %s", l.namespace, name)}
	}
	pods := &metav1.PartialObjectMetadataList{}
	pods.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PodList"))
	if err := l.List(l.ctx, pods, client.InNamespace(l.namespace), client.MatchingLabels{object.NameLabel: name}); err != nil {
		return err
	}
	if len(pods.Items) > 0 {
		return &InUseError{l.namespace, "Pod " + pods.Items[0].Name, "wait until it is gone; if its StatefulSet was deleted with --cascade=orphan, apply that again, or delete the pods"}
	}
	claims, err := dataClaims(l.ctx, l, l.namespace, name)
	if err != nil {
		return err
	}
	for i := range claims {
		kept := ""
		if claims[i].Labels[object.NameLabel] != name {
			kept = "Metamorph did not make it" // and a name alone decides nothing
		}
		l.add(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), &claims[i], kept)
	}
	for _, o := range []struct {
		gvk  schema.GroupVersionKind
		name string
	}{
		{corev1.SchemeGroupVersion.WithKind("Secret"), name + "-sasl"},
		{corev1.SchemeGroupVersion.WithKind("ConfigMap"), name + "-state"},
		// These are here only if their owner was deleted without them.
		{corev1.SchemeGroupVersion.WithKind("Secret"), name + "-client"},
		{corev1.SchemeGroupVersion.WithKind("Service"), name},
		{corev1.SchemeGroupVersion.WithKind("Service"), settings.Headless(name)},
		{policyv1.SchemeGroupVersion.WithKind("PodDisruptionBudget"), name},
	} {
		there, err := l.get(o.gvk, o.name)
		if err != nil {
			return err
		}
		if there == nil || !object.Ours(there.Labels, name) || metav1.GetControllerOf(there) != nil {
			continue
		}
		kept := ""
		if user := l.users[o.name]; user != "" && o.gvk.Kind == "Secret" {
			kept = "StatefulSet " + user + " uses it"
		}
		if o.gvk.Kind == "ConfigMap" {
			l.ensemble = object.ReadState(&corev1.ConfigMap{ObjectMeta: there.ObjectMeta}).Ensemble
		}
		l.add(o.gvk, there, kept)
	}
	return nil
}

// get reads an object's metadata, nil if there is none.
func (l *leftovers) get(gvk schema.GroupVersionKind, name string) (*metav1.PartialObjectMetadata, error) {
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(gvk)
	err := l.Get(l.ctx, client.ObjectKey{Namespace: l.namespace, Name: name}, m)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // none is no error
	}
	return m, err
}

func (l *leftovers) add(gvk schema.GroupVersionKind, m *metav1.PartialObjectMetadata, kept string) {
	l.all = append(l.all, Remain{Kind: gvk.Kind, Namespace: m.Namespace, Name: m.Name, Kept: kept, uid: m.UID, gvk: gvk})
}

// Remove deletes one, unless another of its name has taken its place.
func Remove(ctx context.Context, c client.Writer, r Remain) error {
	if r.Kept != "" {
		return fmt.Errorf("%s is kept: %s", r, r.Kept)
	}
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(r.gvk)
	m.SetNamespace(r.Namespace)
	m.SetName(r.Name)
	return client.IgnoreNotFound(c.Delete(ctx, m, client.Preconditions{UID: ptr.To(r.uid)}))
}

// dataClaims lists the data claims of a cluster by their names: those that people make beforehand, to bring data along, have no
// labels.
func dataClaims(ctx context.Context, c client.Reader, namespace, name string) ([]metav1.PartialObjectMetadata, error) {
	all := &metav1.PartialObjectMetadataList{}
	all.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaimList"))
	if err := c.List(ctx, all, client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	pattern := regexp.MustCompile(`^` + regexp.QuoteMeta(object.DataClaim+"-"+name) + `-[0-9]+$`)
	return slices.DeleteFunc(all.Items, func(m metav1.PartialObjectMetadata) bool { return !pattern.MatchString(m.Name) }), nil
}
