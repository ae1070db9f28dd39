// Package review judges StatefulSets by policies: it joins what pkg/mutate knows of an object to the policies in pkg/policy,
// which know no annotations, and makes sure of the fixes that they propose. The webhook, the audit and the command line
// share it, so what passes offline passes in the cluster.
package review

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/metamorph-k8s/metamorph/pkg/mutate"
	"github.com/metamorph-k8s/metamorph/pkg/mutate/setting"
	"github.com/metamorph-k8s/metamorph/pkg/policy"
)

// Request is an object, and what is being done with it.
type Request struct {
	Operation policy.Operation
	// Object is the object as it would be stored: expanded, if it is ours. Of a deletion it is the stored one.
	Object map[string]any
	// OldObject is the stored one, for an update or a change of scale.
	OldObject map[string]any
	// Namespace is the object's.
	Namespace policy.Namespace
	// Profiles are the ConfigMap profiles by name, for trying fixes.
	Profiles map[string]map[string]string
	// ClusterUID is the UID of the namespace kube-system, for trying fixes.
	ClusterUID string
	User       policy.User
	DryRun     bool
	// Typed says that an API server sent the objects, and so has filled its defaults in already.
	Typed bool
	// Now is the time that expiries are held against.
	Now time.Time
}

// Reviewer judges requests. It is safe for concurrent use.
type Reviewer struct {
	Engine *policy.Engine
	// Version is Metamorph's own, for trying fixes.
	Version string
	// Options of the evaluation; the inventory is the engine's where it is nil.
	Options policy.Options
}

// Review returns what the policies find, what denies first. Fixes that are left in the findings were tried: with them the
// object is expanded without a refusal, and the policy is content.
func (r *Reviewer) Review(ctx context.Context, req *Request) []policy.Finding {
	options := r.Options
	if options.Inventory == nil {
		options.Inventory = r.Engine.Inventory
	}
	ctx, cancel := within(ctx, judging)
	defer cancel()
	// One set from the beginning to the end, whatever is loaded meanwhile.
	set := r.Engine.Set()
	view, state := viewOf(req)
	findings := set.Evaluate(ctx, view, options)
	// What failed once is not asked again, and nobody is told of it twice.
	options.Failed, options.Skip = nil, map[string]bool{}
	for i := range findings {
		if findings[i].Error {
			options.Skip[findings[i].Policy] = true
		}
	}
	ratchet(ctx, set, req, findings, options)
	trying, cancel := within(ctx, trials)
	defer cancel()
	t := &trial{reviewer: r, set: set, req: req, options: options, state: state, before: slices.Clone(findings)}
	t.fixes(trying, findings)
	for i := range findings {
		provenance(&findings[i], state.Settings)
	}
	policy.Sort(findings)
	return findings
}

// What a request may spend of the time that it has left: on judging the object, in all, and of that on trying fixes. The rest
// is for the answer to reach whoever asked.
const (
	judging = 0.7
	trials  = 0.5
)

// within is a context that ends when a share of the time that is left is over.
func within(ctx context.Context, share float64) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(share*float64(time.Until(end))))
}

func viewOf(req *Request) (*policy.View, mutate.Inspection) {
	now := mutate.Inspect(req.Object)
	defaulted := mutate.Defaulted
	if req.Typed {
		defaulted = func(obj map[string]any) map[string]any { return obj }
	}
	in := policy.Input{
		Operation: req.Operation, Role: string(now.Role), Profile: now.Settings["profile"].Text,
		Object: defaulted(req.Object), Source: now.Source, Settings: settings(now.Settings), Config: now.Config,
		Namespace: req.Namespace, User: req.User, DryRun: req.DryRun, Now: req.Now,
	}
	if req.OldObject != nil {
		was := mutate.Inspect(req.OldObject)
		in.OldObject, in.OldSettings, in.OldConfig = defaulted(req.OldObject), settings(was.Settings), was.Config
	}
	return policy.NewView(in), now
}

func settings(values map[string]setting.Value) map[string]policy.Setting {
	out := make(map[string]policy.Setting, len(values))
	for k, v := range values {
		out[k] = policy.Setting{Value: v.Text, From: v.Origin.String(), Of: v.Of}
	}
	return out
}

// ratchet turns findings that deny, and that the stored object has as well, into warnings: a new policy must not keep anybody
// from labelling, mending or deleting what is there. Only if something denies is the stored object looked at, and as one that
// nothing happens to. What a policy finds in who sends the request, and a failure to find out, are the request's own.
func ratchet(ctx context.Context, set *policy.Set, req *Request, findings []policy.Finding, options policy.Options) {
	if req.OldObject == nil || req.Operation == policy.Delete || policy.Worst(findings) < policy.Deny {
		return
	}
	old := *req
	old.Object = req.OldObject
	view, _ := viewOf(&old)
	before := set.Evaluate(ctx, view, options)
	for i := range findings {
		f := &findings[i]
		if f.Action == policy.Deny && !f.Error && !f.Personal && slices.ContainsFunc(before, func(g policy.Finding) bool { return g.Action == policy.Deny && f.Same(&g) }) {
			f.Action, f.Known = policy.Warn, true
		}
	}
}

// provenance tells where the setting that a finding wants changed was written, if that is not the object.
func provenance(f *policy.Finding, values map[string]setting.Value) {
	v, ok := values[f.Annotation]
	if !ok || f.Annotation == "" {
		return
	}
	switch v.Origin.Layer {
	case setting.Namespace, setting.Profile, setting.Spec:
		if f.Annotation == "config" { // many lines, which may hold anything
			f.Message += fmt.Sprintf("; config is from %s", v.Origin)
			return
		}
		f.Message += fmt.Sprintf("; %s is %s (from %s)", f.Annotation, setting.Quote(v.Text), v.Origin)
	}
}

// Field is the place of a finding, as Kubernetes writes it: the annotation to change where there is one.
func Field(f *policy.Finding) string {
	switch {
	case f.Annotation == "replicas":
		return "spec.replicas"
	case f.Annotation != "":
		return setting.Annotation(f.Annotation)
	}
	return f.Field
}

// Sentence is a finding in one sentence, without the field.
func Sentence(f *policy.Finding) string {
	var b strings.Builder
	b.WriteString(f.Message)
	if f.Annotation != "" && f.Field != "" {
		b.WriteString("; see " + f.Field)
	}
	switch {
	case f.Fix != "" && f.Annotation == "replicas":
		b.WriteString("; this passes: spec.replicas: " + f.Fix)
	case f.Fix != "":
		b.WriteString("; this passes: " + setting.Prefix + f.Annotation + ": " + quoted(f.Fix))
	}
	if f.Exception != nil {
		b.WriteString("; excepted until " + f.Exception.Expires.Format(time.DateOnly) + ": " + f.Exception.Reason)
	}
	if f.Known {
		b.WriteString("; it was so before")
	}
	return b.String() + " (" + f.Code + ")"
}

// quoted is a value as it can be pasted into YAML.
func quoted(v string) string {
	var read any
	if yaml.Unmarshal([]byte(v), &read) == nil && read == v && !strings.ContainsAny(v, "\n") {
		return v
	}
	return fmt.Sprintf("%q", v)
}

// maxTrials bounds what is spent on fixes for one request: each trial is an expansion and an evaluation.
const maxTrials = 8

// trial tries fixes.
type trial struct {
	reviewer *Reviewer
	set      *policy.Set
	req      *Request
	options  policy.Options
	state    mutate.Inspection
	before   []policy.Finding
}

// fixes drops the fixes that do not work: all of them together are tried first, then, if that fails, each on its own.
func (t *trial) fixes(ctx context.Context, findings []policy.Finding) {
	var with []int
	all := map[string]string{}
	clash := false
	for i := range findings {
		f := &findings[i]
		if f.Annotation == "" || f.Fix == "" || f.Exception != nil {
			f.Fix = ""
			continue
		}
		if v, ok := all[f.Annotation]; ok && v != f.Fix {
			clash = true
		}
		all[f.Annotation] = f.Fix
		with = append(with, i)
	}
	if len(with) == 0 || (!clash && t.passes(ctx, all, with)) {
		return
	}
	for n, i := range with {
		f := &findings[i]
		if n >= maxTrials || (len(all) == 1 && !clash) || !t.passes(ctx, map[string]string{f.Annotation: f.Fix}, []int{i}) {
			f.Fix = ""
		}
	}
}

// passes tells whether the object with other annotations is expanded, the findings at these indexes are gone, and no other
// finding denies that was not there before.
func (t *trial) passes(ctx context.Context, annotations map[string]string, gone []int) bool {
	if !t.state.Expanded || t.req.Operation == policy.Delete {
		return false
	}
	revised := t.revised
	if t.req.Operation == policy.Scale {
		revised = t.rescaled
	}
	next, ok := revised(annotations)
	if !ok {
		return false
	}
	view, _ := viewOf(next)
	after := t.set.Evaluate(ctx, view, t.options)
	if ctx.Err() != nil {
		return false // and so not all were asked
	}
	ratchet(ctx, t.set, next, after, t.options)
	for _, g := range after {
		if g.Error || slices.ContainsFunc(gone, func(i int) bool { return alike(&t.before[i], &g) }) {
			return false
		}
		if g.Action == policy.Deny && !slices.ContainsFunc(t.before, func(f policy.Finding) bool { return f.Action == policy.Deny && alike(&f, &g) }) {
			return false
		}
	}
	return true
}

// alike tells whether two findings are about the same thing, whatever their values are.
func alike(f, g *policy.Finding) bool {
	return f.Code == g.Code && f.Field == g.Field && f.Annotation == g.Annotation
}

// revised is the request as it would be if its user had written other annotations.
func (t *trial) revised(annotations map[string]string) (*Request, bool) {
	text := annotations["replicas"]
	annotations = maps.Clone(annotations)
	delete(annotations, "replicas")
	source := mutate.Annotated(t.state.Source, annotations)
	if replicas, err := strconv.ParseInt(text, 10, 32); err == nil {
		source = mutate.Rescaled(source, replicas)
	}
	in := mutate.Input{
		Object: mutate.Encode(t.req.Object), Version: t.reviewer.Version, Profiles: t.req.Profiles, ClusterUID: t.req.ClusterUID,
		Namespace: mutate.Namespace{Name: t.req.Namespace.Name, Annotations: t.req.Namespace.Annotations},
	}
	switch old := t.req.OldObject; {
	case old != nil && mutate.Inspect(old).Expanded:
		in.OldObject = mutate.Encode(old)
	case t.req.Operation == policy.AuditRun:
		// Whoever mends it changes what is stored.
		in.OldObject = in.Object
	}
	out, err := mutate.Revise(in, source)
	if err != nil {
		return nil, false
	}
	next := *t.req
	next.Object, next.Typed = out.Object, false
	if next.Object["kind"] == nil {
		next.Object["kind"] = "StatefulSet"
	}
	return &next, true
}

// rescaled is a change of scale to another number of nodes; no other fix can be given there.
func (t *trial) rescaled(annotations map[string]string) (*Request, bool) {
	n, err := strconv.ParseInt(annotations["replicas"], 10, 32)
	if err != nil || len(annotations) > 1 {
		return nil, false
	}
	next := *t.req
	next.Object = mutate.Rescaled(t.req.Object, n)
	return &next, true
}
