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
	// ValidatingRegistrationName is the name of the policies' registration. Validating webhooks are called all at once.
	ValidatingRegistrationName = "metamorph"
	// DefaultNamespace is where Metamorph is installed unless someone says otherwise.
	DefaultNamespace = "metamorph-system"
	// LeaseName is the Lease, in Metamorph's namespace, that decides which replica audits and reports.
	LeaseName = "metamorph"
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

// plainCondition selects what condition does not.
var plainCondition = "!(" + condition + ") && (oldObject == null || !has(oldObject.metadata.deletionTimestamp))"

// oursCondition selects deletions of what is ours; then only the old object is there. Those that clean up are not asked about.
var oursCondition = strings.ReplaceAll(
	`((has(oldObject.metadata.annotations) && oldObject.metadata.annotations.exists(k, k.startsWith('PREFIX'))) || `+
		`(has(oldObject.metadata.labels) && oldObject.metadata.labels.exists(k, k.startsWith('PREFIX'))))`, "PREFIX", setting.Prefix,
) + ` && !(request.userInfo.username in ['` + strings.Join(cleaners, `', '`) + `'])`

// scaleCondition selects changes of scale of what is ours: a Scale has no annotations, but its selector has our labels.
var scaleCondition = "oldObject != null && has(oldObject.status) && has(oldObject.status.selector) && oldObject.status.selector.contains('" + setting.Prefix + "')"

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
	return &admissionregistrationv1.MutatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "MutatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: RegistrationName, Labels: o.Labels},
		Webhooks: []admissionregistrationv1.MutatingWebhook{{
			Name:                    MutatorName,
			ClientConfig:            o.client(MutatePath),
			Rules:                   statefulSets("statefulsets", admissionregistrationv1.Create, admissionregistrationv1.Update),
			NamespaceSelector:       o.namespaces(),
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

// ValidatingRegistration makes the object that registers the policies. What is ours fails closed; deletions do not, because
// a dead webhook would leave namespaces half deleted for ever, and what is not ours does not either.
func ValidatingRegistration(o RegistrationOptions) *admissionregistrationv1.ValidatingWebhookConfiguration {
	hook := func(name, path, expression string, failure admissionregistrationv1.FailurePolicyType, rules []admissionregistrationv1.RuleWithOperations) admissionregistrationv1.ValidatingWebhook {
		return admissionregistrationv1.ValidatingWebhook{
			Name:                    name,
			ClientConfig:            o.client(path),
			Rules:                   rules,
			NamespaceSelector:       o.namespaces(),
			MatchConditions:         []admissionregistrationv1.MatchCondition{{Name: "metamorph", Expression: expression}},
			MatchPolicy:             ptr.To(admissionregistrationv1.Equivalent),
			FailurePolicy:           ptr.To(failure),
			SideEffects:             ptr.To(admissionregistrationv1.SideEffectClassNone),
			TimeoutSeconds:          ptr.To[int32](timeoutSeconds),
			AdmissionReviewVersions: []string{"v1"},
		}
	}
	const create, update, remove = admissionregistrationv1.Create, admissionregistrationv1.Update, admissionregistrationv1.Delete
	return &admissionregistrationv1.ValidatingWebhookConfiguration{
		TypeMeta:   metav1.TypeMeta{APIVersion: admissionregistrationv1.SchemeGroupVersion.String(), Kind: "ValidatingWebhookConfiguration"},
		ObjectMeta: metav1.ObjectMeta{Name: ValidatingRegistrationName, Labels: o.Labels},
		Webhooks: []admissionregistrationv1.ValidatingWebhook{
			hook("validate.metamorph.dev", ValidatePath, condition, admissionregistrationv1.Fail, statefulSets("statefulsets", create, update)),
			hook("scale.metamorph.dev", ValidateScalePath, scaleCondition, admissionregistrationv1.Fail, statefulSets("statefulsets/scale", update)),
			hook("delete.metamorph.dev", ValidatePath, oursCondition, admissionregistrationv1.Ignore, statefulSets("statefulsets", remove)),
			hook("plain.metamorph.dev", ValidatePath, plainCondition, admissionregistrationv1.Ignore, statefulSets("statefulsets", create, update)),
		},
	}
}

// client is how the API server finds the webhook.
func (o RegistrationOptions) client(path string) admissionregistrationv1.WebhookClientConfig {
	c := admissionregistrationv1.WebhookClientConfig{CABundle: o.CABundle}
	if o.URL != "" {
		c.URL = ptr.To(strings.TrimSuffix(o.URL, "/") + path)
	} else {
		c.Service = &admissionregistrationv1.ServiceReference{Namespace: o.own(), Name: ServiceName, Path: ptr.To(path), Port: ptr.To[int32](443)}
	}
	return c
}

func (o RegistrationOptions) own() string {
	if o.Namespace == "" {
		return DefaultNamespace
	}
	return o.Namespace
}

// namespaces are all but the cluster's and Metamorph's own.
func (o RegistrationOptions) namespaces() *metav1.LabelSelector {
	return &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{
		Key: corev1.LabelMetadataName, Operator: metav1.LabelSelectorOpNotIn, Values: []string{metav1.NamespaceSystem, o.own()},
	}}}
}

func statefulSets(resource string, operations ...admissionregistrationv1.OperationType) []admissionregistrationv1.RuleWithOperations {
	return []admissionregistrationv1.RuleWithOperations{{
		Operations: operations,
		Rule: admissionregistrationv1.Rule{
			APIGroups:   []string{appsv1.GroupName},
			APIVersions: []string{appsv1.SchemeGroupVersion.Version},
			Resources:   []string{resource},
			Scope:       ptr.To(admissionregistrationv1.NamespacedScope),
		},
	}}
}
