package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime/debug"
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
	"github.com/metamorph-k8s/metamorph/pkg/review"
)

// run is one audit, or one that began and had to begin again.
type run struct {
	*Auditor

	sum Summary

	// now is the time that expiries are held against, one for all objects.
	now        time.Time
	profiles   map[string]map[string]string
	clusterUID string

	// codes counts the findings for the metrics.
	codes map[series]int
	// hashes are what Events told of the objects that were seen.
	hashes map[types.UID]uint64
	// due are the Events to write, the most important first.
	due []event
}

// series is one of the metric's.
type series struct {
	code, action string
	excepted     bool
}

// surroundings reads what is the same for all objects. It serves for trying fixes only, so what cannot be read is left out.
func (r *run) surroundings(ctx context.Context) {
	ns, err := r.Namespaces.Namespace(ctx, metav1.NamespaceSystem)
	r.clusterUID = ns.UID
	if err == nil && r.Profiles != nil {
		r.profiles, err = r.Profiles.Profiles(ctx, "")
	}
	if err != nil && ctx.Err() == nil {
		r.Log.Error(err, "The audit cannot try all fixes")
	}
}

// otherRole stands in the metrics for a role that cannot be written.
const otherRole = "other"

// object judges one object. Whatever goes wrong with it is no matter of the others.
func (r *run) object(ctx context.Context, raw json.RawMessage) {
	s := &subject{}
	defer func() {
		if p := recover(); p != nil {
			// The value may hold parts of the object.
			r.lost(s, reasonPanic, fmt.Errorf("it panicked (%T); please report this with the stack\n%s", p, debug.Stack()))
		}
	}()
	obj, err := mutate.Decode(raw)
	if err != nil {
		r.lost(s, reasonDecode, err)
		return
	}
	// An item of a list does not say what it is.
	obj["apiVersion"], obj["kind"] = "apps/v1", "StatefulSet"
	s.read(obj)
	if r.excluded(s.namespace) || s.ignored() {
		return
	}
	ns, err := r.Namespaces.Namespace(ctx, s.namespace)
	if err != nil {
		if ctx.Err() == nil {
			r.lost(s, reasonNamespace, fmt.Errorf("reading the namespace: %w", err))
		}
		return
	}
	findings := r.judge(ctx, s, policy.Namespace{Name: s.namespace, Labels: ns.Labels, Annotations: ns.Annotations})
	if ctx.Err() != nil {
		return // what was found may be that there was no time left
	}
	r.count(s, findings)
	r.consider(s, findings)
	if r.Findings != nil {
		r.Findings(s.namespace, s.name, findings)
	}
}

// lost tells of an object that could not be judged.
func (r *run) lost(s *subject, reason string, err error) {
	r.failed(reason)
	r.Log.Error(err, "A StatefulSet could not be audited", "namespace", s.namespace, "name", s.name)
	if old, ok := r.told[s.uid]; ok {
		r.hashes[s.uid] = old // nothing is known to have changed
	}
}

// subject is an object that is audited.
type subject struct {
	obj             map[string]any
	state           mutate.Inspection
	namespace, name string
	uid             types.UID
	version         string
}

// read fills in what an object says of itself.
func (s *subject) read(obj map[string]any) {
	md, _ := obj["metadata"].(map[string]any)
	text := func(key string) string { v, _ := md[key].(string); return v }
	s.obj, s.namespace, s.name = obj, text("namespace"), text("name")
	s.uid, s.version = types.UID(text("uid")), text("resourceVersion")
	delete(md, "managedFields") // large, and no policy sees them
	s.state = mutate.Inspect(obj)
}

// ignored tells an object that is nobody's business any more: Metamorph was told to let go of it, or it is being deleted.
func (s *subject) ignored() bool {
	md, _ := s.obj["metadata"].(map[string]any)
	if md["deletionTimestamp"] != nil {
		return true
	}
	notes, _ := md["annotations"].(map[string]any)
	return notes[setting.Prefix+"managed"] == "false" || mutate.LetGo(s.obj)
}

// role is the object's, as a label of the metrics: what is written on it may be anything.
func (s *subject) role() string {
	switch {
	case s.state.Role == "":
		return policy.Plain
	case slices.Contains(setting.Roles, s.state.Role):
		return string(s.state.Role)
	}
	return otherRole
}

// judge asks the policies.
func (r *run) judge(ctx context.Context, s *subject, ns policy.Namespace) []policy.Finding {
	if s.state.Managed && !s.state.Expanded {
		return []policy.Finding{notExpanded(s)}
	}
	if secret := s.state.Settings["tls-secret"].Text; secret != "" && r.Certificates != nil {
		r.Certificates.Certificate(ctx, s.namespace, secret)
	}
	findings := r.Reviewer.Review(ctx, &review.Request{
		Operation: policy.AuditRun, Object: s.obj, Typed: true, Now: r.now,
		Namespace: ns, Profiles: r.profiles, ClusterUID: r.clusterUID,
	})
	if len(findings) > 0 {
		mask(s.obj, findings)
	}
	return findings
}

// notExpanded is the finding of an annotated object that the mutating webhook has not seen. Policies are about expanded
// ones, so they are not asked.
func notExpanded(s *subject) policy.Finding {
	f := policy.Finding{Code: string(setting.NotExpanded), Name: "not-expanded", Severity: policy.Deny, Action: policy.Deny, Field: setting.Annotation("role")}
	for _, c := range setting.Codes {
		if c.Code == setting.NotExpanded {
			f.Title = c.Title
			f.Message = setting.Quote(string(s.state.Role)) + ": " + c.Title + ". " + c.Help
		}
	}
	return f
}

func (r *run) count(s *subject, findings []policy.Finding) {
	r.sum.Objects++
	r.sum.Roles[s.role()]++
	for i := range findings {
		f := &findings[i]
		r.sum.Findings[f.Action]++
		if f.Exception != nil {
			r.sum.Excepted++
		}
		r.codes[series{f.Code, f.Action.String(), f.Exception != nil}]++
	}
}

func (r *run) failed(reason string) {
	r.sum.Errors++
	r.Metrics.failed(reason)
}
