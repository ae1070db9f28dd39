package companion

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/metamorph-k8s/metamorph/pkg/companion/object"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// FieldManager owns the fields of the companions.
const FieldManager = "metamorph-companion"

// appliedAnnotation holds a hash of what was applied: a field that is not rendered any more is in no comparison.
const appliedAnnotation = setting.Prefix + settings.Applied

// ensure makes one companion what it should be, without a write if it is that already.
func (r *run) ensure(want *unstructured.Unstructured) {
	what := want.GetKind() + " " + want.GetName()
	r.own(want)
	hash := hashOf(want.Object)
	want.SetAnnotations(withKey(want.GetAnnotations(), appliedAnnotation, hash))

	have, cached, err := r.find(want)
	switch {
	case err != nil:
		r.fail(what, "read", err)
		return
	case have != nil && !oursLike(have.GetLabels(), want):
		r.problem(taken(what, have.GetKind()))
		return
	case have != nil && r.upToDate(have, want, hash):
		return
	}
	options := []client.ApplyOption{client.FieldOwner(FieldManager)}
	if have != nil {
		// What is ours stays what it is, whoever changed it. What is not there, somebody else may be making this very moment.
		options = append(options, client.ForceOwnership)
	}
	if err := r.client.Apply(r.ctx, client.ApplyConfigurationFromUnstructured(want), options...); err != nil {
		r.fail(what, "applied", err)
		return
	}
	if have == nil {
		r.created = append(r.created, what)
	}
	r.Log.V(1).Info("Applied", "kind", want.GetKind(), "namespace", want.GetNamespace(), "name", want.GetName(), "new", have == nil, "wasCached", cached)
}

// taken is the problem of a name that is somebody else's.
func taken(what, kind string) Problem {
	p := Problem{
		Code: setting.NameTaken, Reason: "NameTaken", Object: what,
		Found:  "exists and was not made by Metamorph, so it is left alone; one with this name is needed beside the StatefulSet",
		Remedy: "Delete or rename it. Or, if it is meant for this cluster, label it " + object.ManagedByLabel + "=" + object.ManagedBy + " and " + object.NameLabel + "=NAME (the StatefulSet's name), and Metamorph takes it over",
	}
	if kind == "StatefulSet" {
		p.Remedy = "Delete or rename it; or use it: metamorph.dev/zookeeper takes the name of a StatefulSet"
	}
	return p
}

// oursLike tells by the labels that an object is the companion that is wanted. The ensemble has labels of its own.
func oursLike(labels map[string]string, want *unstructured.Unstructured) bool {
	name := want.GetLabels()[object.NameLabel]
	if want.GetKind() == "StatefulSet" {
		name = want.GetName()
	}
	return object.Ours(labels, name)
}

// own makes the StatefulSet the owner. It does not block the StatefulSet's deletion: that needs a right which clusters may
// deny (OwnerReferencesPermissionEnforcement), and nothing here has to go first.
func (r *run) own(o client.Object) {
	o.SetOwnerReferences([]metav1.OwnerReference{{
		APIVersion: appsv1.SchemeGroupVersion.String(), Kind: "StatefulSet", Name: r.set.Name, UID: r.set.UID, Controller: ptr.To(true),
	}})
}

func (r *run) owned(o client.Object) bool {
	return slices.ContainsFunc(o.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.UID == r.set.UID })
}

// find gets an object from the cache, which holds what is labelled as ours, else from the API server. It is nil if there is
// none.
func (r *run) find(want *unstructured.Unstructured) (have *unstructured.Unstructured, cached bool, err error) {
	key := client.ObjectKeyFromObject(want)
	if typed := cachedType(want.GetKind()); typed != nil {
		switch err := r.cached.Get(r.ctx, key, typed); {
		case err == nil:
			tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
			u := &unstructured.Unstructured{Object: tree}
			u.SetGroupVersionKind(want.GroupVersionKind())
			return u, true, err
		case !apierrors.IsNotFound(err):
			return nil, false, err
		}
	}
	have = &unstructured.Unstructured{}
	have.SetGroupVersionKind(want.GroupVersionKind())
	err = r.live.Get(r.ctx, key, have)
	if apierrors.IsNotFound(err) {
		return nil, false, nil
	}
	return have, false, err
}

// cachedType is the type of the kinds that are cached, nil for others.
func cachedType(kind string) client.Object {
	switch kind {
	case "Service":
		return &corev1.Service{}
	case "PodDisruptionBudget":
		return &policyv1.PodDisruptionBudget{}
	case "StatefulSet":
		return &appsv1.StatefulSet{}
	}
	return nil
}

// upToDate tells that there is nothing to write.
func (r *run) upToDate(have, want *unstructured.Unstructured, hash string) bool {
	if have.GetAnnotations()[appliedAnnotation] != hash || !r.owned(have) {
		return false
	}
	// The webhook has made much more of the ensemble, and its scale is its users'.
	return want.GetKind() == "StatefulSet" || within(want.Object, have.Object)
}

// within tells whether all that a has is in b, too. Lists are compared as they are: those of the companions have no defaults
// inside that are not rendered.
func within(a, b map[string]any) bool {
	for k, v := range a {
		w, ok := b[k]
		if !ok {
			return false
		}
		if m, isMap := v.(map[string]any); isMap {
			n, isMap := w.(map[string]any)
			if !isMap || !within(m, n) {
				return false
			}
			continue
		}
		if k == "ownerReferences" {
			continue // compared by itself
		}
		if !equality.Semantic.DeepEqual(v, w) {
			return false
		}
	}
	return true
}

func withKey(m map[string]string, key, value string) map[string]string {
	out := map[string]string{key: value}
	for k, v := range m {
		out[k] = v
	}
	return out
}

// hashOf is a hash of an object but for its owner.
func hashOf(obj map[string]any) string {
	bare := (&unstructured.Unstructured{Object: obj}).DeepCopy()
	bare.SetOwnerReferences(nil)
	raw, err := json.Marshal(bare.Object)
	if err != nil {
		panic(err) // rendered by us
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// remove deletes a companion that is ours, if it is there.
func (r *run) remove(ctx context.Context, o client.Object) error {
	err := r.client.Delete(ctx, o, client.Preconditions{UID: ptr.To(o.GetUID())})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or another one by now
	}
	return err
}
