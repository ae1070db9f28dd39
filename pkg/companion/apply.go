package companion

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

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
	have, err := r.find(want)
	if err == nil && have != nil && want.GetKind() == "StatefulSet" {
		hash = keepScale(have, want, hash)
	} else if n, ok, _ := unstructured.NestedInt64(want.Object, "spec", "replicas"); ok {
		hash += "/" + strconv.FormatInt(n, 10)
	}
	notes := want.GetAnnotations()
	if notes == nil {
		notes = map[string]string{}
	}
	notes[appliedAnnotation] = hash
	want.SetAnnotations(notes)
	switch {
	case err != nil:
		r.fail(what, "read", err)
		return
	case have != nil && !oursLike(have.GetLabels(), want):
		r.problem(taken(what, have.GetKind(), have.GetLabels()))
		return
	case have != nil && r.upToDate(have, want, hash):
		return
	}
	if !r.alive() {
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
	r.Log.V(1).Info("Applied", "kind", want.GetKind(), "namespace", want.GetNamespace(), "name", want.GetName(), "new", have == nil)
}

// keepScale leaves the number of servers to whoever changed it since it was last asked for here. What was asked for stands behind the
// hash.
func keepScale(have, want *unstructured.Unstructured, hash string) string {
	asked, _, _ := unstructured.NestedInt64(want.Object, "spec", "replicas")
	live, ok, _ := unstructured.NestedInt64(have.Object, "spec", "replicas")
	text := strconv.FormatInt(asked, 10)
	if _, before, _ := strings.Cut(have.GetAnnotations()[appliedAnnotation], "/"); ok && before == text {
		_ = unstructured.SetNestedField(want.Object, live, "spec", "replicas")
	}
	return hash + "/" + text
}

// taken is the problem of a name that is somebody else's.
func taken(what, kind string, labels map[string]string) Problem {
	if labels[object.ManagedByLabel] == object.ManagedBy && labels[object.NameLabel] != "" {
		return Problem{
			Code: setting.NameTaken, Reason: "NameTaken", Object: what,
			Found:  "belongs to the StatefulSet " + labels[object.NameLabel] + ", and one with this name is needed beside this StatefulSet, too",
			Remedy: "Create the StatefulSet under another name: what stands beside it is called NAME, NAME-headless, NAME-client, NAME-sasl, NAME-state and NAME-zookeeper",
		}
	}
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

// alive asks the API server, once, whether the StatefulSet is still the one that is cached and not about to go. If it was deleted
// without what it owns, that must not be given back to it: the garbage collector would delete it for having an owner that is gone.
func (r *run) alive() bool {
	if r.checkedAlive || r.dying {
		return !r.dying
	}
	m := &metav1.PartialObjectMetadata{}
	m.SetGroupVersionKind(appsv1.SchemeGroupVersion.WithKind("StatefulSet"))
	err := r.live.Get(r.ctx, client.ObjectKeyFromObject(r.set), m)
	switch {
	case apierrors.IsNotFound(err), err == nil && (m.UID != r.set.UID || m.DeletionTimestamp != nil):
		r.dying = true // the cache will learn it, and then this is looked at again
	case err != nil:
		r.fail("StatefulSet "+r.set.Name, "read", err)
		return false
	}
	r.checkedAlive = true
	return !r.dying
}

func (r *run) owned(o client.Object) bool {
	return slices.ContainsFunc(o.GetOwnerReferences(), func(ref metav1.OwnerReference) bool { return ref.UID == r.set.UID })
}

// find gets an object from the cache, which holds what is labelled as ours, else from the API server. It is nil if there is
// none.
func (r *run) find(want *unstructured.Unstructured) (*unstructured.Unstructured, error) {
	key := client.ObjectKeyFromObject(want)
	if typed := cachedType(want.GetKind()); typed != nil {
		switch err := r.cached.Get(r.ctx, key, typed); {
		case err == nil:
			tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(typed)
			u := &unstructured.Unstructured{Object: tree}
			u.SetGroupVersionKind(want.GroupVersionKind())
			return u, err
		case !apierrors.IsNotFound(err):
			return nil, err
		}
	}
	have := &unstructured.Unstructured{}
	have.SetGroupVersionKind(want.GroupVersionKind())
	err := r.live.Get(r.ctx, key, have)
	if apierrors.IsNotFound(err) {
		return nil, nil //nolint:nilnil // none is no error
	}
	return have, err
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

// within tells whether all that a has is in b, too. Of a list every entry has to be in some entry of the other: what users add, a
// port for instance, is theirs.
func within(a, b any) bool {
	switch x := a.(type) {
	case map[string]any:
		y, ok := b.(map[string]any)
		if !ok {
			return false
		}
		for k, v := range x {
			if w, ok := y[k]; k != "ownerReferences" && (!ok || !within(v, w)) { // that is compared by itself
				return false
			}
		}
		return true
	case []any:
		y, ok := b.([]any)
		return ok && !slices.ContainsFunc(x, func(v any) bool { return !slices.ContainsFunc(y, func(w any) bool { return within(v, w) }) })
	}
	return equality.Semantic.DeepEqual(a, b)
}

// hashOf is a hash of an object but for its owner and its scale.
func hashOf(obj map[string]any) string {
	bare := (&unstructured.Unstructured{Object: obj}).DeepCopy()
	bare.SetOwnerReferences(nil)
	unstructured.RemoveNestedField(bare.Object, "spec", "replicas")
	raw, err := json.Marshal(bare.Object)
	if err != nil {
		panic(err) // rendered by us
	}
	sum := sha256.Sum256(raw)
	return hex.EncodeToString(sum[:8])
}

// remove deletes a companion that is ours, if it is there.
func (r *run) remove(o client.Object) error {
	err := r.client.Delete(r.ctx, o, client.Preconditions{UID: ptr.To(o.GetUID())})
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil // gone, or another one by now
	}
	return err
}
