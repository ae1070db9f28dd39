package review

import (
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

// Observed is a kind of object that policies may look at: data.cluster[Kind].
type Observed struct {
	// Kind is its name in data.cluster.
	Kind string
	schema.GroupVersionKind
	// Cluster tells that objects of the kind are in no namespace.
	Cluster bool
	// Doc says what policies see of it.
	Doc string
	// keep are the top-level fields that are kept besides the metadata.
	keep []string
}

// CertificateKind is data.cluster.Certificate: what is public of a Secret with tls.crt.
const CertificateKind = "Certificate"

// Observable lists every kind that policies may look at, which is all that Metamorph may read of a cluster.
var Observable = []Observed{
	{Kind: "Namespace", GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Namespace"}, Cluster: true, Doc: "labels and annotations"},
	{
		Kind: "StatefulSet", GroupVersionKind: schema.GroupVersionKind{Group: "apps", Version: "v1", Kind: "StatefulSet"},
		Doc: "those that Metamorph manages: metadata, role, replicas, settings (key to value) and clusterID",
	},
	{
		Kind: "StorageClass", GroupVersionKind: schema.GroupVersionKind{Group: "storage.k8s.io", Version: "v1", Kind: "StorageClass"}, Cluster: true,
		Doc: "provisioner, reclaimPolicy, allowVolumeExpansion, volumeBindingMode; the default class has the annotation storageclass.kubernetes.io/is-default-class", keep: []string{"provisioner", "reclaimPolicy", "allowVolumeExpansion", "volumeBindingMode"},
	},
	{
		Kind: "ResourceQuota", GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "ResourceQuota"}, Doc: "spec and status, quantities as numbers",
		keep: []string{"spec", "status"},
	},
	{Kind: "LimitRange", GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "LimitRange"}, Doc: "spec", keep: []string{"spec"}},
	{
		Kind: "PodDisruptionBudget", GroupVersionKind: schema.GroupVersionKind{Group: "policy", Version: "v1", Kind: "PodDisruptionBudget"}, Doc: "spec",
		keep: []string{"spec"},
	},
	{
		Kind: "HorizontalPodAutoscaler", GroupVersionKind: schema.GroupVersionKind{Group: "autoscaling", Version: "v2", Kind: "HorizontalPodAutoscaler"},
		Doc: "spec", keep: []string{"spec"},
	},
	{
		Kind: CertificateKind, GroupVersionKind: schema.GroupVersionKind{Version: "v1", Kind: "Secret"},
		Doc: "of Secrets with tls.crt: notBefore, notAfter (seconds since 1970) and dnsNames of the first certificate; nothing secret",
	},
}

// ObservedAs finds how objects of an API version and kind are looked at.
func ObservedAs(apiVersion, kind string) (Observed, bool) {
	for _, o := range Observable {
		if g, v := o.ToAPIVersionAndKind(); g == apiVersion && v == kind {
			return o, true
		}
	}
	return Observed{}, false
}

// Known are the kinds in data.cluster.
func Known() []string {
	out := make([]string, len(Observable))
	for i, o := range Observable {
		out[i] = o.Kind
	}
	return out
}

// maxNote bounds the annotations of others that policies see.
const maxNote = 1024

// Document is what policies see of an object; nil if it is of no interest: a StatefulSet that is not ours, a Secret without
// a certificate. Nothing of the object is changed or kept.
func (o *Observed) Document(obj map[string]any) (map[string]any, error) {
	md, _ := obj["metadata"].(map[string]any)
	name, _ := md["name"].(string)
	if name == "" {
		return nil, errors.New("metadata.name is missing")
	}
	meta := map[string]any{"name": name}
	for _, f := range []string{"namespace", "labels"} {
		if v, ok := md[f]; ok {
			meta[f] = v
		}
	}
	switch o.Kind {
	case "StatefulSet":
		return statefulSet(obj, meta)
	case CertificateKind:
		return certificate(obj, meta)
	}
	if notes, ok := md["annotations"].(map[string]any); ok {
		few := map[string]any{}
		for k, v := range notes {
			if s, ok := v.(string); ok && len(s) <= maxNote && k != "kubectl.kubernetes.io/last-applied-configuration" {
				few[k] = v
			}
		}
		meta["annotations"] = few
	}
	doc := map[string]any{"metadata": meta}
	for _, f := range o.keep {
		if v, ok := obj[f]; ok {
			doc[f] = v
		}
	}
	if o.Kind == "ResourceQuota" {
		doc = policy.Numbers(doc)
	}
	return doc, nil
}

func statefulSet(obj, meta map[string]any) (map[string]any, error) {
	in := mutate.Inspect(obj)
	if !in.Managed || !in.Expanded {
		return nil, nil
	}
	values := map[string]any{}
	for k, v := range in.Settings {
		values[k] = v.Text
	}
	spec, _ := obj["spec"].(map[string]any)
	doc := map[string]any{"metadata": meta, "role": string(in.Role), "settings": values, "replicas": int64(1)}
	if n, ok := spec["replicas"]; ok && n != nil {
		doc["replicas"] = n
	}
	md, _ := obj["metadata"].(map[string]any)
	notes, _ := md["annotations"].(map[string]any)
	if id, ok := notes["metamorph.dev/cluster-id"].(string); ok {
		doc["clusterID"] = id
	}
	return doc, nil
}

// certificate reads tls.crt of a Secret, and never its key.
func certificate(obj, meta map[string]any) (map[string]any, error) {
	var text []byte
	if data, ok := obj["data"].(map[string]any); ok {
		if encoded, ok := data["tls.crt"].(string); ok {
			raw, err := base64.StdEncoding.DecodeString(encoded)
			if err != nil {
				return nil, errors.New("data[tls.crt] is not base64")
			}
			text = raw
		}
	}
	if data, ok := obj["stringData"].(map[string]any); ok {
		if s, ok := data["tls.crt"].(string); ok {
			text = []byte(s)
		}
	}
	if len(text) == 0 {
		return nil, nil
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, errors.New("tls.crt does not begin with a PEM certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("tls.crt: %s", strings.TrimPrefix(err.Error(), "x509: "))
	}
	delete(meta, "labels")
	names := make([]any, len(cert.DNSNames))
	for i, n := range cert.DNSNames {
		names[i] = n
	}
	return map[string]any{"metadata": meta, "notBefore": cert.NotBefore.Unix(), "notAfter": cert.NotAfter.Unix(), "dnsNames": names}, nil
}

// Observe puts an object into an inventory if its kind is one that policies may look at, and tells whether it is.
func Observe(inv *policy.Inventory, obj map[string]any) (bool, error) {
	apiVersion, _ := obj["apiVersion"].(string)
	kind, _ := obj["kind"].(string)
	o, ok := ObservedAs(apiVersion, kind)
	if !ok {
		return false, nil
	}
	doc, err := o.Document(obj)
	if err != nil || doc == nil {
		return false, err
	}
	md, _ := doc["metadata"].(map[string]any)
	name, _ := md["name"].(string)
	namespace, _ := md["namespace"].(string)
	if o.Cluster {
		namespace = ""
	} else if namespace == "" {
		namespace = "default"
	}
	return true, inv.Put(o.Kind, namespace, name, doc)
}
