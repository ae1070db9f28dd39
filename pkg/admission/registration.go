package admission

import (
	"strings"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

const (
	// RegistrationName sorts before what anybody would call a webhook, because webhooks are called in the order of their
	// configurations' names: another one that appends to the containers of an object without any fails before ours has
	// made them.
	RegistrationName = "00-metamorph"
	// MutatorName is the webhook's name, as refusals and audit annotations show it.
	MutatorName = "mutate.metamorph.dev"
	// DefaultNamespace is where Metamorph is installed unless someone says otherwise.
	DefaultNamespace = "metamorph-system"
	// ServiceName is the Service before the webhook, in Metamorph's namespace.
	ServiceName = "metamorph-webhook"
	// timeoutSeconds is how long the API server waits. An answer takes milliseconds; a cold cache a little longer.
	timeoutSeconds = 5
)

// condition selects the objects that are Metamorph's, on the API server: all others pass even if the webhook is dead.
// The old object is looked at too, so that the removal of the annotations is seen. An object that is being deleted is
// left alone, or its finalizers could never be taken off without us.
var condition = strings.ReplaceAll(
	`(oldObject == null || !has(oldObject.metadata.deletionTimestamp)) && `+
		`[object, oldObject].exists(o, o != null && (`+
		`(has(o.metadata.annotations) && o.metadata.annotations.exists(k, k.startsWith('PREFIX'))) || `+
		`(has(o.metadata.labels) && o.metadata.labels.exists(k, k.startsWith('PREFIX')))))`,
	"PREFIX", setting.Prefix,
)

// RegistrationOptions say where the API server finds the webhook.
type RegistrationOptions struct {
	// Namespace is Metamorph's own; "" means [DefaultNamespace]. It is exempt, so that Metamorph can always be mended.
	Namespace string
	// URL of the server, without the path, where it is not behind the Service [ServiceName].
	URL string
	// CABundle is the PEM bundle that the server's certificate is verified with. Empty: somebody else fills it in.
	CABundle []byte
	// Labels of the configuration object.
	Labels map[string]string
}

// Registration makes the object that registers the webhook.
func Registration(o RegistrationOptions) *admissionregistrationv1.MutatingWebhookConfiguration {
	if o.Namespace == "" {
		o.Namespace = DefaultNamespace
	}
	client := admissionregistrationv1.WebhookClientConfig{CABundle: o.CABundle}
	if o.URL != "" {
		client.URL = ptr.To(strings.TrimSuffix(o.URL, "/") + MutatePath)
	} else {
		client.Service = &admissionregistrationv1.ServiceReference{Namespace: o.Namespace, Name: ServiceName, Path: ptr.To(MutatePath), Port: ptr.To[int32](443)}
	}
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: RegistrationName, Labels: o.Labels},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:         MutatorName,
			ClientConfig: client,
			Rules: []admissionregistrationv1.RuleWithOperations{{
				Operations: []admissionregistrationv1.OperationType{admissionregistrationv1.Create, admissionregistrationv1.Update},
				Rule: admissionregistrationv1.Rule{
					APIGroups:   []string{appsv1.GroupName},
					APIVersions: []string{appsv1.SchemeGroupVersion.Version},
					Resources:   []string{"statefulsets"},
					Scope:       ptr.To(admissionregistrationv1.NamespacedScope),
				},
			}},
			NamespaceSelector: &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
				Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{metav1.NamespaceSystem, o.Namespace},
			}}},
			MatchConditions:         []admissionregistrationv1.MatchCondition{{Name: "metamorph", Expression: condition}},
			MatchPolicy:             ptr.To(admissionregistrationv1.Equivalent),
			FailurePolicy:           ptr.To(admissionregistrationv1.Fail),
			SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          ptr.To[int32](timeoutSeconds),
			ReinvocationPolicy:      ptr.To(admissionregistrationv1.IfNeededReinvocationPolicy),
			AdmissionReviewVersions: []string{"v1"},
		}},
	}
}
