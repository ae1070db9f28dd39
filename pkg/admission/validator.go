package admission

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

// StatefulSets finds stored StatefulSets: a change of scale comes without the object.
type StatefulSets interface {
	StatefulSet(ctx context.Context, namespace, name string) (map[string]any, error)
}

// Certificates looks at the certificate in a Secret before an object that names it is judged.
type Certificates interface {
	Certificate(ctx context.Context, namespace, secret string)
}

// Validator judges StatefulSets by the policies at admission, and changes of their scale.
type Validator struct {
	Namespaces   Namespaces
	Profiles     Profiles
	StatefulSets StatefulSets
	// Certificates may be nil.
	Certificates Certificates
	Reviewer     *review.Reviewer
	// Metrics may be nil.
	Metrics *Metrics
	// Own is Metamorph's namespace, which is never judged, like kube-system.
	Own string
	// Now is [time.Now] if nil.
	Now func() time.Time

	cluster clusterUID
}

var _ admission.Handler = (*Validator)(nil)

// Handle implements [admission.Handler].
func (v *Validator) Handle(ctx context.Context, req admission.Request) admission.Response {
	start := time.Now()
	a := v.answer(ctx, req)
	if a.result == Failed && open(req) {
		a.Response = admission.Allowed("").WithWarnings("metamorph could not judge it, and lets it pass")
	}
	if a.AuditAnnotations == nil {
		a.AuditAnnotations = map[string]string{}
	}
	a.AuditAnnotations["result"] = string(a.result)
	took := time.Since(start)
	webhook := "validate"
	if req.SubResource != "" {
		webhook = "scale"
	}
	v.Metrics.observe(webhook, req.Operation, a.result, a.role, took)
	a.log(logf.FromContext(ctx), req, took)
	return a.Response
}

// open tells the requests that pass if they cannot be judged: deletions, and what Metamorph does not manage. Their webhooks are
// registered so that they pass without an answer; an answer that refuses would be one.
func open(req admission.Request) bool {
	if req.Operation == admissionv1.Delete {
		return true
	}
	if req.SubResource != "" {
		return false
	}
	for _, raw := range [][]byte{req.Object.Raw, req.OldObject.Raw} {
		if len(raw) == 0 {
			continue
		}
		if obj, err := mutate.Decode(raw); err != nil || mutate.Ours(obj) {
			return false
		}
	}
	return len(req.Object.Raw) > 0
}

// cleaners delete what nobody uses any more, and whole namespaces. Whatever they are told, they come back: a refusal would
// leave a namespace half deleted for ever.
var cleaners = []string{
	"system:serviceaccount:kube-system:generic-garbage-collector", "system:serviceaccount:kube-system:namespace-controller",
	"system:kube-controller-manager", // both, where controllers have no accounts of their own
}

func (v *Validator) answer(ctx context.Context, req admission.Request) (a answer) {
	defer contain(&a)
	ignored := answer{Response: admission.Allowed(""), result: Ignored}
	switch {
	case req.UID == "":
		return failed(http.StatusBadRequest, errNoRequest)
	case req.Resource != metav1.GroupVersionResource(appsv1.SchemeGroupVersion.WithResource("statefulsets")),
		req.SubResource != "" && req.SubResource != "scale",
		req.Namespace == metav1.NamespaceSystem, req.Namespace == v.Own,
		req.Operation == admissionv1.Delete && slices.Contains(cleaners, req.UserInfo.Username):
		return ignored
	}
	r, err := v.request(ctx, req)
	if err == nil {
		err = ctx.Err()
	}
	if err != nil {
		return failed(statusOf(err), err)
	}
	if r == nil {
		return ignored
	}
	state := mutate.Inspect(r.Object)
	if state.Managed && !state.Expanded && req.Operation != admissionv1.Delete {
		return refused(req, &mutate.Invalid{Name: r.name, Problems: []setting.Problem{{
			Code: setting.NotExpanded, Field: setting.Annotation("role"), Got: setting.Quote(string(state.Role)),
			Reason:  "the StatefulSet was not expanded, so Metamorph's mutating webhook was not called",
			Allowed: "applying it again once MutatingWebhookConfiguration " + RegistrationName + " is in place",
		}}})
	}
	if v.Certificates != nil {
		if secret := state.Settings["tls-secret"].Text; secret != "" {
			v.Certificates.Certificate(ctx, req.Namespace, secret)
		}
	}
	findings := v.Reviewer.Review(ctx, &r.Request)
	v.Metrics.found(findings)
	return judged(r.name, state.Role, findings)
}

// subject is a request to judge, and the object's name.
type subject struct {
	review.Request

	name string
}

// request gathers what is judged; nil for what is not judged at all.
func (v *Validator) request(ctx context.Context, req admission.Request) (*subject, error) {
	now := time.Now
	if v.Now != nil {
		now = v.Now
	}
	s := &subject{name: req.Name, Request: review.Request{
		Typed: true, DryRun: req.DryRun != nil && *req.DryRun, Now: now(), User: policy.User{Name: req.UserInfo.Username, Groups: req.UserInfo.Groups},
	}}
	var err error
	switch {
	case req.SubResource == "scale":
		if req.Operation != admissionv1.Update {
			return nil, nil
		}
		s.Operation = policy.Scale
		err = v.scale(ctx, req, s)
	case req.Operation == admissionv1.Create:
		s.Operation = policy.Create
		s.Object, err = decoded("object", req.Object.Raw)
	case req.Operation == admissionv1.Update:
		s.Operation = policy.Update
		if s.Object, err = decoded("object", req.Object.Raw); err == nil {
			s.OldObject, err = decoded("old object", req.OldObject.Raw)
		}
	case req.Operation == admissionv1.Delete:
		s.Operation = policy.Delete
		s.Object, err = decoded("old object", req.OldObject.Raw)
		s.OldObject = s.Object
	default:
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if mutate.LetGo(s.Object) || (deleting(s.Object) && s.Operation != policy.Delete) {
		return nil, nil
	}
	ns, err := v.Namespaces.Namespace(ctx, req.Namespace)
	if err != nil {
		return nil, fmt.Errorf("reading the namespace %q: %w", req.Namespace, err)
	}
	s.Namespace = policy.Namespace{Name: req.Namespace, Labels: ns.Labels, Annotations: ns.Annotations}
	if !mutate.Managed(s.Object) {
		return s, nil
	}
	// For trying fixes. Without them some cannot be offered, which is no reason to refuse anything.
	if s.Operation != policy.Delete {
		s.ClusterUID, _ = v.cluster.get(ctx, v.Namespaces)
		s.Profiles, _ = v.Profiles.Profiles(ctx, "")
	}
	return s, nil
}

// scale makes of a Scale what the StatefulSet would be.
func (v *Validator) scale(ctx context.Context, req admission.Request, s *subject) error {
	scale, err := decoded("object", req.Object.Raw)
	if err != nil {
		return err
	}
	if s.OldObject, err = v.StatefulSets.StatefulSet(ctx, req.Namespace, req.Name); err != nil {
		err = fmt.Errorf("reading the StatefulSet: %w", err)
		if apierrors.IsNotFound(err) {
			return &statusError{http.StatusNotFound, err}
		}
		return err
	}
	wanted, _ := scale["spec"].(map[string]any)
	n, ok := wanted["replicas"].(int64)
	if !ok {
		n = 0 // the type of a Scale leaves a zero out
	}
	s.Object = mutate.Rescaled(s.OldObject, n)
	return nil
}

func decoded(what string, raw []byte) (map[string]any, error) {
	if len(raw) == 0 {
		return nil, &statusError{http.StatusBadRequest, errors.New("the request holds no " + what)}
	}
	obj, err := mutate.Decode(raw)
	if err != nil {
		return nil, &statusError{http.StatusBadRequest, fmt.Errorf("the %s is not JSON that can be read: %w", what, err)}
	}
	return obj, nil
}

func deleting(obj map[string]any) bool {
	md, _ := obj["metadata"].(map[string]any)
	return md["deletionTimestamp"] != nil
}

// judged makes the answer of findings: all that denies are causes, all that warns warnings.
func judged(name string, role setting.Role, findings []policy.Finding) answer {
	codes := map[string]bool{}
	audit := make([]string, 0, len(findings))
	var causes []metav1.StatusCause
	var lines, warnings []string
	denied := 0
	for i := range findings {
		f := &findings[i]
		codes[f.Code] = true
		audit = append(audit, f.Action.String()+"="+f.Code)
		switch field, text := review.Field(f), review.Sentence(f); f.Action {
		case policy.Deny:
			denied++
			if denied <= maxCauses {
				causes = append(causes, metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: field, Message: text})
				lines = append(lines, "* "+strings.TrimPrefix(field+": "+text, ": "))
			}
		case policy.Warn:
			warnings = append(warnings, strings.TrimPrefix(field+": "+text, ": "))
		}
	}
	a := answer{Response: admission.Allowed(""), result: Judged, role: role, codes: slices.Sorted(maps.Keys(codes))}
	if denied > maxCauses {
		lines = append(lines, fmt.Sprintf("and %d more; metamorph check lists them all", denied-maxCauses))
	}
	if denied > 0 {
		a = answer{result: Denied, role: role, codes: a.codes}
		a.Result = &metav1.Status{
			Status: metav1.StatusFailure, Code: http.StatusUnprocessableEntity, Reason: metav1.StatusReasonInvalid,
			Message: fmt.Sprintf("The StatefulSet %q is invalid:\n%s", name, strings.Join(lines, "\n")),
			Details: &metav1.StatusDetails{Name: name, Group: appsv1.GroupName, Kind: "StatefulSet", Causes: causes},
		}
	}
	a.Warnings = fitting(warnings)
	if len(audit) > 0 {
		// Sorted and short: an audit log keeps it for every request.
		slices.Sort(audit)
		a.AuditAnnotations = map[string]string{"policies": strings.Join(slices.Compact(audit), ",")}
	}
	return a
}

// maxCauses is how many denials an answer lists.
const maxCauses = 50

// Kubernetes cuts a warning at 256 runes, and drops what is over 4,096 in all (k8s.io/apiserver, pkg/admission).
const (
	maxWarning  = 256
	maxWarnings = 4096
)

// fitting cuts warnings to what Kubernetes shows, so that nothing important is cut by it: the first ones count, and the
// code at the end of each is kept.
func fitting(all []string) []string {
	var out []string
	left := maxWarnings
	for i, w := range all {
		w = shorten(w, maxWarning)
		more := ""
		if n := len(all) - i - 1; n > 0 {
			more = fmt.Sprintf("and %d more warnings; metamorph check lists them all", n+1)
		}
		if n := utf8.RuneCountInString(w); n+len(more) > left {
			return append(out, more)
		}
		left -= utf8.RuneCountInString(w)
		out = append(out, w)
	}
	return out
}

// shorten cuts the middle: the end is the code.
func shorten(text string, most int) string {
	r := []rune(text)
	if len(r) <= most {
		return text
	}
	end := strings.LastIndex(text, " (")
	if end < 0 || len(text)-end > 40 {
		return string(r[:most-1]) + "…"
	}
	code := []rune(text[end:])
	return string(r[:most-1-len(code)]) + "…" + string(code)
}
