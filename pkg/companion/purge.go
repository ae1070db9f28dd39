package companion

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
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
	// Foreign tells that somebody else made it: it is not for Metamorph to delete.
	Foreign bool

	uid types.UID
	gvk schema.GroupVersionKind
}

// String is its kind and name, as kubectl writes it.
func (r Remain) String() string { return strings.ToLower(r.Kind) + "/" + r.Name }

// NewClient makes a client for [Leftovers] and [Remove].
func NewClient(config *rest.Config) (client.Client, error) {
	scheme, err := newScheme()
	if err != nil {
		return nil, err
	}
	return client.New(config, client.Options{Scheme: scheme, Mapper: newMapper()})
}

// InUseError tells that a cluster is still there.
type InUseError struct{ Namespace, Name string }

func (e *InUseError) Error() string {
	return fmt.Sprintf("StatefulSet %s in namespace %s still exists; delete it first: kubectl delete statefulset -n %s %s", e.Name, e.Namespace, e.Namespace, e.Name)
}

// Leftovers lists what a deleted cluster left on purpose, its ensemble's too: the claims with the data first, then the Secret and
// the record of nodes. The error is an [*InUseError] if the cluster is not deleted.
func Leftovers(ctx context.Context, c client.Reader, namespace, name string) ([]Remain, error) {
	var all []Remain
	for _, n := range []string{name, settings.Ensemble(name)} {
		set := &metav1.PartialObjectMetadata{}
		set.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("StatefulSet"))
		switch err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: n}, set); {
		case err == nil:
			return nil, &InUseError{namespace, n}
		case !apierrors.IsNotFound(err):
			return nil, err
		}
		claims, err := dataClaims(ctx, c, namespace, n)
		if err != nil {
			return nil, err
		}
		for i := range claims {
			// A claim without our label may be anybody's: names alone decide nothing.
			all = append(all, remain(corev1.SchemeGroupVersion.WithKind("PersistentVolumeClaim"), &claims[i], claims[i].Labels[object.NameLabel] != n))
		}
		kept, err := Remains(ctx, c, namespace, n)
		if err != nil {
			return nil, err
		}
		all = append(all, kept...)
	}
	return all, nil
}

// Remains lists the Secret and the state of a cluster that Metamorph made.
func Remains(ctx context.Context, c client.Reader, namespace, name string) ([]Remain, error) {
	var out []Remain
	for _, o := range []struct {
		kind, name string
	}{{"Secret", name + "-sasl"}, {"ConfigMap", name + "-state"}} {
		m := &metav1.PartialObjectMetadata{}
		gvk := corev1.SchemeGroupVersion.WithKind(o.kind)
		m.SetGroupVersionKind(gvk)
		switch err := c.Get(ctx, client.ObjectKey{Namespace: namespace, Name: o.name}, m); {
		case apierrors.IsNotFound(err):
		case err != nil:
			return nil, err
		case object.Ours(m.Labels, name):
			out = append(out, remain(gvk, m, false))
		}
	}
	return out, nil
}

func remain(gvk schema.GroupVersionKind, m *metav1.PartialObjectMetadata, foreign bool) Remain {
	return Remain{Kind: gvk.Kind, Namespace: m.Namespace, Name: m.Name, Foreign: foreign, uid: m.UID, gvk: gvk}
}

var errForeign = errors.New("is not Metamorph's")

// Remove deletes one, unless another of its name has taken its place.
func Remove(ctx context.Context, c client.Writer, r Remain) error {
	if r.Foreign {
		return fmt.Errorf("%s %w", r, errForeign)
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
