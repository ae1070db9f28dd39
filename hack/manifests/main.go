// Command manifests writes manifests/webhook.yaml: everything that Metamorph needs in a cluster, as plain YAML.
//
// It is written by a program so that the registration and the server cannot disagree: names, ports and paths stand in
// one place.
package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"slices"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/admission"
)

// file is where the manifests are, seen from the repository's root.
const file = "manifests/webhook.yaml"

const header = `# Metamorph's webhook, as plain YAML. Written by ` + "`go run ./hack/manifests`" + `; do not edit.
#
# The certificate comes from the Secret metamorph-webhook-tls (tls.crt, tls.key), for the name
# metamorph-webhook.metamorph-system.svc. The pods are not ready before it exists. Once they are, put the CA that signed
# it into the registrations, the last two objects here; until then annotated StatefulSets are refused, and all others pass:
#
#   kubectl patch mutatingwebhookconfiguration 00-metamorph --type=json \
#     -p "[{\"op\":\"add\",\"path\":\"/webhooks/0/clientConfig/caBundle\",\"value\":\"$(base64 -w0 ca.crt)\"}]"
#   for i in 0 1 2 3; do kubectl patch validatingwebhookconfiguration metamorph --type=json \
#     -p "[{\"op\":\"add\",\"path\":\"/webhooks/$i/clientConfig/caBundle\",\"value\":\"$(base64 -w0 ca.crt)\"}]"; done
#
# With cert-manager: the annotation cert-manager.io/inject-ca-from on both registrations does the same.
#
# To switch Metamorph off at once:
#   kubectl delete mutatingwebhookconfiguration/00-metamorph validatingwebhookconfiguration/metamorph
`

const (
	name        = "metamorph"
	secret      = "metamorph-webhook-tls"
	tlsDir      = "/etc/metamorph/tls"
	webhookPort = 9443
	healthPort  = 8080
	// image is the default one.
	image = "metamorph/metamorph:v0.1.0"
	// nobody is the user and group of distroless images.
	nobody = 65532
	// drainSeconds is more than serve takes to drain, by its default flags.
	drainSeconds = 30
)

func main() {
	img := flag.String("image", image, "image of the Deployment")
	out := flag.String("o", file, "file to write")
	flag.Parse()
	text, err := render(*img)
	if err == nil {
		err = os.WriteFile(*out, text, 0o644) //nolint:gosec // It is for everybody to read.
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// render writes all objects in the order in which they can be applied; the registration is the last, so that nothing
// waits for a webhook that is not there.
func render(image string) ([]byte, error) {
	var out bytes.Buffer
	out.WriteString(header)
	for _, o := range objects(image) {
		text, err := document(o)
		if err != nil {
			return nil, err
		}
		out.WriteString("---\n")
		out.Write(text)
	}
	return out.Bytes(), nil
}

// document writes an object without what only the API server fills in.
func document(o runtime.Object) ([]byte, error) {
	tree, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, err
	}
	delete(tree, "status")
	return yaml.Marshal(prune(tree))
}

// prune drops nulls and empty objects, which the Go types write for what is absent.
func prune(v any) any {
	switch x := v.(type) {
	case map[string]any:
		for k, e := range x {
			if e = prune(e); e == nil {
				delete(x, k)
			}
		}
		if len(x) == 0 {
			return nil
		}
	case []any:
		for _, e := range x {
			prune(e)
		}
	}
	return v
}

func labels() map[string]string { return map[string]string{"app.kubernetes.io/name": name} }

func meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, Namespace: admission.DefaultNamespace, Labels: labels()}
}

func global(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name, Labels: labels()} }

func kind(apiVersion, kind string) metav1.TypeMeta {
	return metav1.TypeMeta{APIVersion: apiVersion, Kind: kind}
}

func objects(image string) []runtime.Object {
	namespace := &corev1.Namespace{TypeMeta: kind("v1", "Namespace"), ObjectMeta: global(admission.DefaultNamespace)}
	namespace.Labels["pod-security.kubernetes.io/enforce"] = "restricted"
	return append(append([]runtime.Object{
		namespace,
		&corev1.ServiceAccount{TypeMeta: kind("v1", "ServiceAccount"), ObjectMeta: meta(name)},
	}, rules()...), &corev1.Service{
		TypeMeta: kind("v1", "Service"), ObjectMeta: meta(admission.ServiceName),
		Spec: corev1.ServiceSpec{Selector: labels(), Ports: []corev1.ServicePort{{Name: "webhook", Port: 443, TargetPort: intstr.FromString("webhook")}}},
	}, deployment(image), registration(), admission.ValidatingRegistration(admission.RegistrationOptions{Labels: labels()}))
}

// rules allow what is read of the cluster, what the leader writes, and nothing else.
func rules() []runtime.Object {
	read := []string{"get", "list", "watch"}
	subject := []rbacv1.Subject{{Kind: "ServiceAccount", Name: name, Namespace: admission.DefaultNamespace}}
	rule := func(group, resource string, verbs ...string) rbacv1.PolicyRule {
		return rbacv1.PolicyRule{APIGroups: []string{group}, Resources: []string{resource}, Verbs: verbs}
	}
	const group = "rbac.authorization.k8s.io/v1"
	return []runtime.Object{
		&rbacv1.ClusterRole{TypeMeta: kind(group, "ClusterRole"), ObjectMeta: global(name), Rules: []rbacv1.PolicyRule{
			rule("", "namespaces", read...),
			// What policies see of the cluster, and what the audit judges.
			rule("apps", "statefulsets", read...),
			// The conditions on a StatefulSet, and the ZooKeeper ensemble beside it.
			rule("apps", "statefulsets", "create", "patch"),
			rule("", "resourcequotas", "list", "watch"),
			rule("", "limitranges", "list", "watch"),
			rule("storage.k8s.io", "storageclasses", read...),
			rule("policy", "poddisruptionbudgets", "get", "list", "watch", "create", "patch", "delete"),
			rule("autoscaling", "horizontalpodautoscalers", "list", "watch"),
			// The companions of the StatefulSets. What is deleted with them is for the garbage collector to delete.
			rule("", "services", "get", "list", "watch", "create", "patch"),
			rule("", "secrets", "get", "list", "watch", "create", "patch"),
			rule("", "configmaps", "get", "list", "watch", "create", "update"),
			rule("monitoring.coreos.com", "podmonitors", "get", "create", "patch"),
			// What keeps nodes from being ready.
			rule("", "pods", "list", "watch"),
			rule("", "persistentvolumeclaims", read...),
			// What the audit and the companions found.
			rule("events.k8s.io", "events", "create", "patch"),
		}},
		&rbacv1.ClusterRoleBinding{
			TypeMeta: kind(group, "ClusterRoleBinding"), ObjectMeta: global(name), Subjects: subject,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: name},
		},
		&rbacv1.Role{TypeMeta: kind(group, "Role"), ObjectMeta: meta(name), Rules: []rbacv1.PolicyRule{
			// Profiles and policies; patch writes the status of policies.
			rule("", "configmaps", append(slices.Clone(read), "patch")...),
			// The leader's election.
			rule("coordination.k8s.io", "leases", "create"),
			{APIGroups: []string{"coordination.k8s.io"}, Resources: []string{"leases"}, Verbs: []string{"get", "update"}, ResourceNames: []string{admission.LeaseName}},
		}},
		&rbacv1.RoleBinding{
			TypeMeta: kind(group, "RoleBinding"), ObjectMeta: meta(name), Subjects: subject,
			RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "Role", Name: name},
		},
	}
}

func deployment(image string) *appsv1.Deployment {
	pod := corev1.PodSpec{
		ServiceAccountName:            name,
		TerminationGracePeriodSeconds: ptr.To[int64](drainSeconds),
		SecurityContext: &corev1.PodSecurityContext{
			RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](nobody), RunAsGroup: ptr.To[int64](nobody), FSGroup: ptr.To[int64](nobody),
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		TopologySpreadConstraints: []corev1.TopologySpreadConstraint{{
			MaxSkew: 1, TopologyKey: corev1.LabelHostname, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: labels()},
		}},
		Containers: []corev1.Container{container(image)},
		// Optional: the server waits for the certificate, and says so.
		Volumes: []corev1.Volume{{Name: "tls", VolumeSource: corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{
			SecretName: secret, Optional: ptr.To(true), DefaultMode: ptr.To[int32](0o440),
		}}}},
	}
	return &appsv1.Deployment{
		TypeMeta: kind("apps/v1", "Deployment"), ObjectMeta: meta(name),
		Spec: appsv1.DeploymentSpec{
			// Two, because annotated StatefulSets cannot be changed without it.
			Replicas: ptr.To[int32](2),
			Selector: &metav1.LabelSelector{MatchLabels: labels()},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels()}, Spec: pod},
		},
	}
}

func container(image string) corev1.Container {
	probe := func(path string) *corev1.Probe {
		return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromString("health")}}, PeriodSeconds: 5}
	}
	return corev1.Container{
		Name: name, Image: image,
		Args: []string{"serve", "--tls-cert-file=" + tlsDir + "/tls.crt", "--tls-key-file=" + tlsDir + "/tls.key"},
		Env: []corev1.EnvVar{{Name: "POD_NAMESPACE", ValueFrom: &corev1.EnvVarSource{
			FieldRef: &corev1.ObjectFieldSelector{FieldPath: "metadata.namespace"},
		}}},
		Ports: []corev1.ContainerPort{
			{Name: "webhook", ContainerPort: webhookPort, Protocol: corev1.ProtocolTCP},
			{Name: "health", ContainerPort: healthPort, Protocol: corev1.ProtocolTCP},
		},
		LivenessProbe: probe(admission.HealthPath), ReadinessProbe: probe(admission.ReadyPath),
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("50m"), corev1.ResourceMemory: resource.MustParse("96Mi")},
			Limits:   corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("256Mi")},
		},
		SecurityContext: &corev1.SecurityContext{
			AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
			Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		},
		VolumeMounts: []corev1.VolumeMount{{Name: "tls", MountPath: tlsDir, ReadOnly: true}},
	}
}

func registration() *admissionregistrationv1.MutatingWebhookConfiguration {
	return admission.Registration(admission.RegistrationOptions{Labels: labels()})
}
