package companion

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/metamorph-k8s/metamorph/pkg/companion/object"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/settings"
)

// secrets makes and checks the Secrets. They are read from the API server, because only their metadata is cached.
func (r *run) secrets() {
	var password []byte
	ca, ok := r.tlsSecret()
	if name := r.cluster.SASLSecretName(); name != "" {
		s := r.saslSecret(name)
		if s == nil {
			return
		}
		password = s.Data[settings.ClientPassword]
	}
	if ok && r.cluster.ClientSecretName() != "" {
		r.clientSecret(r.cluster.ClientSecret(password, ca))
	}
}

// get reads a Secret, nil if there is none. It is false if that could not be learnt, which is then told.
func (r *run) get(name string) (*corev1.Secret, bool) {
	s := &corev1.Secret{}
	err := r.live.Get(r.ctx, client.ObjectKey{Namespace: r.set.Namespace, Name: name}, s)
	if apierrors.IsNotFound(err) {
		return nil, true
	}
	if err != nil {
		r.fail("Secret "+name, "read", err)
		return nil, false
	}
	return s, true
}

// saslSecret gets the passwords, and makes them if this is the beginning of the cluster. It is nil if there are none that can
// be used.
func (r *run) saslSecret(name string) *corev1.Secret {
	s, ok := r.get(name)
	switch {
	case !ok:
		return nil
	case s != nil:
	case !r.cluster.OwnSASLSecret():
		r.problem(Problem{
			Code: setting.SecretMissing, Reason: "SecretMissing", Object: "Secret " + name,
			Found: "does not exist; metamorph.dev/sasl-secret names it, and the pods wait for its keys " + strings.Join(r.cluster.SecretKeys(), ", "),
			Remedy: "Create it, with 16 or more of A-Z, a-z, 0-9, _ and - under every key. Or leave the annotation out when you create the " +
				"StatefulSet, and passwords are generated",
		})
		return nil
	default:
		if s = r.newSASLSecret(name); s == nil {
			return nil
		}
	}
	missing, malformed := r.cluster.BadKeys(s.Data)
	if len(missing)+len(malformed) > 0 {
		var parts []string
		if len(missing) > 0 {
			parts = append(parts, "has no key "+strings.Join(missing, ", "))
		}
		if len(malformed) > 0 {
			parts = append(parts, "has no usable password under "+strings.Join(malformed, ", "))
		}
		r.problem(Problem{
			Code: setting.SecretKeys, Reason: "SecretKeys", Object: "Secret " + name, Found: strings.Join(parts, " and "),
			Remedy: "Every key needs 16 or more of A-Z, a-z, 0-9, _ and -, without a line break at the end. The pods wait in their init step until then",
		})
		return nil
	}
	r.secretSeen = r.cluster.OwnSASLSecret()
	return s
}

// newSASLSecret generates the passwords of a new cluster. Volumes that have been formatted with other passwords would lock
// everybody out, so where there may be some it tells instead.
func (r *run) newSASLSecret(name string) *corev1.Secret {
	why, err := r.hadSecret()
	if err != nil {
		r.fail("Secret "+name, "made", err)
		return nil
	}
	if why != "" {
		r.problem(Problem{
			Code: setting.SecretLost, Reason: "SecretLost", Object: "Secret " + name,
			Found: "does not exist, but " + why + ": the volumes are formatted with its passwords, which no new ones can replace",
			Remedy: "Restore the Secret from a backup. If the data is to be given up: delete the StatefulSet, run metamorph purge " + r.set.Name +
				" -n " + r.set.Namespace + ", and apply it again. If the volumes are known to be empty: create the Secret yourself, with the keys " +
				strings.Join(r.cluster.SecretKeys(), ", "),
		})
		return nil
	}
	if !r.alive() {
		return nil
	}
	s, err := r.cluster.NewSASLSecret()
	if err == nil {
		err = r.client.Create(r.ctx, s, client.FieldOwner(FieldManager))
	}
	if err != nil {
		// That it exists by now too: then it is read the next time.
		r.fail("Secret "+name, "made", err)
		return nil
	}
	r.created = append(r.created, "Secret "+name)
	return s
}

// hadSecret tells why there must have been a Secret before; "" if there was none, or nothing is left that needed it.
func (r *run) hadSecret() (string, error) {
	if r.set.Status.ReadyReplicas > 0 {
		return "nodes are ready", nil
	}
	claims, err := r.liveClaims()
	if err != nil {
		return "", err
	}
	for _, uid := range r.state.Ready {
		if uid == "" {
			return fmt.Sprintf("nodes whose data is on no claim have been ready (ConfigMap %s)", r.cluster.StateName()), nil
		}
	}
	if r.cluster.OwnEnsemble() {
		// Its servers hold the users, with their passwords.
		more, err := dataClaims(r.ctx, r.live, r.set.Namespace, r.cluster.EnsembleName())
		if err != nil {
			return "", err
		}
		claims = append(claims, more...)
	}
	for i := range claims {
		claim := "PersistentVolumeClaim " + claims[i].Name
		switch {
		case r.state.SecretSeen, len(r.state.Ready) > 0:
			return claim + " is there, and its volume may have been in use (ConfigMap " + r.cluster.StateName() + ")", nil
		// The controller of StatefulSets makes the claims of a new one right after it.
		case claims[i].CreationTimestamp.Before(&r.set.CreationTimestamp):
			return claim + " is older than the StatefulSet", nil
		}
	}
	return "", nil
}

// tlsSecret checks the certificate's Secret and returns the CA. It is false if there is none that can be used.
func (r *run) tlsSecret() ([]byte, bool) {
	name := r.cluster.TLSSecret()
	if name == "" {
		return nil, true
	}
	keys := []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey, "ca.crt"}
	s, ok := r.get(name)
	if !ok {
		return nil, false
	}
	if s == nil {
		r.problem(Problem{
			Code: setting.SecretMissing, Reason: "SecretMissing", Object: "Secret " + name,
			Found:  "does not exist; metamorph.dev/tls-secret names it, and the pods wait for its keys " + strings.Join(keys, ", "),
			Remedy: "Create it, with cert-manager for instance; the certificate needs the names *." + r.cluster.HeadlessName() + "." + r.set.Namespace + ".svc and " + r.set.Name + "." + r.set.Namespace + ".svc",
		})
		return nil, false
	}
	missing := slices.DeleteFunc(keys, func(k string) bool { return len(s.Data[k]) > 0 })
	if len(missing) > 0 {
		r.problem(Problem{
			Code: setting.SecretKeys, Reason: "SecretKeys", Object: "Secret " + name, Found: "has no key " + strings.Join(missing, ", "),
			Remedy: "All of tls.crt, tls.key and ca.crt are needed, as PEM; the key unencrypted, as PKCS#8",
		})
		return nil, false
	}
	return s.Data["ca.crt"], true
}

// clientSecret applies the Secret for applications.
func (r *run) clientSecret(want *corev1.Secret) {
	what := "Secret " + want.Name
	have, ok := r.get(want.Name)
	switch {
	case !ok:
		return
	case have != nil && !object.Ours(have.Labels, r.set.Name):
		r.problem(taken(what, "Secret", have.Labels))
		return
	case have != nil && r.owned(have) && contains(have.Data, want.Data):
		return
	}
	if !r.alive() {
		return
	}
	r.own(want)
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(want)
	if err != nil {
		panic(err) // a type of Kubernetes' own
	}
	options := []client.ApplyOption{client.FieldOwner(FieldManager)}
	if have != nil {
		options = append(options, client.ForceOwnership)
	}
	if err := r.client.Apply(r.ctx, client.ApplyConfigurationFromUnstructured(&unstructured.Unstructured{Object: tree}), options...); err != nil {
		r.fail(what, "applied", err)
		return
	}
	if have == nil {
		r.created = append(r.created, what)
	}
}

// contains tells whether all of some keys have the same value in a Secret's data.
func contains(data, some map[string][]byte) bool {
	for k, v := range some {
		if w, ok := data[k]; !ok || !bytes.Equal(v, w) {
			return false
		}
	}
	return true
}

// liveClaims lists the data claims of the cluster, whoever made them, from the API server.
func (r *run) liveClaims() ([]metav1.PartialObjectMetadata, error) {
	return dataClaims(r.ctx, r.live, r.set.Namespace, r.set.Name)
}
