// Package admission answers the API server's admission requests. It joins the cluster, which it asks through small
// interfaces, to the core in pkg/mutate, which knows no cluster.
//
// It fails closed: a request that cannot be answered for whatever reason is refused, because a StatefulSet that is
// stored unexpanded, or half expanded, is a cluster with the wrong quorum.
package admission

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	admissionv1 "k8s.io/api/admission/v1"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	logf "sigs.k8s.io/controller-runtime/pkg/log"
	"sigs.k8s.io/controller-runtime/pkg/webhook/admission"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
)

// clusterNamespace is the namespace whose UID stands for the cluster: it exists from the first moment and is never
// deleted.
const clusterNamespace = metav1.NamespaceSystem

// Namespace is what is asked about a namespace.
type Namespace struct {
	UID string
	// Annotations holds at least those of Metamorph's.
	Labels, Annotations map[string]string
}

// Namespaces finds namespaces. One that does not exist is an error.
type Namespaces interface {
	Namespace(ctx context.Context, name string) (Namespace, error)
}

// Profiles finds the ConfigMap profiles.
type Profiles interface {
	// Profiles returns the settings of every known profile by name. Wanted is the name that has to be among them if it
	// exists at all, however new it is; "" if none is wanted in particular.
	Profiles(ctx context.Context, wanted string) (map[string]map[string]string, error)
}

// Mutator expands annotated StatefulSets at admission.
type Mutator struct {
	Namespaces Namespaces
	Profiles   Profiles
	// Version is Metamorph's own; it is recorded on the objects.
	Version string
	// Metrics may be nil.
	Metrics *Metrics
	// Expand is [mutate.Expand] if nil.
	Expand func(mutate.Input) (*mutate.Output, error)

	cluster clusterUID
}

var _ admission.Handler = (*Mutator)(nil)

// Result says in a word how a request was answered. It is a label of the metrics, so there are few.
type Result string

// The results.
const (
	Expanded  Result = "expanded"  // allowed, with a patch
	Unchanged Result = "unchanged" // ours, and there was nothing to change
	Ignored   Result = "ignored"   // allowed untouched, not ours
	Invalid   Result = "invalid"   // refused, and the user is told what to mend
	Judged    Result = "judged"    // allowed by the policies
	Denied    Result = "denied"    // refused by a policy
	Failed    Result = "error"     // refused, because it could not be judged
)

// answer is a response and what is told about it.
type answer struct {
	admission.Response

	result     Result
	role       setting.Role
	operations int
	codes      []string
	// err is why a request failed, for the log.
	err error
	// stack is where it panicked.
	stack string
}

// Handle implements [admission.Handler].
func (m *Mutator) Handle(ctx context.Context, req admission.Request) admission.Response {
	start := time.Now()
	a := m.answer(ctx, req)
	a.AuditAnnotations = map[string]string{"result": string(a.result)}
	if a.role != "" {
		a.AuditAnnotations["role"] = string(a.role)
		a.AuditAnnotations["operations"] = strconv.Itoa(a.operations)
	}
	took := time.Since(start)
	m.Metrics.observe("mutate", req.Operation, a.result, a.role, took)
	a.log(logf.FromContext(ctx), req, took)
	return a.Response
}

func (m *Mutator) answer(ctx context.Context, req admission.Request) (a answer) {
	defer contain(&a)
	switch {
	case req.UID == "":
		return failed(http.StatusBadRequest, errNoRequest)
	case !concerns(req):
		return answer{Response: admission.Allowed(""), result: Ignored}
	case len(req.Object.Raw) == 0:
		return failed(http.StatusBadRequest, errors.New("the request holds no object"))
	}
	in, err := m.input(ctx, req)
	if err == nil {
		// The expansion takes a millisecond and asks nobody, so this is the last moment to notice.
		err = ctx.Err()
	}
	if err != nil {
		return failed(statusOf(err), err)
	}
	expand := m.Expand
	if expand == nil {
		expand = mutate.Expand
	}
	out, err := expand(in)
	var invalid *mutate.Invalid
	switch {
	case errors.As(err, &invalid):
		return refused(req, invalid)
	case err != nil:
		return failed(http.StatusBadRequest, err)
	}
	return accepted(out)
}

var errNoRequest = errors.New("the review holds no request")

// contain makes a failure of a panic.
func contain(a *answer) {
	if r := recover(); r != nil {
		*a = failed(http.StatusInternalServerError, panicError(r))
		a.stack = string(debug.Stack())
	}
}

// concerns tells whether a request is one that the webhook is registered for. Subresources carry other kinds of objects.
func concerns(req admission.Request) bool {
	return req.Resource == metav1.GroupVersionResource(appsv1.SchemeGroupVersion.WithResource("statefulsets")) &&
		req.SubResource == "" && (req.Operation == admissionv1.Create || req.Operation == admissionv1.Update)
}

// input gathers what the expansion depends on.
func (m *Mutator) input(ctx context.Context, req admission.Request) (mutate.Input, error) {
	in := mutate.Input{Object: req.Object.Raw, Typed: true, Version: m.Version}
	if req.Operation == admissionv1.Update {
		if in.OldObject = req.OldObject.Raw; len(in.OldObject) == 0 {
			// As a creation it would be expanded anew, with another cluster id.
			return in, &statusError{http.StatusBadRequest, errors.New("the request for an update holds no old object")}
		}
	}
	ns, err := m.Namespaces.Namespace(ctx, req.Namespace)
	if err != nil {
		return in, fmt.Errorf("reading the namespace %q: %w", req.Namespace, err)
	}
	in.Namespace = mutate.Namespace{Name: req.Namespace, Annotations: ns.Annotations}
	if in.ClusterUID, err = m.cluster.get(ctx, m.Namespaces); err != nil {
		return in, err
	}
	wanted := profileOf(in)
	if in.Profiles, err = m.Profiles.Profiles(ctx, wanted); err != nil {
		return in, fmt.Errorf("reading the profile %q: %w", wanted, err)
	}
	return in, nil
}

// clusterUID is the cluster's UID. It never changes, so it is read once.
type clusterUID struct{ known atomic.Pointer[string] }

func (c *clusterUID) get(ctx context.Context, namespaces Namespaces) (string, error) {
	if uid := c.known.Load(); uid != nil {
		return *uid, nil
	}
	ns, err := namespaces.Namespace(ctx, clusterNamespace)
	if err == nil && ns.UID == "" {
		err = errors.New("it has none")
	}
	if err != nil {
		return "", fmt.Errorf("reading the UID of the namespace %s: %w", clusterNamespace, err)
	}
	c.known.Store(&ns.UID)
	return ns.UID, nil
}

// profileOf returns the profile that has to be known; "" for a built-in one.
func profileOf(in mutate.Input) string {
	var obj struct {
		Metadata struct {
			Annotations map[string]any `json:"annotations"`
		} `json:"metadata"`
	}
	if json.Unmarshal(in.Object, &obj) != nil {
		return "" // for the expansion to refuse
	}
	name := mutate.ProfileOf(map[string]any{"metadata": map[string]any{"annotations": obj.Metadata.Annotations}}, in.Namespace)
	if slices.Contains(mutate.Profiles(), name) {
		return ""
	}
	return name
}

func accepted(out *mutate.Output) answer {
	a := answer{Response: admission.Allowed(""), result: Unchanged, role: out.Role, operations: len(out.Operations)}
	codes := map[string]bool{}
	for _, w := range out.Warnings {
		a.Warnings = append(a.Warnings, w.String())
		codes[string(w.Code)] = true
	}
	a.codes = slices.Sorted(maps.Keys(codes))
	if a.operations == 0 {
		if out.Role == "" {
			a.result = Ignored
		}
		return a
	}
	kind := admissionv1.PatchTypeJSONPatch
	// Not Response.Patches: these operations are of another library, and written with care for the paths.
	a.Patch, a.PatchType, a.result = out.Patch(), &kind, Expanded
	return a
}

// refused makes the answer that kubectl prints as one line for every problem.
func refused(req admission.Request, invalid *mutate.Invalid) answer {
	causes := make([]metav1.StatusCause, len(invalid.Problems))
	codes := map[string]bool{}
	for i, p := range invalid.Problems {
		causes[i] = metav1.StatusCause{Type: metav1.CauseTypeFieldValueInvalid, Field: p.Field, Message: p.Message()}
		codes[string(p.Code)] = true
	}
	a := answer{result: Invalid, codes: slices.Sorted(maps.Keys(codes))}
	a.Result = &metav1.Status{
		Status:  metav1.StatusFailure,
		Code:    http.StatusUnprocessableEntity,
		Reason:  metav1.StatusReasonInvalid,
		Message: invalid.Error(), // for clients that do not look at the causes
		Details: &metav1.StatusDetails{Name: invalid.Name, Group: req.Kind.Group, Kind: req.Kind.Kind, Causes: causes},
	}
	return a
}

// failed refuses a request that could not be judged.
func failed(code int32, err error) answer {
	reason := map[int32]metav1.StatusReason{
		http.StatusBadRequest:          metav1.StatusReasonBadRequest,
		http.StatusNotFound:            metav1.StatusReasonNotFound,
		http.StatusGatewayTimeout:      metav1.StatusReasonTimeout,
		http.StatusInternalServerError: metav1.StatusReasonInternalError,
	}[code]
	a := answer{Response: admission.Errored(code, fmt.Errorf("metamorph could not judge the object, so it is refused: %w", err)), result: Failed, err: err}
	a.Result.Status, a.Result.Reason = metav1.StatusFailure, reason
	return a
}

// statusError is an error that knows its HTTP status.
type statusError struct {
	code int32
	error
}

func statusOf(err error) int32 {
	var s *statusError
	switch {
	case errors.As(err, &s):
		return s.code
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, context.Canceled):
		return http.StatusGatewayTimeout
	}
	return http.StatusInternalServerError
}

// panicError tells of a panic without its value, which may hold parts of the object; the runtime's own do not.
func panicError(r any) error {
	what := fmt.Sprintf("%T", r)
	if e, ok := r.(runtime.Error); ok {
		what = e.Error()
	}
	return fmt.Errorf("it panicked (%s); please report this with the stack in Metamorph's log", what)
}

// log tells of one request. Objects, patches and messages may hold what is not for a log, so codes stand for them.
func (a answer) log(log logr.Logger, req admission.Request, took time.Duration) {
	log = log.WithValues(
		"uid", req.UID, "operation", req.Operation, "namespace", req.Namespace, "name", req.Name,
		"result", a.result, "duration", took.String(),
	)
	if req.DryRun != nil && *req.DryRun {
		log = log.WithValues("dryRun", true)
	}
	if a.role != "" {
		log = log.WithValues("role", a.role, "operations", a.operations)
	}
	if len(a.codes) > 0 {
		log = log.WithValues("codes", a.codes)
	}
	switch a.result {
	case Failed:
		if a.stack != "" {
			log = log.WithValues("stack", a.stack)
		}
		log.Error(a.err, "Could not judge the object")
	case Expanded, Invalid, Denied:
		log.Info("Admission")
	default:
		log.V(1).Info("Admission")
	}
}
